"""What an evaluation cannot use, said before any model is trained for it.

``tasks`` builds lm-eval's tasks, and looks at the template that they are asked in; ``questions``
holds the prompts of a further benchmark against the start model; ``judge`` holds what a judging
model will read against that, and the prompts against annotations that are replayed. Each writes
what it looked at, of which no result is made.
"""

from __future__ import annotations

import argparse
import json
import os

from poet.data.encoding import encode_prompts
from poet.data.model_limits import Need, add_needs, check_prompts
from poet.data.templates import Chat
from poet.evaluate.annotators import KINDS
from poet.evaluate.prompts import read_rows
from poet.files import cli, load_record, write_json
from poet.hub.folders import as_hub, loadable


def tasks(record: dict, datasets: dict[str, str], model: str | None) -> dict:
    """Build a setting's lm-eval tasks, as :mod:`poet.evaluate.downstream` will.

    Args:
        record: resolved, with ``downstream``.
        datasets: hub id -> folder.
        model: folder of the start model, if the tasks are asked in its chat template.

    Raises:
        UserError: a task is unknown, or its data set is not named or cannot be read; or as
            :func:`poet.evaluate.downstream.chat_arguments`.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from lm_eval.tasks import TaskManager

    from poet.evaluate.downstream import build, chat_arguments

    if model is not None:
        from transformers import AutoTokenizer

        chat_arguments(AutoTokenizer.from_pretrained(model), record)
    settings = record["downstream"]
    with as_hub(datasets), loadable("downstream.tasks", "tasks whose data sets are in `datasets`"):
        build(settings, TaskManager())
    return {"tasks": settings["tasks"]}


def questions(record: dict, rows: list[dict], model: str, needs: list[Need]) -> dict:
    """Check the prompts of a benchmark against the start model of a setting.

    Raises:
        UserError: as :func:`poet.data.model_limits.check_prompts`.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = encode_prompts(Chat.of(tokenizer, record), rows)
    check_prompts(model, tokenizer, needs, ids)
    return {"prompts": len(ids), "longest": max(map(len, ids))}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_tasks, of_questions, of_judge = map(kinds.add_parser, ("tasks", "questions", "judge"))
    of_tasks.add_argument(
        "--dataset", nargs=2, action="append", default=[], metavar=("NAME", "FOLDER")
    )
    for each in (of_tasks, of_questions):
        each.add_argument("--record", required=True, help="resolved record: JSON or its file")
    of_tasks.add_argument("--model", help="the start model's folder, for its chat template")
    for each in (of_questions, of_judge):
        each.add_argument("--prompts", required=True, help="prompts.jsonl")
        add_needs(each)
    of_questions.add_argument("--model", required=True, help="the start model's folder")
    of_judge.add_argument("--annotator", required=True, help="its name in the configuration")
    of_judge.add_argument("--settings", required=True, help="its section there, as JSON")
    of_judge.add_argument("--model", help="folder of its model, where it is not `name`")
    for each in (of_tasks, of_questions, of_judge):
        each.add_argument("--output", required=True, help="JSON: what was looked at")
    args = parser.parse_args(argv)
    if args.kind == "tasks":
        found = tasks(load_record(args.record), dict(args.dataset), args.model)
    elif args.kind == "questions":
        rows = read_rows(args.prompts)
        found = questions(load_record(args.record), rows, args.model, args.needs)
    else:
        settings, rows = json.loads(args.settings), read_rows(args.prompts)
        look = KINDS[settings["kind"]].beforehand
        found = look(args.annotator, settings, args.model, rows, args.needs)
    write_json(found, args.output)


if __name__ == "__main__":
    cli(main)
