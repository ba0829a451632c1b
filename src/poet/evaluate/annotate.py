"""Annotate a method's outputs against the reference outputs, whoever judges.

The rows come out in alpaca-eval's ``annotations.json`` format, and every prompt is annotated or
the program fails.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from poet.evaluate import judges
from poet.evaluate.annotators import KINDS
from poet.evaluate.annotators.kind import Judge
from poet.evaluate.benchmarks import arena
from poet.evaluate.prompts import read_rows, require
from poet.files import UserError, cli, load_record, write_json
from poet.provenance import version


def match(prompts: Sequence[dict], generations: Sequence[dict], source) -> list[dict]:
    """The generation of each prompt, in the prompts' order.

    Raises:
        UserError: a prompt has no generation or several, or a generation belongs to no prompt.
    """
    require(generations, ("index", "instruction", "output", "generator"), source)
    by_index = {}
    for row in generations:
        if row["index"] in by_index:
            raise UserError(f"{source}: two generations for prompt {row['index']}; expected one")
        by_index[row["index"]] = row
    matched = []
    for prompt in prompts:
        made = by_index.pop(prompt["index"], None)
        if made is None or made["instruction"] != prompt["instruction"]:
            found = "nothing" if made is None else f"{made['instruction'][:60]!r}"
            raise UserError(
                f"{source}: no generation for prompt {prompt['index']}\n"
                f"  expected: {prompt['instruction'][:60]!r}\n  found: {found}\n"
                "Generate again from the same prompts."
            )
        matched.append(made)
    if by_index:
        raise UserError(f"{source}: generations for unknown prompts {sorted(by_index)[:5]}")
    return matched


def pair_up(prompts: Sequence[dict], generations: Sequence[dict], source, reference_name: str):
    """Rows to annotate, in the prompts' order: the reference as output 1, the generation as 2.

    Raises:
        UserError: as :func:`match`.
    """
    return [
        {
            "instruction": prompt["instruction"],
            "output_1": prompt["reference"],
            "generator_1": reference_name,
            "output_2": made["output"],
            "generator_2": made["generator"],
            "index": prompt["index"],
            "dataset": prompt["dataset"],
        }
        for prompt, made in zip(prompts, match(prompts, generations, source), strict=True)
    ]


def annotate(name: str, judge: Judge, prompts: Sequence[dict], methods: Sequence[list[dict]]):
    """Annotate several lists of pairs (one per seed) at once.

    Args:
        name: what stands in the annotations' column ``annotator``.
        prompts: rows of prompts.jsonl.
        methods: per seed, what :func:`pair_up` returns.

    Returns:
        Per seed the same rows in the same order, with annotator, preference and what else the judge
        tells.

    Raises:
        UserError: a preference is no number in [1, 2].
    """
    rows = [row for pairs in methods for row in pairs]
    annotated = []
    for row, found in zip(rows, judge(prompts, rows), strict=True):
        preference = found["preference"]
        if not isinstance(preference, int | float) or not 1 <= preference <= 2:
            raise UserError(
                f"prompt {row['index']}: the annotator's preference is {preference};"
                f" expected a number in [1, 2] for {row['instruction'][:60]!r}"
            )
        annotated.append({**row, "annotator": name, **found, "preference": float(preference)})
    remaining = iter(annotated)
    return [[next(remaining) for _ in pairs] for pairs in methods]


def usage(name: str, kind: str, methods: Sequence[list[dict]]) -> dict:
    """What the annotations of a method took: calls, tokens, their price (in US dollars), the code.

    An answer that serves several rows counts once. Answers that were refused are in no row.
    """
    rows = [row for annotated in methods for row in annotated]
    answers = [answer for row in rows for answer in row.get("answers", [row])]
    asked = {answer["request"]: answer for answer in answers if answer.get("request")}
    counted = list(asked.values()) or [a for a in answers if a.get("prompt_tokens") is not None]
    return {
        "annotator": name,
        "kind": kind,
        "judge_models": sorted({a["judge_model"] for a in answers if a.get("judge_model")}),
        "n_annotations": len(rows),
        "n_calls": len(asked),
        "prompt_tokens": sum(answer["prompt_tokens"] for answer in counted),
        "completion_tokens": sum(answer["completion_tokens"] for answer in counted),
        "price": sum(answer["preference_price_per_example"] for answer in counted),
        "provenance": version(),
    }


@contextmanager
def open_judge(name: str, settings: dict, model: str | None) -> Iterator[Judge]:
    """The judge of pairs that a section ``annotators.NAME`` of the configuration describes.

    Args:
        model: folder of its model, where the section names none (the reward model trained on the
            setting's pairs) or one of the hub's.

    Raises:
        UserError: see the judges' modules.
    """
    kind = KINDS[settings["kind"]]
    if kind.judge:
        yield kind.judge(name, settings, model)
        return
    configs = judges.load_judge(settings["judge"])
    reading = arena if arena.is_arena(configs) else judges
    with kind.ask(name, settings, configs, model) as ask:

        def judge(prompts: Sequence[dict], rows: Sequence[dict]) -> list[dict]:
            return reading.annotate_pairs(rows, configs, ask)

        yield judge


def check_judge(configs: dict[str, dict]) -> None:
    """Check that a language model judge is asked about pairs.

    Raises:
        UserError: its prompt template has no places for both outputs.
    """
    places = arena.PLACES if arena.is_arena(configs) else judges.PAIR
    judges.check_places(configs, places, "annotators")


def start_torch(kind: str, record: dict) -> None:
    """Say how many threads torch may use, where a judge of this kind loads a model."""
    if KINDS[kind].loads:
        import torch

        torch.set_num_threads(record["torch_threads"])


def parse(parser: argparse.ArgumentParser, argv=None) -> argparse.Namespace:
    """What every judging program is told: annotator, prompts, answers per seed, where to write."""
    parser.add_argument("--record", required=True, help="resolved record: inline JSON or a file")
    parser.add_argument("--annotator", required=True, help="its name in the configuration")
    parser.add_argument("--settings", required=True, help="its section there, as JSON")
    parser.add_argument("--model", help="folder of its model, where it is not the section's `name`")
    parser.add_argument("--prompts", required=True, help="prompts.jsonl")
    parser.add_argument("--generations", required=True, nargs="+", help="one file per seed")
    parser.add_argument("--output", required=True, nargs="+", help="one file per seed")
    parser.add_argument("--usage", required=True, help="JSON file: calls, tokens and price")
    args = parser.parse_args(argv)
    if len(args.generations) != len(args.output):
        parser.error(f"{len(args.generations)} generations, but {len(args.output)} outputs")
    return args


def write(methods: Sequence[list[dict]], kind: str, args: argparse.Namespace) -> None:
    """Write what a judging program found, a file per seed, and what it took."""
    for rows, path in zip(methods, args.output, strict=True):
        write_json(rows, path)
    write_json(usage(args.annotator, kind, methods), args.usage)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args = parse(parser, argv)
    record, settings = load_record(args.record), json.loads(args.settings)
    prompts = read_rows(args.prompts)
    require(prompts, ("index", "dataset", "instruction", "prompt", "reference"), args.prompts)
    methods = [
        pair_up(prompts, read_rows(path), path, record["reference_name"])
        for path in args.generations
    ]
    start_torch(settings["kind"], record)
    with open_judge(args.annotator, settings, args.model) as judge:
        annotated = annotate(args.annotator, judge, prompts, methods)
    write(annotated, settings["kind"], args)


if __name__ == "__main__":
    cli(main)
