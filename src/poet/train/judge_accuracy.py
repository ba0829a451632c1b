"""How often a reward model prefers the chosen response of held-out pairs, also by their lengths.

POET changes lengths, and the chosen response of most data sets is the longer one: a judge that
counts tokens would look good on such pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

ALIKE = 0.1  # of the longer response: lengths that differ by no more are about the same
BINS = ("chosen shorter", "about as long", "chosen longer")


def share(right: np.ndarray, prompts: np.ndarray) -> dict:
    """Share of pairs that are ``right`` (0 to 1 each), with its 95 % interval over prompts.

    Pairs of a prompt are no independent draws. The variance is that of a ratio of sums over
    prompts; Wilson's interval is taken at the sample size of independent pairs that it equals, with
    a t quantile of as many degrees of freedom as prompts less one (effective sample size and
    degrees of freedom as in Korn and Graubard 1998, Survey Methodology 24, 193-201).

    Returns:
        ``accuracy``, ``ci_low``, ``ci_high`` (0 to 1), ``n`` pairs, ``n_prompts``.
    """
    from scipy.stats import t

    n, share = len(right), float(np.mean(right))
    _, prompt = np.unique(prompts, return_inverse=True)
    sums = np.bincount(prompt, right - share)
    groups = len(sums)
    variance = groups / max(groups - 1, 1) * float(sums @ sums) / n**2
    # Prompts that are all alike, and one prompt alone, tell nothing of it: a prompt counts as one.
    known = variance > 1e-12 and groups > 1  # sums of thirds are not exactly none
    effective = min(share * (1 - share) / variance, n) if known else groups
    z = float(t.ppf(0.975, max(groups - 1, 1)))
    centre = (share + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z * sqrt(share * (1 - share) / effective + (z / effective) ** 2 / 4)
    half /= 1 + z**2 / effective
    return {
        "accuracy": share, "ci_low": max(0.0, centre - half), "ci_high": min(1.0, centre + half),
        "n": n, "n_prompts": groups,
    }  # fmt: skip


def summary(
    chosen: Sequence[float],
    rejected: Sequence[float],
    lengths: Sequence[tuple[int, int]],
    prompts: Sequence[str],
) -> dict:
    """The accuracy of rewards on held-out pairs; equal rewards count as wrong.

    Args:
        chosen, rejected: rewards of each pair's responses.
        lengths: tokens of both responses, before any cut.
        prompts: names of the pairs' prompts.

    Returns:
        ``test_accuracy`` as :func:`share` has it, with ``equal`` (pairs of equal rewards),
        ``by_length`` (one of BINS -> the same of its pairs, where it has any) and ``length_alone``:
        the same of the rule that the longer response is the better one, ties a half.
    """
    gap, prompts = np.subtract(chosen, rejected), np.asarray(prompts)
    long, short = np.asarray(lengths).T
    right, difference = (gap > 0).astype(float), (long - short) / np.maximum(long, short)
    bins = np.digitize(difference, [-ALIKE, np.nextafter(ALIKE, 1)])
    return {
        "test_accuracy": {
            **share(right, prompts),
            "equal": int(np.sum(gap == 0)),
            "by_length": {
                name: share(right[bins == i], prompts[bins == i])
                for i, name in enumerate(BINS)
                if (bins == i).any()
            },
            "length_alone": share((np.sign(long - short) + 1) / 2, prompts),
        }
    }
