"""Methods side by side under one annotator: scores with intervals, and paired gains.

Win rates, gains and their intervals are in percent, rewards in the annotator's unit. ``*_ci_low``
and ``*_ci_high`` bound the 95 % interval that the key ``interval`` names ("over prompts and seeds",
or "conditional on one run"); ``*_prompts_ci_*`` the one over prompts, given these models.
``*_seed_sd`` is how far one run's score lies from another's; ``wr_judge_sd``, beside it, how far
one run's win rate would move if every verdict were drawn once from the judge's own probabilities,
as a judge does that answers in words (a weighted judge's expectation leaves that spread out).

Bounds and p-values are null where there is nothing to estimate them from: a method whose
preferences are all the same; a length-controlled win rate that is ``degenerate`` in some seed (see
:func:`poet.evaluate.alpaca.score`; ``lc_degenerate_seeds`` counts them); two methods that wrote the
same answers. A gain says why in ``not_measured``: null, or one of :data:`REASONS`.
``share_as_start`` is the share of a method's answers that are, to the letter, the start model's
(``sft``) with the same seed to the same prompt, ``share_identical`` that of a method and its
baseline; null where there is no such seed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from poet.evaluate import alpaca, length_control, statistics
from poet.evaluate import prompts as benchmark
from poet.evaluate.annotators import KINDS
from poet.evaluate.statistics import Score, known
from poet.files import UserError, cli, named_files, write_json
from poet.progress import track
from poet.provenance import version

START = "sft"
# Why a gain has no interval, the first that holds
IDENTICAL, DEGENERATE, CONSTANT = REASONS = (
    "identical answers", "degenerate length control", "nothing varies",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    """One method's scores over its seeds; rates in percent, ``reward`` only where rows carry it.

    ``answers``: [seeds][prompts], texts; ``degenerate``: seeds whose length control is empty.
    """

    answers: list[list[str]]
    lc: Score
    degenerate: int
    win_rate: Score
    reward: Score | None
    judge_sd: float
    avg_length: float
    share_ended: float | None


def load_method(files, generations, instructions, gamed, counts) -> Method:
    """Score one method.

    Args:
        files: annotation files, one per seed; generations: their generation files, or None.
        instructions, gamed: the benchmark, see :mod:`poet.evaluate.alpaca`.
        counts: [draws, P], the draws of prompts shared by everything that is compared.

    Raises:
        UserError: see :func:`poet.evaluate.alpaca.align` and :func:`poet.evaluate.alpaca.score`.
    """
    seeds = [alpaca.align(benchmark.read_rows(path), instructions, path) for path in files]
    lc, draws, degenerate = [], [], 0
    for rows, path in zip(seeds, files, strict=True):
        scores, strength = alpaca.score(rows, gamed, path)
        lc.append(scores[alpaca.LC_KEYS[scores["lc_kind"]][0]])
        degenerate += scores["degenerate"]
        delta = _column(rows, lambda row: len(row["output_1"]) - len(row["output_2"]))
        preference = _column(rows, lambda row: row["preference"]) - 1
        if gamed is None:
            draws.append(length_control.minimal(preference, delta, counts))
        elif strength is not None:
            draws.append(length_control.refit(preference, delta, counts, strength, gamed))
        else:
            raise UserError(f"{path}: the model is the reference itself; nothing to compare")
    table = np.array([[row["preference"] - 1 for row in rows] for rows in seeds])
    rewards = [[row.get("reward_2") for row in rows] for rows in seeds]
    scored = all(reward is not None for row in rewards for reward in row)
    ended = None
    if generations:
        triples = zip(generations, seeds, files, strict=True)
        ended = float(np.mean([alpaca.share_ended(*triple) for triple in triples]))
    answers = [[row["output_2"] for row in rows] for rows in seeds]
    return Method(
        answers,
        Score.of_draws(np.array(lc), np.array(draws), len(instructions)),
        degenerate,
        Score.of_values(100 * table),
        Score.of_values(rewards) if scored else None,
        100 * float(np.sqrt((table * (1 - table)).mean() / len(instructions))),
        float(np.mean([len(text) for texts in answers for text in texts])),
        ended,
    )


def _column(rows, value) -> np.ndarray:
    return np.array([value(row) for row in rows], dtype=float)


def share_identical(method: Method, other: Method | None) -> float | None:
    """The share of answers that two methods gave alike, seed by seed and prompt by prompt."""
    if other is None or other is method or len(other.answers) != len(method.answers):
        return None
    pairs = zip(method.answers, other.answers, strict=True)
    return float(np.mean([a == b for both in pairs for a, b in zip(*both, strict=True)]))


def summary(method: Method, start: Method | None, n_prompts: int, true_reward: bool) -> dict:
    """The row of one method: point estimates and both intervals of each score.

    ``start``: the start model, if it is compared.
    """
    row = {
        "n_seeds": method.lc.n_seeds,
        "n_prompts": n_prompts,
        "interval": method.lc.interval,
        **_described("lc_win_rate", "lc", method.lc, 0.0, 100.0),
        "lc_degenerate_seeds": method.degenerate,
        **_described("win_rate", "wr", method.win_rate, 0.0, 100.0),
        "wr_judge_sd": method.judge_sd,
        "avg_length": method.avg_length,
        "share_ended": method.share_ended,
        "share_as_start": share_identical(method, start),
        **_described("true_reward", "true_reward", method.reward if true_reward else None),
    }
    # Preferences that are all the same bound a regression on them no better than their mean.
    if method.degenerate or row["wr_prompts_ci_low"] is None:
        row |= dict.fromkeys(key for key in row if key.startswith("lc_") and "ci_" in key)
    if method.degenerate:
        row["lc_seed_sd"] = None
    return row


def _described(name: str, short: str, score: Score | None, low=-np.inf, high=np.inf) -> dict:
    keys = (name, *(f"{short}_{key}" for key in (
        "ci_low", "ci_high", "prompts_ci_low", "prompts_ci_high", "seed_sd")))  # fmt: skip
    if score is None:
        return dict.fromkeys(keys)
    bounds = [*statistics.over_prompts_and_seeds(score), *statistics.over_prompts(score)]
    bounds = [known(np.clip(bound, low, high)) for bound in bounds]
    spread = float(score.estimates.std(ddof=1)) if score.n_seeds > 1 else None
    return dict(zip(keys, (float(score.value), *bounds, spread), strict=True))


def gains(methods: dict[str, Method], pairs, n_prompts: int, true_reward: bool) -> list[dict]:
    """Paired comparisons of (method, baseline) names; Holm's correction runs over ``pairs``.

    ``n_prompts_needed`` is for a length-controlled gain of the size found, at 80 % power, with as
    many seeds as there are; null where the seeds alone blur it, or there is no gain.
    """
    kinds = {"gain_lc": ("", "lc"), "gain_wr": ("wr_", "win_rate")}
    if true_reward:
        kinds["gain_true_reward"] = ("true_reward_", "reward")
    rows = [{"method": method, "baseline": baseline} for method, baseline in pairs]
    sides = [tuple(methods[name] for name in pair) for pair in pairs]
    for name, (prefix, attribute) in kinds.items():
        compared = [_compared(*pair, attribute) for pair in sides]
        corrected = statistics.holm([result.p_value for result, _ in compared])
        for row, (result, reason), p_holm in zip(rows, compared, corrected, strict=True):
            row[name] = float(result.gain)
            row[f"{prefix}ci_low"], row[f"{prefix}ci_high"] = known(result.low), known(result.high)
            row[f"{prefix}p_value"], row[f"{prefix}p_holm"] = known(result.p_value), known(p_holm)
            row["interval"] = result.interval
            if attribute == "lc":
                row["not_measured"] = reason
    for row, pair in zip(rows, sides, strict=True):
        scores = [side.lc for side in pair]
        needed = None if row["not_measured"] else statistics.prompts_needed(*scores, n_prompts)
        row |= {
            "share_identical": share_identical(*pair),
            "n_prompts": n_prompts,
            "n_prompts_needed": needed,
        }
    return rows


def _compared(method: Method, baseline: Method, attribute: str):
    """The comparison of a score, and why it has no interval: one of REASONS, or None."""
    both = method, baseline

    def paired(score: str) -> statistics.Comparison:
        return statistics.paired(*(getattr(side, score) for side in both))

    result, reason = paired(attribute), None
    if share_identical(*both) == 1:
        reason = IDENTICAL
    elif attribute == "lc" and any(side.degenerate for side in both):
        reason = DEGENERATE
    # Length control fits preferences: where they do not vary, neither does what it says of them.
    elif np.isnan([result.low, attribute == "lc" and paired("win_rate").low]).any():
        reason = CONSTANT
    if reason:
        result = result._replace(low=np.nan, high=np.nan, p_value=np.nan)
    return result, reason


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", required=True)
    benchmark.add_benchmark_flags(parser)
    parser.add_argument("--annotator", required=True, help="its name in the configuration")
    parser.add_argument(
        "--kind",
        required=True,
        choices=KINDS,
        help="an oracle's rewards are reported as true_reward",
    )
    one_per_seed = {"action": "append", "nargs": "+", "metavar": ("METHOD", "FILE")}
    parser.add_argument("--method", required=True, help="annotations per seed", **one_per_seed)
    parser.add_argument("--generations", default=[], help="the same seeds'", **one_per_seed)
    parser.add_argument(
        "--gain", action="append", nargs=2, default=[], metavar=("METHOD", "BASELINE")
    )
    parser.add_argument("--draws", type=int, default=200, help="bootstrap draws of the prompts")
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    files = named_files(args.method, "--method")
    generations = named_files(args.generations, "--generations")
    for name in [name for pair in args.gain for name in pair] + list(generations):
        if name not in files:
            raise UserError(f"{name} has no --method; found {', '.join(files)}")
    for name, made in generations.items():
        if len(made) != len(files[name]):
            raise UserError(f"{name}: {len(files[name])} annotations, {len(made)} generations")

    instructions, gamed = benchmark.read_benchmark(args)
    n_prompts = len(instructions)
    counts = length_control.draw_prompts(n_prompts, args.draws)
    methods = {
        name: load_method(paths, generations.get(name), instructions, gamed, counts)
        for name, paths in track(files.items(), label="compare")
    }
    true_reward = args.kind == "oracle"
    lacking = [name for name, method in methods.items() if method.reward is None]
    if true_reward and lacking:
        raise UserError(f"no reward_2 in the oracle's annotations of {', '.join(lacking)}")
    result = {
        "setting": args.setting,
        "annotator": args.annotator,
        "lc_kind": length_control.MINIMAL if gamed is None else length_control.V1,
        "n_prompts": n_prompts,
        "methods": {
            name: summary(method, methods.get(START), n_prompts, true_reward)
            for name, method in methods.items()
        },
        "gains": gains(methods, args.gain, n_prompts, true_reward),
        "provenance": version(),
    }
    write_json(result, args.output)


if __name__ == "__main__":
    cli(main)
