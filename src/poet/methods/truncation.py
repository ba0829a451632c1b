"""POET's truncation: both responses of a pair to equal length (arXiv 2506.09457, section 4).

k = min(|y_w|, |y_l|); the objective is left alone. Applied to token ids after chat template, EOS
and length limits, this gives the loss of the released code, which masks the same tokens instead:
in a causal model a prefix's log-probabilities do not depend on its suffix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from math import ceil
from typing import NamedTuple

Both = tuple[int, int]  # a number of tokens for the chosen response, and one for the rejected


def none(n_chosen: int, n_rejected: int) -> Both:
    """All of both."""
    return n_chosen, n_rejected


def poet(n_chosen: int, n_rejected: int, keep: float) -> Both:
    """ceil(keep * min(n_chosen, n_rejected)) of both; ``keep=1`` is the paper's method."""
    k = share(keep, min(n_chosen, n_rejected))
    return k, k


def own(n_chosen: int, n_rejected: int, keep: float) -> Both:
    """ceil(keep * n) of each, the ablation's baseline."""
    return share(keep, n_chosen), share(keep, n_rejected)


def random(n_chosen: int, n_rejected: int, seed: int, key: str) -> Both:
    """k of both, uniform on 1 ... min(n_chosen, n_rejected), drawn once for the pair ``key``.

    A control of ours and not the paper's: equal prefixes whose length says nothing of the pair.
    """
    drawn = int.from_bytes(sha256(f"{seed} {key}".encode()).digest())
    k = 1 + drawn % min(n_chosen, n_rejected)
    return k, k


def share(keep: float, n: int) -> int:
    """ceil(keep * n), one token at least.

    Raises:
        ValueError: keep outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}, expected a share in (0, 1]")
    # Rounding first: 0.1 * 30 is 3.0000000000000004 in floats, and its ceiling would be 4.
    return max(1, ceil(round(keep * n, 9)))


class Curve(NamedTuple):
    """A curve of the ablation's figure: its name in the figure's rows, and what the share is of."""

    name: str
    label: str


class Truncation(NamedTuple):
    """A choice of truncation: all that the rest of the workflow knows of it."""

    kept: Callable[..., Both]  # (n_chosen, n_rejected, **parameters)
    parameters: dict[str, dict]  # what each may be, as JSON schema with a default
    curve: Curve | None  # on which a point at this share lies; None: on none
    drawn: bool = False  # `kept` also takes `key`, the pair's name
    equal: bool = False  # both keep as much, at most the shorter one's length
    # (**parameters) -> the mean share of that length that is kept; if not equal, of their own
    share: Callable[..., float] = lambda **parameters: 1.0


KEEP = {
    "type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1.0,
    "description": "share of the length that is kept",
}  # fmt: skip
SEED = {"type": "integer", "minimum": 0, "default": 0, "description": "of the lengths' draw"}
OWN = Curve("own", "of each response's own length")  # whole responses end it
POETS = Curve("poet", "of POET's")
TRUNCATIONS = {
    "none": Truncation(none, {}, OWN),
    "poet": Truncation(poet, {"keep": KEEP}, POETS, equal=True, share=lambda keep: keep),
    "own": Truncation(own, {"keep": KEEP}, OWN, share=lambda keep: keep),
    "random": Truncation(
        random, {"seed": SEED}, None, drawn=True, equal=True, share=lambda seed: 0.5
    ),
}
NONE, POET = {"strategy": "none"}, {"strategy": "poet"}  # without a word of it, and the paper's


def complete(strategy: str, **parameters) -> dict:
    """A choice as the configuration has it, with the defaults of what is not said.

    Raises:
        ValueError: unknown strategy, or a parameter that it does not have.
    """
    if strategy not in TRUNCATIONS:
        known = ", ".join(TRUNCATIONS)
        raise ValueError(f"unknown truncation strategy {strategy!r}, expected one of {known}")
    fragments = TRUNCATIONS[strategy].parameters
    for name in parameters:
        if name not in fragments:
            known = ", ".join(fragments) or "none"
            raise ValueError(f"truncation {strategy} has no parameter {name}; it has {known}")
    defaults = {name: fragment["default"] for name, fragment in fragments.items()}
    return {"strategy": strategy, **defaults, **parameters}


def name_of(choice: dict) -> str:
    """The name of a choice in paths: ``none``, ``poet-100``, ``own-25``; shares are in percent."""
    choice = complete(**choice)
    fragments = TRUNCATIONS[choice["strategy"]].parameters
    words = [
        f"{100 * choice[name]:.10g}" if fragment.get("type") == "number" else f"{choice[name]}"
        for name, fragment in fragments.items()
    ]
    return "-".join([choice["strategy"], *words])


def kept_lengths(
    n_chosen: int, n_rejected: int, strategy: str = "poet", key: str | None = None, **parameters
) -> Both:
    """Number of response tokens kept of each response of a pair, one at least.

    ``parameters`` are the strategy's; ``key`` names the pair, which strategies need that draw.

    Raises:
        ValueError: unknown strategy or parameter, keep outside (0, 1], an empty response, or no
            key where one is needed.
    """
    if min(n_chosen, n_rejected) < 1:
        raise ValueError(f"empty response: {n_chosen} chosen and {n_rejected} rejected tokens")
    choice = complete(strategy, **parameters)
    record = TRUNCATIONS[choice.pop("strategy")]
    if record.drawn:
        if key is None:
            raise ValueError(f"truncation {strategy} draws for each pair, and needs its key")
        choice["key"] = key
    return record.kept(n_chosen, n_rejected, **choice)


def truncate_pair(
    chosen: Sequence[int], rejected: Sequence[int], strategy: str = "poet",
    key: str | None = None, **parameters,
) -> tuple[Sequence[int], Sequence[int]]:  # fmt: skip
    """Prefixes of both responses (sequences of token ids); see :func:`kept_lengths`.

    >>> truncate_pair([1, 2, 3], [4, 5, 6, 7, 8])
    ([1, 2, 3], [4, 5, 6])
    """
    n_chosen, n_rejected = kept_lengths(len(chosen), len(rejected), strategy, key, **parameters)
    return chosen[:n_chosen], rejected[:n_rejected]
