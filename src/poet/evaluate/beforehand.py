"""What an evaluation cannot use, said before any model is trained for it.

``tasks`` builds lm-eval's tasks; ``questions`` holds the prompts of a further benchmark against the
start model; ``judge`` holds what a judging model will read against that, and the prompts against
annotations that are replayed. Each writes what it looked at, of which no result is made.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from poet.data.encoding import encode_prompts
from poet.data.model_limits import Need, add_needs, check_positions, check_prompts
from poet.data.templates import Chat
from poet.evaluate import judges, replay
from poet.evaluate.prompts import read_rows
from poet.files import cli, load_record, write_json
from poet.hub.folders import as_hub, loadable
from poet.local_inputs import check_judging_model


def tasks(settings: dict, datasets: dict[str, str]) -> dict:
    """Build a setting's lm-eval tasks, as :mod:`poet.evaluate.downstream` will.

    Args:
        settings: its section ``downstream``.
        datasets: hub id -> folder.

    Raises:
        UserError: a task is unknown, or its data set is not named or cannot be read.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from lm_eval.tasks import TaskManager

    from poet.evaluate.downstream import build

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


def judge(
    name: str, settings: dict, model: str | None, rows: Sequence[dict], needs: list[Need]
) -> dict:
    """Check a reward model's files, a local judge's tokenizer and positions, or a replay's rows.

    Args:
        name, settings: the section ``annotators.NAME``; model: folder of the hub's.
        rows: of prompts.jsonl. The judge reads each with the reference answer, if there is one.
        needs: how many tokens the answer that is judged may have.

    Raises:
        UserError: as :func:`poet.evaluate.replay.check`,
            :func:`poet.local_inputs.check_judging_model`, as
            :class:`poet.evaluate.local_judge.LocalJudge`, and as
            :func:`poet.data.model_limits.check_positions`.
    """
    if settings["kind"] == "replay":
        replay.check(settings["files"], settings["allow_model_change"], rows)
        return {"files": settings["files"]}
    where, folder = f"annotators.{name}.name is {settings['name']}", model or settings["name"]
    check_judging_model(Path(folder), settings["kind"], where)
    found = {"model": settings["name"]}
    if settings["kind"] == "local_judge":
        import pandas as pd

        from poet.evaluate.local_judge import LocalJudge

        configs = judges.load_judge(settings["judge"])
        local = LocalJudge(name, folder, judges.labels(configs), model_name=found["model"])
        table = pd.DataFrame({"instruction": [row["instruction"] for row in rows]})
        table["output"] = table["output_2"] = ""
        table["output_1"] = [row.get("reference") or "" for row in rows]
        (config,) = configs.values()
        asked = judges.make_requests(config["prompt_template"], table)
        found["longest"] = max(map(len, local.encode([each["messages"] for each in asked])))
        where = f"annotators.{name}, whose prompt holds the judge's, a question and a reference"
        check_positions(local.positions, needs, found["model"], where, found["longest"])
    return found


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_tasks, of_questions, of_judge = map(kinds.add_parser, ("tasks", "questions", "judge"))
    of_tasks.add_argument(
        "--dataset", nargs=2, action="append", default=[], metavar=("NAME", "FOLDER")
    )
    of_questions.add_argument("--record", required=True, help="resolved record: JSON or its file")
    of_tasks.add_argument("--settings", required=True, help="the section `downstream`, as JSON")
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
        found = tasks(json.loads(args.settings), dict(args.dataset))
    elif args.kind == "questions":
        rows = read_rows(args.prompts)
        found = questions(load_record(args.record), rows, args.model, args.needs)
    else:
        settings, rows = json.loads(args.settings), read_rows(args.prompts)
        found = judge(args.annotator, settings, args.model, rows, args.needs)
    write_json(found, args.output)


if __name__ == "__main__":
    cli(main)
