"""Means and shares over pairs and training runs, with 95 % intervals.

Arrays: S training runs (seeds), P pairs, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from poet.evaluate import statistics
from poet.evaluate.statistics import Score, known


def padded(rows: Sequence[Sequence[float]], width: int) -> np.ndarray:
    """Rows of different lengths as [P, width], zeros behind."""
    out = np.zeros((len(rows), width))
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return out


def described(name: str, score: Score, low: float = -np.inf, high: float = np.inf) -> dict:
    """``name``, ``name_ci_low`` and ``name_ci_high``: 95 % over pairs and seeds, clipped.

    The bounds are null where nothing varies, see :mod:`poet.evaluate.statistics`.
    """
    bounds = statistics.over_prompts_and_seeds(score)
    ci_low, ci_high = (known(np.clip(bound, low, high)) for bound in bounds)
    return {name: float(score.value), f"{name}_ci_low": ci_low, f"{name}_ci_high": ci_high}


def share(event: np.ndarray) -> dict:
    """Percent of the pairs with ``event`` [S, P], as ``value`` with its interval."""
    return described("value", Score.of_values(100.0 * event), 0.0, 100.0)


def share_among(event: np.ndarray, given: np.ndarray) -> dict:
    """Percent of the pairs ``given`` that also have ``event``, both [S, P]; null if none is given.

    The interval is the ratio's, linearised: over pairs and seeds, as :func:`share`.
    """
    n_given = int(given.sum())
    if not n_given:
        return {**dict.fromkeys(("value", "value_ci_low", "value_ci_high")), "n_given": 0}
    ratio = (event & given).sum() / n_given
    influence = ratio + ((event & given) - ratio * given) / given.mean()
    score = Score.of_values(100 * influence)
    return {**described("value", score, 0.0, 100.0), "n_given": n_given}


def curve(name: str, margins: np.ndarray) -> list[dict]:
    """A row of :func:`described` per prefix length, from margins [S, P, T]."""
    score = Score.of_values(np.moveaxis(margins, -1, 0))
    low, high = statistics.over_prompts_and_seeds(score)
    names = (name, f"{name}_ci_low", f"{name}_ci_high")
    rows = zip(score.value, low, high, strict=True)
    return [dict(zip(names, map(known, row), strict=True)) for row in rows]


def by_position(values: dict[str, np.ndarray], mask: np.ndarray) -> list[dict]:
    """Means over the responses that have a token at the position (from 1), with intervals.

    ``values``: name -> [S, P, T]; ``mask``: [P, T]. Positions that only one response has are left
    out: one pair has no interval.
    """
    rows = []
    for position in range(mask.shape[-1]):
        there = mask[:, position].astype(bool)
        if there.sum() < 2:
            break
        row = {"position": position + 1, "n": int(there.sum())}
        for name, array in values.items():
            row |= described(name, Score.of_values(array[:, there, position]))
        rows.append(row)
    return rows


def order_kept(before: Sequence[float], after: Sequence[float]) -> dict:
    """Percent of the pairs with a difference ``before`` that have one of the same sign ``after``.

    With Wilson's 95 % interval. A tie after truncation is an order that is lost.
    """
    products = [float(b * a) for b, a in zip(before, after, strict=True) if b]
    if not products:
        nothing = dict.fromkeys(("value", "ci_low", "ci_high"))
        return nothing | dict.fromkeys(("n_pairs", "n_kept", "n_tied"), 0)
    kept = sum(product > 0 for product in products)
    bounds = binomtest(kept, len(products)).proportion_ci(0.95, method="wilson")
    return {
        "value": 100 * kept / len(products),
        "ci_low": 100 * float(bounds.low),
        "ci_high": 100 * float(bounds.high),
        "n_pairs": len(products),
        "n_kept": kept,
        "n_tied": sum(product == 0 for product in products),
    }


def mean_interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """Student's 95 % interval of a mean; (None, None) for fewer than two values or all equal."""
    if len(values) < 2:
        return None, None
    return tuple(map(known, statistics.over_prompts(Score.of_values([values]))))
