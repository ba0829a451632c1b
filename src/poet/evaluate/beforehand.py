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
from poet.evaluate.prompts import conversation, read_prompts
from poet.files import cli, load_record, write_json
from poet.hub.folders import as_hub, loadable

# What is looked at -> the flags that it needs
NEEDED = {
    "tasks": ("record",),
    "questions": ("record", "prompts", "model"),
    "judge": ("annotator", "settings", "prompts"),
}


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
    """Check the prompts of a benchmark, all their turns, against the start model of a setting.

    Raises:
        UserError: as :func:`poet.data.model_limits.check_prompts`.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    if (n := len(rows[0].get("turns", []))) > 1:
        rows = [conversation(row, [{"output": "Yes."}] * (n - 1)) for row in rows]
        needs = [(f"{n} turns of {keys}", n * tokens, after) for keys, tokens, after in needs]
    ids = encode_prompts(Chat.of(tokenizer, record), rows)
    check_prompts(model, tokenizer, needs, ids)
    return {"prompts": len(ids), "longest": max(map(len, ids))}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=NEEDED)
    parser.add_argument("--record", help="resolved record: JSON or its file")
    parser.add_argument("--dataset", nargs=2, action="append", default=[], help="hub id, folder")
    parser.add_argument("--model", help="folder of the start model, or of a judge's")
    parser.add_argument("--prompts", help="prompts.jsonl, for questions and judges")
    add_needs(parser)
    parser.add_argument("--annotator", help="its name in the configuration")
    parser.add_argument("--settings", type=json.loads, help="its section there, as JSON")
    parser.add_argument("--output", required=True, help="JSON: what was looked at")
    args = parser.parse_args(argv)
    if lacking := [flag for flag in NEEDED[args.what] if not getattr(args, flag)]:
        parser.error(f"{args.what} needs --{' and --'.join(lacking)}")
    if args.what == "tasks":
        found = tasks(load_record(args.record), dict(args.dataset), args.model)
    elif args.what == "questions":
        rows = read_prompts(args.prompts, ("prompt",))
        found = questions(load_record(args.record), rows, args.model, args.needs)
    else:
        rows = read_prompts(args.prompts, ("instruction",))
        look = KINDS[args.settings["kind"]].beforehand
        found = look(args.annotator, args.settings, args.model, rows, args.needs)
    write_json(found, args.output)


if __name__ == "__main__":
    cli(main)
