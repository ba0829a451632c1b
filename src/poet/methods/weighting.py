"""Weights of the response tokens: what the objectives' sums and means are taken with.

``uniform`` is 1 on every token. The others are what the literature does in place of truncation
against the length bias. Each takes the masks of a batch's chosen and rejected responses, [pairs,
tokens], 1 on tokens and 0 on padding, and gives weights of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

Keys = Iterable[tuple[int, ...]]  # per pair, non-negative integers that seed what is random


def uniform(chosen: Tensor, rejected: Tensor, keys: Keys) -> tuple[Tensor, Tensor]:
    """w_t = 1."""
    return chosen, rejected


def d2po(chosen: Tensor, rejected: Tensor, keys: Keys, gamma: float) -> tuple[Tensor, Tensor]:
    """w_t = gamma^t, t = 0, 1, ... (Shao et al. 2025, temporal decay)."""
    decay = gamma ** torch.arange(chosen.shape[1], dtype=chosen.dtype, device=chosen.device)
    return chosen * decay, rejected * decay


def ld(chosen: Tensor, rejected: Tensor, keys: Keys, alpha: float) -> tuple[Tensor, Tensor]:
    """w_t = 1 for t < min(|y_w|, |y_l|), alpha beyond (Liu et al. 2024, LD-DPO; TRL's ld_alpha)."""
    shared = chosen * rejected
    return tuple(torch.where(shared > 0, shared, alpha * mask) for mask in (chosen, rejected))


def sampo(chosen: Tensor, rejected: Tensor, keys: Keys) -> tuple[Tensor, Tensor]:
    """w_t = 1 on min(|y_w|, |y_l|) tokens drawn without replacement, 0 elsewhere.

    Lu et al. 2024 (SamPO). Policy and reference share the draw; the shorter response keeps all.
    """
    weights = chosen.clone(), rejected.clone()
    lengths = zip(*(mask.sum(-1).int().tolist() for mask in weights), keys, strict=True)
    for row, (n_chosen, n_rejected, key) in enumerate(lengths):
        kept, n = sorted((n_chosen, n_rejected))
        dropped = np.random.default_rng(key).permutation(n)[kept:]
        weights[n_rejected > n_chosen][row, torch.from_numpy(dropped)] = 0
    return weights


WEIGHTINGS = {"uniform": uniform, "sampo": sampo, "d2po": d2po, "ld": ld}


def token_weights(weighting: str | dict[str, float], mask: Tensor, keys: Keys) -> Tensor:
    """Weights [2 pairs, tokens] of a configured weighting: ``sampo``, ``{"d2po": 0.98}``, ...

    ``mask`` [2 pairs, tokens] is 1 on response tokens, of all chosen responses, then of the
    rejected ones; the weights have its dtype.
    """
    ((name, parameter),) = ({weighting: ()} if isinstance(weighting, str) else weighting).items()
    parameters = parameter if parameter == () else (parameter,)
    return torch.cat(WEIGHTINGS[name](*mask.chunk(2), keys, *parameters))
