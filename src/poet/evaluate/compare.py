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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poet.evaluate import alpaca, statistics
from poet.evaluate.annotators import KINDS
from poet.evaluate.statistics import Score, known
from poet.files import UserError, cli, named_files, read_json, write_json
from poet.provenance import version

START = "sft"
# Why a gain has no interval, the first that holds
IDENTICAL, DEGENERATE, CONSTANT = REASONS = (
    "identical answers", "degenerate length control", "nothing varies",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    """One method's scores over its seeds; win rates in percent, ``reward`` where rows carry it.

    ``answers``: [seeds][prompts], names of texts; ``degenerate``: seeds whose length control is
    empty.
    """

    answers: list[list[str]]
    lc: Score
    degenerate: int
    win_rate: Score
    reward: Score | None
    judge_sd: float
    avg_length: float
    share_ended: float | None


def read_scores(files: dict[str, list[str]]) -> dict[str, list[dict]]:
    """The scores of every method, seed by seed, as :mod:`poet.evaluate.alpaca` writes them.

    Raises:
        UserError: a file is no such scores, has nothing to compare, or is on other prompts, or by
            another length control, than the first.
    """
    found = {path: _read_score(path) for paths in files.values() for path in paths}
    kinds = {(one["lc_kind"], one["compared"]["prompts"]): path for path, one in found.items()}
    if len(kinds) > 1:
        both = " and ".join(f"{path} ({kind}, prompts {of})" for (kind, of), path in kinds.items())
        raise UserError(f"{both} cannot be compared; expected one length control and one benchmark")
    return {name: [found[path] for path in paths] for name, paths in files.items()}


def _read_score(path: str) -> dict:
    try:
        score = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(score, dict) or "compared" not in score:
        raise UserError(
            f"{path} has no key `compared`; expected scores as poet.evaluate.alpaca writes them. "
            "Score the annotations with this version."
        )
    if score["compared"] is None:
        raise UserError(
            f"{path}: nothing to compare: an annotation is missing, or the model is the reference "
            "itself"
        )
    return score


def load_method(scores: Sequence[dict]) -> Method:
    """A method from the scores of its seeds, see :func:`read_scores`."""
    seeds = [score["compared"] for score in scores]
    lc = [score[alpaca.LC_KEYS[score["lc_kind"]][0]] for score in scores]
    draws = [seed["lc_draws"] for seed in seeds]
    table = np.array([seed["preference"] for seed in seeds])
    rewards = [seed["reward"] for seed in seeds]
    ended = [score["share_ended"] for score in scores]
    n_prompts = table.shape[1]
    return Method(
        [seed["answer"] for seed in seeds],
        Score.of_draws(np.array(lc), np.array(draws), n_prompts),
        sum(score["degenerate"] for score in scores),
        Score.of_values(100 * table),
        None if None in rewards else Score.of_values(rewards),
        100 * float(np.sqrt((table * (1 - table)).mean() / n_prompts)),
        float(np.mean([length for seed in seeds for length in seed["length"]])),
        None if None in ended else float(np.mean(ended)),
    )


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
        found = gain_columns([result for result, _ in compared], name, prefix)
        for row, columns, (_, reason) in zip(rows, found, compared, strict=True):
            row |= columns
            if attribute == "lc":
                row["not_measured"] = reason
    for row, pair in zip(rows, sides, strict=True):
        scores = [side.lc for side in pair]
        needed = None if row["not_measured"] else statistics.prompts_needed(*scores, n_prompts)
        row |= {"share_identical": share_identical(*pair), "n_prompts": n_prompts}
        row["n_prompts_needed"] = needed
    return rows


def gain_columns(
    compared: Sequence[statistics.Comparison], name: str = "gain", prefix: str = ""
) -> list[dict]:
    """Paired comparisons as columns; Holm's correction runs over all of them."""
    corrected = statistics.holm([result.p_value for result in compared])
    return [
        {
            name: float(result.gain),
            f"{prefix}ci_low": known(result.low),
            f"{prefix}ci_high": known(result.high),
            f"{prefix}p_value": known(result.p_value),
            f"{prefix}p_holm": known(p_holm),
            "interval": result.interval,
        }
        for result, p_holm in zip(compared, corrected, strict=True)
    ]


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
    elif np.isnan(result.low) or (attribute == "lc" and np.isnan(paired("win_rate").low)):
        reason = CONSTANT
    if reason:
        result = result._replace(low=np.nan, high=np.nan, p_value=np.nan)
    return result, reason


def parse(parser: argparse.ArgumentParser, argv=None) -> argparse.Namespace:
    """What every comparison of methods is told; ``method`` is name -> a file per seed.

    Raises:
        UserError: as :func:`poet.files.named_files`, or a gain's method has no files.
    """
    parser.add_argument("--setting", required=True)
    parser.add_argument("--annotator", required=True, help="its name in the configuration")
    parser.add_argument("--method", required=True, action="append", nargs="+", help="name, files")
    parser.add_argument("--gain", action="append", nargs=2, default=[], help="method, baseline")
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    args.method = named_files(args.method, "--method")
    for name in [name for pair in args.gain for name in pair]:
        if name not in args.method:
            raise UserError(f"{name} has no --method; found {', '.join(args.method)}")
    return args


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    said = "an oracle's rewards are reported as true_reward"
    parser.add_argument("--kind", required=True, choices=KINDS, help=said)
    args = parse(parser, argv)
    scores = read_scores(args.method)
    first = next(iter(scores.values()))[0]
    n_prompts = len(first["compared"]["answer"])
    methods = {name: load_method(of_seeds) for name, of_seeds in scores.items()}
    true_reward = args.kind == "oracle"
    lacking = [name for name, method in methods.items() if method.reward is None]
    if true_reward and lacking:
        raise UserError(f"no rewards in the oracle's scores of {', '.join(lacking)}")
    result = {
        "setting": args.setting,
        "annotator": args.annotator,
        "lc_kind": first["lc_kind"],
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
