"""The preference objectives, as functions of per-token log-probabilities.

Shapes: ``logps`` and ``weights`` are [pairs, tokens], scores and losses are [pairs]. A token that
is padding has weight 0. A response's score is what the objective compares between chosen and
rejected; its implicit reward is beta times that score.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def weighted_sum(logps: Tensor, weights: Tensor) -> Tensor:
    """sum_t w_t log p_t, shape [pairs]."""
    return (logps * weights).sum(-1)


def weighted_mean(logps: Tensor, weights: Tensor) -> Tensor:
    """sum_t w_t log p_t / sum_t w_t, shape [pairs]."""
    return weighted_sum(logps, weights) / weights.sum(-1)


def dpo_score(logps: Tensor, ref_logps: Tensor, weights: Tensor) -> Tensor:
    """log pi(y|x) / pi_ref(y|x), shape [pairs] (Rafailov et al. 2023, eq. 5, without beta)."""
    return weighted_sum(logps - ref_logps, weights)


def simpo_score(logps: Tensor, ref_logps: Tensor | None, weights: Tensor) -> Tensor:
    """log pi(y|x) / |y|, shape [pairs] (Meng et al. 2024, eq. 4, without beta); no reference."""
    return weighted_mean(logps, weights)


def dpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma_beta_ratio: float = 0) -> Tensor:
    """-log sigmoid(beta (s_w - s_l)), shape [pairs] (Rafailov et al. 2023, eq. 7)."""
    return -F.logsigmoid(beta * (chosen - rejected))


def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma_beta_ratio: float) -> Tensor:
    """-log sigmoid(beta (s_w - s_l) - gamma), shape [pairs] (Meng et al. 2024, eq. 6).

    ``gamma_beta_ratio`` is gamma / beta, as the released code and its configurations have it.
    """
    return -F.logsigmoid(beta * (chosen - rejected - gamma_beta_ratio))


# objective -> (score of one response, loss of a pair of scores)
OBJECTIVES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "dpo": (dpo_score, dpo_loss),
    "simpo": (simpo_score, simpo_loss),
}
REFERENCE_FREE = frozenset({"simpo"})
