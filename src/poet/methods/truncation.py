"""POET's truncation: both responses of a pair to equal length (arXiv 2506.09457, section 4).

k = min(|y_w|, |y_l|); the objective is left alone. Applied to token ids after chat template, EOS
and length limits, this gives the loss of the released code, which masks the same tokens instead:
in a causal model a prefix's log-probabilities do not depend on its suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

STRATEGIES = ("none", "poet", "own")


def kept_lengths(
    n_chosen: int, n_rejected: int, strategy: str = "poet", keep: float = 1.0
) -> tuple[int, int]:
    """Number of response tokens kept of each response of a pair.

    - ``none``: all of both.
    - ``poet``: ceil(keep * min(n_chosen, n_rejected)) of both; ``keep=1`` is the paper's method.
    - ``own``:  ceil(keep * n) of each, the ablation's baseline.

    At least one token of each is kept.

    Raises:
        ValueError: unknown strategy, keep outside (0, 1], or an empty response.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown truncation strategy {strategy!r}, expected one of {STRATEGIES}")
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}, expected a share in (0, 1]")
    if min(n_chosen, n_rejected) < 1:
        raise ValueError(f"empty response: {n_chosen} chosen and {n_rejected} rejected tokens")
    if strategy == "none":
        return n_chosen, n_rejected
    if strategy == "poet":
        n_chosen = n_rejected = min(n_chosen, n_rejected)
    return _share(keep, n_chosen), _share(keep, n_rejected)


def _share(keep: float, n: int) -> int:
    # Rounding first: 0.1 * 30 is 3.0000000000000004 in floats, and its ceiling would be 4.
    return max(1, ceil(round(keep * n, 9)))


def truncate_pair(
    chosen: Sequence[int], rejected: Sequence[int], strategy: str = "poet", keep: float = 1.0
) -> tuple[Sequence[int], Sequence[int]]:
    """Prefixes of both responses (sequences of token ids); see :func:`kept_lengths`.

    >>> truncate_pair([1, 2, 3], [4, 5, 6, 7, 8])
    ([1, 2, 3], [4, 5, 6])
    """
    n_chosen, n_rejected = kept_lengths(len(chosen), len(rejected), strategy, keep)
    return chosen[:n_chosen], rejected[:n_rejected]
