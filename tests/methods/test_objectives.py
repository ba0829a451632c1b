"""Losses and gradients against the papers' formulas, in float64 and without torch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poet.methods.objectives import OBJECTIVES, Responses
from poet.methods.truncation import truncate_pair

NAMES = sorted(OBJECTIVES)


@st.composite
def batches(draw):
    """Pairs as lists of per-token log-probabilities: (policy, reference) x (chosen, rejected)."""
    logps = st.floats(-12, 0)
    pairs = []
    for _ in range(draw(st.integers(1, 4))):
        pair = {}
        for name in ("chosen", "rejected"):
            n = draw(st.integers(1, 9))
            pair[name] = draw(st.lists(logps, min_size=n, max_size=n))
            pair[f"ref_{name}"] = draw(st.lists(logps, min_size=n, max_size=n))
        pairs.append(pair)
    return pairs


parameters = st.fixed_dictionaries(
    {
        "beta": st.sampled_from([0.01, 0.1, 2.0, 10.0]),
        "gamma_beta_ratio": st.sampled_from([0.0, 0.3, 0.8]),
        "rpo_alpha": st.sampled_from([0.0, 0.2, 1.0]),
        "alpha": st.sampled_from([-0.5, 0.0, 1e-7, 0.25, 1.0]),
    }
)
cases = (st.sampled_from(NAMES), batches(), parameters)


def padded(rows, fill=0.0):
    """Rows as a float64 tensor [pairs, tokens] and its weights: 1 on tokens, 0 on padding."""
    width = max(map(len, rows)) + 1
    values = [row + [fill] * (width - len(row)) for row in rows]
    weights = [[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows]
    return torch.tensor(values, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)


def computed(name, pairs, parameters, keep=None):
    """Losses of the module and their gradients; ``keep`` masks full responses to a prefix."""
    sides = {}
    for side in ("chosen", "rejected"):
        # What stands on padding must not matter.
        logps, weights = padded([pair[side] for pair in pairs], fill=-7.0)
        ref, _ = padded([pair[f"ref_{side}"] for pair in pairs], fill=3.0)
        if keep is not None:
            weights = weights * (torch.arange(weights.shape[1]) < torch.tensor(keep)[:, None])
        sides[side] = Responses(logps.requires_grad_(), ref, weights)
    objective = OBJECTIVES[name]
    used = {key: parameters[key] for key in objective.parameters}
    losses = objective.loss(sides["chosen"], sides["rejected"], **used)
    losses.sum().backward()
    assert losses.shape == objective.rewards(sides["chosen"], used).shape == (len(pairs),)
    return losses.tolist(), {side: y.logps.grad for side, y in sides.items()}


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def power(p, alpha):
    """(1 - p^-alpha) / alpha, near its limit log p by the series in alpha."""
    if abs(alpha) < 1e-4:
        return math.log(p) - alpha * math.log(p) ** 2 / 2
    return (1 - p**-alpha) / alpha


def expected(name, pair, beta, gamma_beta_ratio, rpo_alpha, alpha):
    """Loss of a pair and its derivatives by the tokens' log-probabilities, from the papers."""
    chosen, rejected = pair["chosen"], pair["rejected"]
    n_w, n_l = len(chosen), len(rejected)
    ratio_w = math.fsum(chosen) - math.fsum(pair["ref_chosen"])
    ratio_l = math.fsum(rejected) - math.fsum(pair["ref_rejected"])
    nll = 0.0
    if name == "simpo":  # Meng et al. 2024, equation 6, gamma = beta x gamma_beta_ratio
        margin = beta / n_w * math.fsum(chosen) - beta / n_l * math.fsum(rejected)
        margin -= beta * gamma_beta_ratio
    elif name == "alphapo":  # Gupta et al. 2025, r = (1 - p^-alpha) / alpha, p per token
        p_w, p_l = (math.exp(math.fsum(y) / len(y)) for y in (chosen, rejected))
        margin = beta * (power(p_w, alpha) - power(p_l, alpha) - gamma_beta_ratio)
        slope = beta * sigmoid(-margin)
        return softplus(-margin), -slope * p_w**-alpha / n_w, slope * p_l**-alpha / n_l
    elif name == "ln_dpo":  # Lambert et al. 2024, section 5
        margin = beta / n_w * ratio_w - beta / n_l * ratio_l
    elif name == "ipo":  # Azar et al. 2023, equation 17, log-ratios per token
        h = ratio_w / n_w - ratio_l / n_l - 1 / (2 * beta)
        return h * h, 2 * h / n_w, -2 * h / n_l
    else:  # Rafailov et al. 2023, equation 7; Pang et al. 2024, equation 1
        margin, n_l = beta * ratio_w - beta * ratio_l, 1
        nll = rpo_alpha / n_w if name == "rpo" else 0.0
        n_w = 1
    slope = beta * sigmoid(-margin)
    loss = softplus(-margin) - nll * math.fsum(chosen)
    return loss, -slope / n_w - nll, slope / n_l


