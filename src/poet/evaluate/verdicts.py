"""Judge a method's answers to the questions of a further benchmark.

Every answer gets a verdict, or the program fails. What is asked and read, and what a verdict says,
is the benchmark's record (:mod:`poet.evaluate.benchmarks`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from poet.evaluate import judges
from poet.evaluate.annotate import match, pair_up, parse, start_torch, write
from poet.evaluate.annotators import KINDS
from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.benchmarks.record import PROGRAM, Benchmark
from poet.evaluate.prompts import read_rows, require
from poet.files import UserError, cli, load_record


def rows_to_judge(benchmark: Benchmark, prompts: Sequence[dict], generations, source) -> list[dict]:
    """What a benchmark's ``judge`` takes, in the prompts' order.

    Raises:
        UserError: as :func:`poet.evaluate.annotate.match`.
    """
    if benchmark.baseline:
        return pair_up(prompts, generations, source, prompts[0]["reference_name"])
    rows = []
    for prompt, made in zip(prompts, match(prompts, generations, source), strict=True):
        columns = ("index", "instruction", "output", "generator")
        given = {column: prompt[column] for column in benchmark.columns}
        rows.append({**{column: made[column] for column in columns}, **given})
    return rows


def judge(benchmark: Benchmark, args: argparse.Namespace, rows: list[dict]) -> list[dict]:
    """A verdict for each row, by the benchmark's own program or by the annotator.

    Raises:
        UserError: the annotator or its judge is none for this benchmark, or cannot judge.
    """
    if not benchmark.annotators:
        return benchmark.judge(rows)
    settings = json.loads(args.settings)
    if settings["kind"] not in benchmark.annotators:
        raise UserError(
            f"{args.annotator} is of kind {settings['kind']}; for {benchmark.name} expected "
            f"{' or '.join(benchmark.annotators)}"
        )
    configs = judges.load_judge(settings["judge"])
    benchmark.check(configs)
    start_torch(settings["kind"], load_record(args.record))
    with KINDS[settings["kind"]].ask(args.annotator, settings, configs, args.model) as ask:
        return benchmark.judge(rows, configs, ask)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=BENCHMARKS)
    args = parse(parser, argv)
    benchmark, prompts = BENCHMARKS[args.benchmark], read_rows(args.prompts)
    references = ("dataset", "reference", "reference_name") if benchmark.baseline else ()
    require(prompts, ("index", "instruction", *references, *benchmark.columns), args.prompts)
    methods = [
        rows_to_judge(benchmark, prompts, read_rows(path), path) for path in args.generations
    ]
    verdicts = iter(judge(benchmark, args, [row for rows in methods for row in rows]))
    judged = [
        [{**row, "annotator": args.annotator, **next(verdicts)} for row in rows] for rows in methods
    ]
    write(judged, json.loads(args.settings).get("kind", PROGRAM), args)


if __name__ == "__main__":
    cli(main)
