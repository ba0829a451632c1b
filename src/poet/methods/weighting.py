"""Weights of the response tokens: what the objectives' sums and means are taken with.

``uniform`` is 1 on every token. The others are what the literature does in place of truncation
against the length bias. Each takes the masks of a batch's chosen and rejected responses, [pairs,
tokens], 1 on tokens and 0 on padding, and gives weights of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Keys = Iterable[tuple[int, ...]]  # per pair, non-negative integers that seed what is random


def uniform(chosen: Tensor, rejected: Tensor, keys: Keys) -> tuple[Tensor, Tensor]:
    """w_t = 1."""
    return chosen, rejected


def d2po(chosen: Tensor, rejected: Tensor, keys: Keys, gamma: float) -> tuple[Tensor, Tensor]:
    """w_t = gamma^t, t = 0, 1, ... (Shao et al. 2025, temporal decay)."""
    import torch

    decay = gamma ** torch.arange(chosen.shape[1], dtype=chosen.dtype, device=chosen.device)
    return chosen * decay, rejected * decay


def ld(chosen: Tensor, rejected: Tensor, keys: Keys, alpha: float) -> tuple[Tensor, Tensor]:
    """w_t = 1 for t < min(|y_w|, |y_l|), alpha beyond (Liu et al. 2024, LD-DPO; TRL's ld_alpha)."""
    shared = chosen * rejected
    return shared + alpha * (chosen - shared), shared + alpha * (rejected - shared)


def sampo(chosen: Tensor, rejected: Tensor, keys: Keys) -> tuple[Tensor, Tensor]:
    """w_t = 1 on min(|y_w|, |y_l|) tokens drawn without replacement, 0 elsewhere.

    Lu et al. 2024 (SamPO). Policy and reference share the draw; the shorter response keeps all.
    """
    import numpy as np

    chosen, rejected = chosen.clone(), rejected.clone()
    lengths = [mask.sum(-1).int().tolist() for mask in (chosen, rejected)]
    for row, (n_chosen, n_rejected, key) in enumerate(zip(*lengths, keys, strict=True)):
        longer = chosen if n_chosen >= n_rejected else rejected
        order = np.random.default_rng(key).permutation(max(n_chosen, n_rejected))
        longer[row, order[min(n_chosen, n_rejected) :].tolist()] = 0
    return chosen, rejected


class Weighting(NamedTuple):
    """A choice of weights, and what its parameter may be, as JSON schema; None: it has none."""

    weights: Callable[..., tuple[Tensor, Tensor]]
    parameter: dict | None = None


UNIFORM = "uniform"  # without a word of it
WEIGHTINGS = {
    UNIFORM: Weighting(uniform),
    "sampo": Weighting(sampo),
    "d2po": Weighting(d2po, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
    "ld": Weighting(ld, {"type": "number", "minimum": 0, "maximum": 1}),
}


def token_weights(
    weighting: str | dict[str, float], chosen: Tensor, rejected: Tensor, keys: Keys
) -> tuple[Tensor, Tensor]:
    """Weights of a configured weighting, ``sampo`` or ``{"d2po": 0.98}``, from the masks of both.

    Masks and weights are [pairs, tokens]; the weights have the masks' dtype.
    """
    if isinstance(weighting, str):
        return WEIGHTINGS[weighting].weights(chosen, rejected, keys)
    name, parameter = next(iter(weighting.items()))  # its only entry
    return WEIGHTINGS[name].weights(chosen, rejected, keys, parameter)