def assert_gradient(gradient, row, n, value):
    want = [value] * n + [0.0] * (gradient.shape[1] - n)
    assert gradient[row].tolist() == pytest.approx(want, abs=1e-10, rel=1e-10)


@settings(max_examples=300)
@given(*cases)
def test_losses_and_gradients_are_the_formulas(name, pairs, parameters):
    losses, gradients = computed(name, pairs, parameters)
    for row, pair in enumerate(pairs):
        loss, chosen, rejected = expected(name, pair, **parameters)
        assert losses[row] == pytest.approx(loss, abs=1e-10, rel=1e-10)
        assert_gradient(gradients["chosen"], row, len(pair["chosen"]), chosen)
        assert_gradient(gradients["rejected"], row, len(pair["rejected"]), rejected)


@settings(max_examples=300)
@given(*cases)
def test_truncated_pairs_are_masked_full_pairs(name, pairs, parameters):
    """POET by truncation is the released code's POET: both loss masks, ANDed."""
    shared = [min(len(pair["chosen"]), len(pair["rejected"])) for pair in pairs]
    full, masked_gradients = computed(name, pairs, parameters, keep=shared)
    short = []
    for pair in pairs:
        chosen, rejected = truncate_pair(pair["chosen"], pair["rejected"])
        refs = truncate_pair(pair["ref_chosen"], pair["ref_rejected"])
        names = ("chosen", "rejected", "ref_chosen", "ref_rejected")
        short.append(dict(zip(names, (chosen, rejected, *refs), strict=True)))
    losses, gradients = computed(name, short, parameters)
    assert losses == pytest.approx(full, abs=1e-10, rel=1e-10)
    for side, masked in masked_gradients.items():
        for row, n in enumerate(shared):
            kept = gradients[side][row, :n]
            torch.testing.assert_close(masked[row, :n], kept, atol=1e-10, rtol=0)
            assert not masked[row, n:].any()


@given(st.sampled_from(["dpo", "simpo", "ln_dpo"]), batches(), parameters)
def test_swapped_pairs_are_mirrored(name, pairs, parameters):
    """sigmoid(m) + sigmoid(-m) = 1, so both orders' gradients add up to beta (means: per token)."""
    parameters = {**parameters, "gamma_beta_ratio": 0.0}
    other = {"chosen": "rejected", "rejected": "chosen"}
    swap = {**other, "ref_chosen": "ref_rejected", "ref_rejected": "ref_chosen"}
    swapped = [{key: pair[swap[key]] for key in pair} for pair in pairs]
    losses, there = computed(name, pairs, parameters)
    mirrored, back = computed(name, swapped, parameters)
    for row, pair in enumerate(pairs):
        assert math.exp(-losses[row]) + math.exp(-mirrored[row]) == pytest.approx(1, abs=1e-10)
        for side, sign in (("chosen", -1), ("rejected", 1)):
            n = len(pair[side])
            total = there[side][row] - back[other[side]][row]
            slope = parameters["beta"] / (1 if name == "dpo" else n)
            assert_gradient(total[None], 0, n, sign * slope)


@given(*cases)
def test_pairs_do_not_touch_each_other(name, pairs, parameters):
    together, _ = computed(name, pairs, parameters)
    alone = [computed(name, [pair], parameters)[0][0] for pair in pairs]
    assert together == pytest.approx(alone, abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("name", ["dpo", "ln_dpo"])
def test_at_the_start_the_loss_is_log_2(name):
    logps = [-1.0, -2.0, -0.5]
    pair = {"chosen": logps, "ref_chosen": logps, "rejected": logps[:1], "ref_rejected": logps[:1]}
    assert computed(name, [pair], {"beta": 0.1})[0][0] == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("name", ["dpo", "simpo", "ln_dpo"])
def test_large_margins_stay_finite(name):
    pair = {"chosen": [-1e4], "ref_chosen": [0.0], "rejected": [0.0], "ref_rejected": [0.0]}
    (loss,), gradients = computed(name, [pair], {"beta": 10.0, "gamma_beta_ratio": 0.0})
    assert loss == pytest.approx(1e5)
    assert gradients["rejected"][0, 0].item() == pytest.approx(10.0)
