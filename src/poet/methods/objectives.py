"""The preference objectives, as functions of per-token log-probabilities.

A response's tokens enter through sums, sum(w logp), or means, sum(w logp) / sum(w); the weights w
come from :mod:`poet.methods.weighting`. Its score is what the objective compares between chosen and
rejected; its implicit reward is beta times the score. Losses and scores have shape [pairs].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from poet.methods import NOT_NEGATIVE, POSITIVE

if TYPE_CHECKING:
    from torch import Tensor


class Responses(NamedTuple):
    """The chosen, or the rejected, responses of a batch of pairs; each field [pairs, tokens].

    Column t is a response's token t; after its end the weight is 0 and nothing else matters.
    """

    logps: Tensor  # log pi(y_t | x, y_<t) of the policy
    ref_logps: Tensor  # the same of the reference
    weights: Tensor


def weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """sum_t w_t v_t, shape [pairs]."""
    return (values * weights).sum(-1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """sum_t w_t v_t / sum_t w_t, shape [pairs]."""
    return weighted_sum(values, weights) / weights.sum(-1)


def log_sigmoid(margin: Tensor) -> Tensor:
    """log sigmoid(m), finite for any m."""
    from torch.nn.functional import logsigmoid

    return logsigmoid(margin)


def log_ratio(y: Responses) -> Tensor:
    """log pi(y|x) / pi_ref(y|x), the score of DPO (Rafailov et al. 2023, eq. 5, without beta)."""
    return weighted_sum(y.logps - y.ref_logps, y.weights)


def mean_log_ratio(y: Responses) -> Tensor:
    """The log-ratio per token, the score of length-normalised DPO and of IPO."""
    return weighted_mean(y.logps - y.ref_logps, y.weights)


def mean_logp(y: Responses) -> Tensor:
    """log pi(y|x) / |y|, the score of SimPO (Meng et al. 2024, eq. 4, without beta)."""
    return weighted_mean(y.logps, y.weights)


def dpo(chosen: Responses, rejected: Responses, *, beta: float) -> Tensor:
    """-log sigmoid(beta (s_w - s_l)), s the log-ratio (Rafailov et al. 2023, eq. 7)."""
    return -log_sigmoid(beta * (log_ratio(chosen) - log_ratio(rejected)))


def simpo(
    chosen: Responses, rejected: Responses, *, beta: float, gamma_beta_ratio: float
) -> Tensor:
    """-log sigmoid(beta (s_w - s_l) - gamma), s the mean log-probability (Meng et al. 2024, eq. 6).

    ``gamma_beta_ratio`` is gamma / beta, as the released code and its configurations have it.
    """
    return -log_sigmoid(beta * (mean_logp(chosen) - mean_logp(rejected) - gamma_beta_ratio))


def ipo(chosen: Responses, rejected: Responses, *, beta: float) -> Tensor:
    """(s_w - s_l - 1 / (2 beta))^2 (Azar et al. 2023, eq. 17, their tau is beta).

    s is the log-ratio per token, as in TRL's ``loss_type="ipo"``, where the paper's authors are
    cited for it: the equation's plain sums make the target a matter of length.
    """
    return (mean_log_ratio(chosen) - mean_log_ratio(rejected) - 1 / (2 * beta)) ** 2


def ln_dpo(chosen: Responses, rejected: Responses, *, beta: float) -> Tensor:
    """-log sigmoid(beta (s_w - s_l)), s the log-ratio per token (Lambert et al. 2024, section 5).

    TRL's ``loss_type="sigmoid_norm"``.
    """
    return -log_sigmoid(beta * (mean_log_ratio(chosen) - mean_log_ratio(rejected)))


def rpo(chosen: Responses, rejected: Responses, *, beta: float, rpo_alpha: float) -> Tensor:
    """DPO - alpha log pi(y_w|x) / |y_w| (Pang et al. 2024, eq. 1).

    The likelihood term is over the chosen tokens that are kept, with their weights.
    """
    return dpo(chosen, rejected, beta=beta) - rpo_alpha * mean_logp(chosen)


def power_reward(y: Responses, *, alpha: float) -> Tensor:
    """(1 - p^-alpha) / alpha, p = exp(mean log pi), the score of AlphaPO (Gupta et al. 2025).

    At alpha = 0, its limit, it is SimPO's, log p.
    """
    return -(-alpha * mean_logp(y)).expm1() / alpha if alpha else mean_logp(y)


def alphapo(
    chosen: Responses, rejected: Responses, *, beta: float, gamma_beta_ratio: float, alpha: float
) -> Tensor:
    """-log sigmoid(beta (s_w - s_l) - gamma), s the power reward (Gupta et al. 2025).

    TRL's ``loss_type="alphapo"``; ``gamma_beta_ratio`` as in :func:`simpo`.
    """
    s_chosen, s_rejected = power_reward(chosen, alpha=alpha), power_reward(rejected, alpha=alpha)
    return -log_sigmoid(beta * (s_chosen - s_rejected - gamma_beta_ratio))


class Objective(NamedTuple):
    """A choice of objective: all that the rest of the workflow knows of it."""

    loss: Callable[..., Tensor]  # (chosen, rejected, **parameters) -> [pairs]
    score: Callable[..., Tensor]  # (responses, **those of the parameters in of_score) -> [pairs]
    parameters: dict[str, dict]  # the loss's, each with what it may be; `beta` is always one
    label: str  # what the implicit reward is, in figures
    unit: str  # of the implicit reward
    of_score: tuple[str, ...] = ()

    def rewards(self, y: Responses, parameters: dict[str, float]) -> Tensor:
        """The implicit rewards of responses, beta x score, shape [pairs]."""
        of_score = {name: parameters[name] for name in self.of_score}
        return parameters["beta"] * self.score(y, **of_score)


BETA = {"beta": POSITIVE}
NATS, PER_TOKEN = "nats", "nats per token"
OBJECTIVES = {
    "dpo": Objective(dpo, log_ratio, BETA, "β log π/π_ref", NATS),
    "simpo": Objective(
        simpo, mean_logp, BETA | {"gamma_beta_ratio": NOT_NEGATIVE}, "β mean log π", PER_TOKEN
    ),
    "ipo": Objective(ipo, mean_log_ratio, BETA, "β mean log π/π_ref", PER_TOKEN),
    "ln_dpo": Objective(ln_dpo, mean_log_ratio, BETA, "β mean log π/π_ref", PER_TOKEN),
    "rpo": Objective(rpo, log_ratio, BETA | {"rpo_alpha": NOT_NEGATIVE}, "β log π/π_ref", NATS),
    "alphapo": Objective(
        alphapo,
        power_reward,
        BETA | {"gamma_beta_ratio": NOT_NEGATIVE, "alpha": {"type": "number"}},
        "β (1 − p^−α)/α, log p = mean log π",
        "no unit",
        of_score=("alpha",),
    ),
}
