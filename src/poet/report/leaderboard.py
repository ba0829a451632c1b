"""Take models of the public AlpacaEval 2 leaderboard into a results folder, to be tabulated.

The folder is ``results`` of a clone of the alpaca_eval repository, with answers in
``MODEL/model_outputs.json`` and GPT-4-turbo's verdicts in
``MODEL/weighted_alpaca_eval_gpt4_turbo/annotations.json``. Every model is compared with the first.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from poet.evaluate.alpaca import align
from poet.evaluate.prompts import read_gamed, read_prompts, read_rows
from poet.files import UserError, cli, write_json, write_jsonl, write_text
from poet.report import archive

JUDGE, SETTING = "weighted_alpaca_eval_gpt4_turbo", "alpacaeval2"
FILE = f"{JUDGE}/annotations.json"


def lay_out(board: Path, models: Sequence[str], gamed: str | None, folder: Path) -> None:
    """Write the annotations of ``models``, the prompts and ``gamed`` as in ``results/``.

    The benchmark's order is that of the reference's answers, which stand in ``board`` as well.

    Raises:
        UserError: ``board`` has no annotations of a model, or not of every prompt; see
            :func:`poet.evaluate.alpaca.align` and :func:`poet.evaluate.prompts.read_gamed`.
    """
    there = sorted(path.parts[-3] for path in board.glob(f"*/{FILE}"))
    if unknown := [model for model in models if model not in there]:
        raise UserError(
            f"{board}: no {FILE} of {', '.join(unknown)}.\n"
            f"  there are those of: {', '.join(there) or 'no model'}\n"
            "FROM is the folder `results` of a clone of the alpaca_eval repository."
        )
    rows = {model: read_rows(board / model / FILE) for model in models}
    reference = board / str(rows[models[0]][0]["generator_1"]) / "model_outputs.json"
    order = read_prompts(reference, ("instruction", "output"))
    instructions = [row["instruction"] for row in order]
    for model, of_model in rows.items():
        aligned = align(of_model, instructions, board / model / FILE)
        write_json(aligned, folder / "annotations" / SETTING / JUDGE / model / "seed-1.json")
    data = folder / "data" / SETTING
    prompts = [
        {"index": i, "instruction": row["instruction"], "reference": row["output"]}
        for i, row in enumerate(order)
    ]
    write_jsonl(prompts, data / "prompts.jsonl")
    if gamed:
        read_gamed(gamed, len(order))
        shutil.copyfile(gamed, data / "gamed.csv")


def configuration(models: Sequence[str], gamed: bool) -> dict:
    """The configuration of such a table. Nothing is trained or sampled: what a run needs for that
    has the least value that is valid, and no meaning.
    """
    data = {
        "kind": "hub", "dataset": "tatsu-lab/alpaca_eval", "revision": "unpinned",
        "splits": {"train": "eval"},
    }  # fmt: skip
    if gamed:  # alpaca-eval's own length control
        data["evaluation"] = {"kind": "alpacaeval2"}
    sizes = {"global_batch_size": 1, "per_device_batch_size": 1}
    lengths = {"max_length": 2, "max_prompt_length": 1}
    setting = {
        "data": data,
        "model": {"name": "published"},
        "preference": {**sizes, **lengths, "dpo": {"beta": 1.0, "learning_rate": 1.0}},
        "generation": {"temperature": 0, "max_new_tokens": 1},
        "annotators": [JUDGE],
    }
    return {
        "seeds": [1],
        "settings": {SETTING: setting},
        "methods": {model: {"objective": "dpo"} for model in models},
        "grid": {SETTING: [*models]},
        "gains": {model: models[0] for model in models[1:]},
        "annotators": {JUDGE: {"kind": "replay", "files": [f"{m}/{FILE}" for m in models]}},
    }


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="board", required=True, help="alpaca_eval/results")
    parser.add_argument("--models", nargs="+", required=True, help="the first is the baseline")
    parser.add_argument("--gamed", help="df_gamed.csv; without it, a length control of our own")
    parser.add_argument("--into", required=True, help="results folder")
    parser.add_argument("--write-config", required=True, help="the table's configuration, YAML")
    args = parser.parse_args(argv)
    models, results = [*dict.fromkeys(args.models)], Path(args.into)
    gamed = args.gamed and str(Path(args.gamed).expanduser())
    config = yaml.safe_dump(configuration(models, bool(gamed)), sort_keys=False)
    target = Path(args.write_config)
    mine = target.exists() and target.read_text(encoding="utf-8") == config
    if (results / "scores").exists() and not mine:
        raise UserError(f"{results} holds the results of another table. Move it away first.")
    with TemporaryDirectory() as folder:
        lay_out(Path(args.board).expanduser(), models, gamed, Path(folder))
        archive.take(Path(folder), results)
    write_text(config, target)
    print(f"{len(models)} models taken from {args.board}")


if __name__ == "__main__":
    cli(main)
