"""A benchmark's scores of methods side by side: their intervals, and paired gains.

``ci_low`` and ``ci_high`` bound the 95 % interval that the key ``interval`` names ("over prompts
and seeds", or "conditional on one run"), see :mod:`poet.evaluate.statistics`. Where a prompt counts
all or nothing, one run, or runs that all agree, have Wilson's interval. Bounds are null where
nothing varies.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from poet.evaluate import statistics
from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.benchmarks.record import Benchmark, Metric, Verdicts
from poet.evaluate.compare import gain_columns, parse
from poet.evaluate.judges import answers_of, judge_models
from poet.evaluate.prompts import read_prompts
from poet.evaluate.statistics import Score, known
from poet.files import UserError, cli, write_json


def interval(metric: Metric, score: Score) -> dict:
    """The value of a score, with its bounds; Wilson's where a prompt is hit or not."""
    from scipy.stats import binomtest

    low, high = statistics.over_prompts_and_seeds(score)
    if metric.binary and (score.n_seeds == 1 or np.isnan(low)):
        hits = score.replicates[0] > 50
        found = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
        low, high = 100 * found.low, 100 * found.high
    return {
        "value": float(score.value),
        "ci_low": known(np.clip(low, *metric.bounds)),
        "ci_high": known(np.clip(high, *metric.bounds)),
        "interval": score.interval,
    }


def summary(benchmark: Benchmark, scores: dict[str, Score], verdicts: Verdicts) -> dict:
    """One method: each metric with its interval, and what stands behind them."""
    values = {metric.name: interval(metric, scores[metric.name]) for metric in benchmark.metrics}
    row = {
        "metrics": values,
        "n_seeds": len(verdicts),
        "n_prompts": len(verdicts[0]),
        "judge_models": judge_models(answers_of(verdicts)),
    }
    if benchmark.details:
        row |= benchmark.details(verdicts, values[benchmark.metrics[0].name]["value"])
    return row


def gains(
    metric: str, scores: dict[str, dict[str, Score]], pairs: Sequence[tuple[str, str]]
) -> list[dict]:
    """Paired comparisons on the same prompts; Holm's correction runs over ``pairs``."""
    sides = [[scores[name][metric] for name in pair] for pair in pairs]
    found = gain_columns([statistics.paired(*pair) for pair in sides])
    return [
        {"metric": metric, "method": method, "baseline": baseline, **columns}
        for (method, baseline), columns in zip(pairs, found, strict=True)
    ]


def read_methods(files: dict[str, list[str]], benchmark: Benchmark) -> dict[str, Verdicts]:
    """Every method's verdicts, one list per seed, in the order of their prompts.

    Raises:
        UserError: a file lacks columns, or is on other prompts than the first.
    """
    found, asked = {name: [] for name in files}, {}  # asked: of a file, its prompts
    for name, seeds in files.items():
        for file in seeds:
            rows = read_prompts(file, ("index", "instruction", *benchmark.verdict))
            found[name].append(sorted(rows, key=lambda row: row["index"]))
            asked[file] = [(row["index"], row["instruction"]) for row in found[name][-1]]
            if asked[file] != asked[first := next(iter(asked))]:
                raise UserError(f"{file}: expected verdicts on the prompts of {first}")
    return found


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=BENCHMARKS)
    args = parse(parser, argv)
    benchmark = BENCHMARKS[args.benchmark]
    methods = read_methods(args.method, benchmark)
    scores = {
        name: {metric.name: metric.score(verdicts) for metric in benchmark.metrics}
        for name, verdicts in methods.items()
    }
    result = {
        "setting": args.setting,
        "annotator": args.annotator,
        "benchmark": benchmark.name,
        "methods": {name: summary(benchmark, scores[name], methods[name]) for name in methods},
        "gains": [
            gain for metric in benchmark.metrics for gain in gains(metric.name, scores, args.gain)
        ],
    }
    write_json(result, args.output)


if __name__ == "__main__":
    cli(main)
