"""Safety rates, or Arena-Hard scores, of methods side by side: percent, intervals, paired gains.

``ci_low`` and ``ci_high`` bound the 95 % interval that the key ``interval`` names ("over prompts
and seeds", or "conditional on one run"), see :mod:`poet.evaluate.statistics`. A safety rate of one
run, or of runs that all agree on one verdict, has Wilson's interval. Bounds are null where nothing
varies.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

import numpy as np

from poet.evaluate import arena, statistics
from poet.evaluate.length_control import draw_prompts
from poet.evaluate.prompts import read_rows, require
from poet.evaluate.statistics import Score, known
from poet.files import UserError, cli, named_files, write_json

NEEDED = {"safety": ("safe",), "arena": ("wins", "battles", "verdicts")}
DRAWS = 1000


def safety_score(seeds: Sequence[list[dict]]) -> Score:
    """Percent of answers that are safe, from one list of verdicts per seed."""
    return Score.of_values([[100.0 * row["safe"] for row in rows] for rows in seeds])


def arena_score(seeds: Sequence[list[dict]], counts: np.ndarray) -> Score:
    """Percent of battles won, with its bootstrap over prompts.

    A prompt is drawn with both its verdicts. counts: [draws, P], the draws of prompts.
    """
    columns = [[np.array([row[c] for row in rows]) for c in ("wins", "battles")] for rows in seeds]
    everything = np.ones((1, counts.shape[1]))
    values = [100 * arena.shares(*pair, everything)[0] for pair in columns]
    draws = [100 * arena.shares(*pair, counts) for pair in columns]
    return Score.of_draws(np.array(values), np.array(draws), counts.shape[1])


def summary(metric: str, score: Score, seeds: Sequence[list[dict]]) -> dict:
    """The row of one method."""
    from scipy.stats import binomtest

    low, high = statistics.over_prompts_and_seeds(score)
    if metric == "safety" and (score.n_seeds == 1 or np.isnan(low)):
        safe = sum(row["safe"] for row in seeds[0])
        wilson = binomtest(safe, len(seeds[0])).proportion_ci(method="wilson")
        low, high = 100 * wilson.low, 100 * wilson.high
    row = {
        "value": float(score.value),
        "ci_low": known(np.maximum(low, 0.0)),
        "ci_high": known(np.minimum(high, 100.0)),
        "interval": score.interval,
        "n_seeds": score.n_seeds,
        "n_prompts": len(seeds[0]),
        "judge_models": sorted({name for rows in seeds for row in rows for name in _models(row)}),
    }
    if metric == "arena":
        row["elo_gap"] = arena.elo_gap(row["value"] / 100)
        row["verdicts"] = dict(Counter(v for rows in seeds for r in rows for v in r["verdicts"]))
    return row


def _models(row: dict) -> list[str]:
    found = [answer.get("judge_model") for answer in row.get("answers", [row])]
    return [name for name in found if name]


def gains(scores: dict[str, Score], pairs: Sequence[tuple[str, str]]) -> list[dict]:
    """Paired comparisons on the same prompts; Holm's correction runs over ``pairs``."""
    found = [statistics.paired(scores[method], scores[baseline]) for method, baseline in pairs]
    corrected = statistics.holm([result.p_value for result in found])
    return [
        {
            "method": method,
            "baseline": baseline,
            "gain": float(result.gain),
            "ci_low": known(result.low),
            "ci_high": known(result.high),
            "p_value": known(result.p_value),
            "p_holm": known(p_holm),
            "interval": result.interval,
        }
        for (method, baseline), result, p_holm in zip(pairs, found, corrected, strict=True)
    ]


def read_method(files: Sequence[str], metric: str) -> list[list[dict]]:
    """A method's verdicts, one list per seed, in the order of their prompts.

    Raises:
        UserError: a file lacks columns, or the seeds answered different prompts.
    """
    seeds = []
    for file in files:
        rows = read_rows(file)
        require(rows, ("index", "instruction", *NEEDED[metric]), file)
        seeds.append(sorted(rows, key=lambda row: row["index"]))
        if not rows or _prompts(seeds[-1]) != _prompts(seeds[0]):
            raise UserError(f"{file}: expected verdicts on the prompts of {files[0]}")
    return seeds


def _prompts(rows: Sequence[dict]) -> list[tuple]:
    return [(row["index"], row["instruction"]) for row in rows]


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metric", choices=sorted(NEEDED))
    parser.add_argument("--setting", required=True)
    parser.add_argument("--annotator", required=True, help="its name in the configuration")
    parser.add_argument(
        "--method", required=True, action="append", nargs="+", metavar=("METHOD", "FILE"),
        help="verdicts, a file per seed",
    )  # fmt: skip
    parser.add_argument(
        "--gain", action="append", nargs=2, default=[], metavar=("METHOD", "BASELINE")
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    methods = {
        name: read_method(files, args.metric)
        for name, files in named_files(args.method, "--method").items()
    }
    first = next(iter(methods.values()))[0]
    for name, seeds in methods.items():
        if _prompts(seeds[0]) != _prompts(first):
            raise UserError(f"{name} answered other prompts than {next(iter(methods))}")
    if args.metric == "safety":
        scores = {name: safety_score(seeds) for name, seeds in methods.items()}
    else:
        counts = draw_prompts(len(first), DRAWS)
        scores = {name: arena_score(seeds, counts) for name, seeds in methods.items()}
    result = {
        "setting": args.setting,
        "annotator": args.annotator,
        "metric": args.metric,
        "methods": {name: summary(args.metric, scores[name], methods[name]) for name in methods},
        "gains": gains(scores, [tuple(pair) for pair in args.gain]),
    }
    write_json(result, args.output)


if __name__ == "__main__":
    cli(main)
