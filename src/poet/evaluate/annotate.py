"""Annotate a method's answers, whoever judges: against the reference's, or for a benchmark.

Pairs come out in alpaca-eval's ``annotations.json`` format; what is asked and read for a further
benchmark, and what a verdict says, is its record (:mod:`poet.evaluate.benchmarks`). Every prompt is
annotated or the program fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from poet.evaluate import judges
from poet.evaluate.annotators import KINDS
from poet.evaluate.annotators.kind import Judge
from poet.evaluate.benchmarks import BENCHMARKS, arena
from poet.evaluate.benchmarks.record import PROGRAM, Benchmark
from poet.evaluate.prompts import read_prompts, read_rows, require
from poet.files import UserError, cli, record_parser, write_json
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


def rows_to_judge(
    prompts: Sequence[dict], generations: Sequence[dict], source, benchmark: Benchmark | None, name
) -> list[dict]:
    """What is judged, in the prompts' order: what a benchmark's ``judge`` takes, or else pairs.

    ``name``: of who wrote the references. Errors as :func:`match`.
    """
    if not benchmark or benchmark.baseline:
        rows = pair_up(prompts, generations, source, name)
    else:
        matched = match(prompts, generations, source)
        rows = [{"output": made["output"], "generator": made["generator"]} for made in matched]
        if benchmark.turns > 1:
            require(matched, ("later",), source)
            for row, made in zip(rows, matched, strict=True):
                row["outputs"] = [said["output"] for said in (made, *made["later"])]
    asked = benchmark.asked if benchmark else ()
    return [
        {column: prompt[column] for column in asked} | row
        for row, prompt in zip(rows, prompts, strict=True)
    ]


def annotate(name: str, judge: Judge, prompts: Sequence[dict], methods: Sequence[list[dict]]):
    """Annotate several lists of rows (one per seed) at once.

    Args:
        name: what stands in the annotations' column ``annotator``.
        prompts: rows of prompts.jsonl.
        methods: per seed, what :func:`pair_up` or :func:`rows_to_judge` returns.

    Returns:
        Per seed the same rows in the same order, with annotator and what the judge tells.

    Raises:
        UserError: a preference is no number in [1, 2].
    """
    rows = [row for of_seed in methods for row in of_seed]
    annotated = []
    for row, found in zip(rows, judge(prompts, rows), strict=True):
        annotated.append({**row, "annotator": name, **found})
        if "preference" in found:
            preference = found["preference"]
            if not isinstance(preference, int | float) or not 1 <= preference <= 2:
                raise UserError(
                    f"prompt {row['index']}: the annotator's preference is {preference};"
                    f" expected a number in [1, 2] for {row['instruction'][:60]!r}"
                )
            annotated[-1]["preference"] = float(preference)
    remaining = iter(annotated)
    return [[next(remaining) for _ in of_seed] for of_seed in methods]


def usage(name: str, kind: str, methods: Sequence[list[dict]]) -> dict:
    """What the annotations of a method took: calls, tokens, their price (in US dollars), the code.

    An answer that serves several rows counts once. Answers that were refused are in no row.
    """
    answers = judges.answers_of(methods)
    asked = {answer["request"]: answer for answer in answers if answer.get("request")}
    counted = list(asked.values()) or [a for a in answers if a.get("prompt_tokens") is not None]
    return {
        "annotator": name,
        "kind": kind,
        "judge_models": judges.judge_models(answers),
        "n_annotations": sum(map(len, methods)),
        "n_calls": len(asked),
        "prompt_tokens": sum(answer["prompt_tokens"] for answer in counted),
        "completion_tokens": sum(answer["completion_tokens"] for answer in counted),
        "price": sum(answer["preference_price_per_example"] for answer in counted),
        "provenance": version(),
    }


@contextmanager
def open_judge(
    name: str, settings: dict, model: str | None, benchmark: Benchmark | None = None
) -> Iterator[Judge]:
    """The judge that a section ``annotators.NAME`` of the configuration describes.

    Args:
        model: folder of its model, where the section names none (the reward model trained on the
            setting's pairs) or one of the hub's.
        benchmark: whose answers are judged, by nobody where the section is empty; by default pairs.

    Raises:
        UserError: see the judges' modules; or another kind judges the benchmark, or another judge.
    """
    expected = (benchmark.annotators or (PROGRAM,)) if benchmark else KINDS
    if (found := settings.get("kind", PROGRAM)) not in expected:
        raise UserError(f"{name} is of kind {found}; expected {' or '.join(expected)}")
    if found == PROGRAM:
        yield lambda _, rows: benchmark.judge(rows)
    elif KINDS[found].judge:
        yield KINDS[found].judge(name, settings, model)
    else:
        configs = judges.load_judge(settings["judge"])
        (benchmark.check if benchmark else check_judge)(configs)
        pairs = arena if arena.is_arena(configs) else judges
        read = benchmark.judge if benchmark else pairs.annotate_pairs
        with KINDS[found].ask(name, settings, configs, model) as ask:
            yield lambda _, rows: read(rows, configs, ask)


def check_judge(configs: dict[str, dict]) -> None:
    """Check that a language model judge is asked about pairs.

    Raises:
        UserError: its prompt template has no places for both outputs.
    """
    places = arena.PLACES if arena.is_arena(configs) else judges.PAIR
    judges.check_places(configs, places, "annotators")


def main(argv=None) -> None:
    parser = record_parser(__doc__, "one file per seed", nargs="+")
    parser.add_argument("--benchmark", choices=BENCHMARKS, help="default: the pairs of AlpacaEval")
    parser.add_argument("--annotator", required=True, help="its name in the configuration")
    parser.add_argument("--settings", required=True, type=json.loads, help="its section, as JSON")
    parser.add_argument("--limits", default={}, type=json.loads, help="the rest of it, ditto")
    parser.add_argument("--model", help="folder of its model, where it is not the section's `name`")
    parser.add_argument("--prompts", required=True, help="prompts.jsonl")
    parser.add_argument("--generations", required=True, nargs="+", help="one file per seed")
    parser.add_argument("--usage", required=True, help="JSON file: calls, tokens and price")
    args = parser.parse_args(argv)
    if len(args.generations) != len(args.output):
        parser.error(f"{len(args.generations)} generations, but {len(args.output)} outputs")
    record, settings = args.record, args.settings | args.limits
    benchmark = BENCHMARKS.get(args.benchmark)
    needed = benchmark.asked if benchmark else ("index", "instruction", "prompt")
    pairs = not benchmark or benchmark.baseline
    prompts = read_prompts(args.prompts, (*needed, *("dataset", "reference") * pairs))
    name = prompts[0].get("reference_name", record.get("reference_name"))
    if pairs and not name:
        raise UserError(f"neither {args.prompts} nor the record has a reference_name")
    methods = [
        rows_to_judge(prompts, read_rows(path), path, benchmark, name) for path in args.generations
    ]
    kind = settings.get("kind", PROGRAM)
    if kind in KINDS and KINDS[kind].loads:
        import torch

        torch.set_num_threads(record["torch_threads"])
    with open_judge(args.annotator, settings, args.model, benchmark) as judge:
        annotated = annotate(args.annotator, judge, prompts, methods)
    for rows, path in zip(annotated, args.output, strict=True):
        write_json(rows, path)
    write_json(usage(args.annotator, kind, annotated), args.usage)


if __name__ == "__main__":
    cli(main)
