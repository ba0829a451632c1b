"""Losses and gradients against the papers' formulas, in float64 and without torch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poet.data.truncation import truncate_pair
from poet.train.objectives import OBJECTIVES, REFERENCE_FREE

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


betas = st.sampled_from([0.01, 0.1, 2.0, 10.0])
ratios = st.sampled_from([0.0, 0.3, 0.8])
cases = (st.sampled_from(NAMES), batches(), betas, ratios)


def padded(rows, fill=0.0):
    """Rows as a float64 tensor [pairs, tokens] and its weights: 1 on tokens, 0 on padding."""
    width = max(map(len, rows)) + 1
    values = [row + [fill] * (width - len(row)) for row in rows]
    weights = [[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows]
    return torch.tensor(values, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)


def computed(name, pairs, beta, ratio, keep=None):
    """Losses, scores and gradients of the module; ``keep`` masks full responses to a prefix."""
    score, loss = OBJECTIVES[name]
    logps, scores = {}, {}
    for side in ("chosen", "rejected"):
        # What stands on padding must not matter.
        logps[side], weights = padded([pair[side] for pair in pairs], fill=-7.0)
        logps[side].requires_grad_()
        ref, _ = padded([pair[f"ref_{side}"] for pair in pairs], fill=3.0)
        if keep is not None:
            weights = weights * (torch.arange(weights.shape[1]) < torch.tensor(keep)[:, None])
        scores[side] = score(logps[side], None if name in REFERENCE_FREE else ref, weights)
    losses = loss(scores["chosen"], scores["rejected"], beta, ratio)
    losses.sum().backward()
    assert losses.shape == scores["chosen"].shape == (len(pairs),)
    return losses.tolist(), {side: logps[side].grad for side in logps}


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def expected(name, pair, beta, ratio):
    """Loss of a pair and its derivatives by the tokens' log-probabilities."""
    chosen, rejected = pair["chosen"], pair["rejected"]
    if name == "dpo":  # Rafailov et al. 2023, equation 7
        ratio_w = math.fsum(chosen) - math.fsum(pair["ref_chosen"])
        ratio_l = math.fsum(rejected) - math.fsum(pair["ref_rejected"])
        margin, per_token = beta * ratio_w - beta * ratio_l, (1, 1)
    else:  # Meng et al. 2024, equation 6, gamma = beta x ratio
        mean_w = beta / len(chosen) * math.fsum(chosen)
        mean_l = beta / len(rejected) * math.fsum(rejected)
        margin, per_token = mean_w - mean_l - beta * ratio, (len(chosen), len(rejected))
    slope = beta / (1 + math.exp(margin)) if margin < 700 else 0.0  # beta x sigmoid(-margin)
    return softplus(-margin), -slope / per_token[0], slope / per_token[1]


def assert_gradient(gradient, row, n, value):
    want = [value] * n + [0.0] * (gradient.shape[1] - n)
    assert gradient[row].tolist() == pytest.approx(want, abs=1e-10, rel=1e-10)


@given(*cases)
def test_losses_and_gradients_are_the_formulas(name, pairs, beta, ratio):
    losses, gradients = computed(name, pairs, beta, ratio)
    for row, pair in enumerate(pairs):
        loss, chosen, rejected = expected(name, pair, beta, ratio)
        assert losses[row] == pytest.approx(loss, abs=1e-10, rel=1e-10)
        assert_gradient(gradients["chosen"], row, len(pair["chosen"]), chosen)
        assert_gradient(gradients["rejected"], row, len(pair["rejected"]), rejected)


@given(*cases)
def test_truncated_pairs_are_masked_full_pairs(name, pairs, beta, ratio):
    """POET by truncation is the released code's POET: both loss masks, ANDed."""
    shared = [min(len(pair["chosen"]), len(pair["rejected"])) for pair in pairs]
    full, masked_gradients = computed(name, pairs, beta, ratio, keep=shared)
    short = []
    for pair in pairs:
        chosen, rejected = truncate_pair(pair["chosen"], pair["rejected"])
        refs = truncate_pair(pair["ref_chosen"], pair["ref_rejected"])
        names = ("chosen", "rejected", "ref_chosen", "ref_rejected")
        short.append(dict(zip(names, (chosen, rejected, *refs), strict=True)))
    losses, gradients = computed(name, short, beta, ratio)
    assert losses == pytest.approx(full, abs=1e-10, rel=1e-10)
    for side, masked in masked_gradients.items():
        for row, n in enumerate(shared):
            kept = gradients[side][row, :n]
            torch.testing.assert_close(masked[row, :n], kept, atol=1e-10, rtol=0)
            assert not masked[row, n:].any()


@given(*cases)
def test_swapped_pairs_are_mirrored(name, pairs, beta, ratio):
    """sigmoid(m) + sigmoid(-m) = 1, so both orders' gradients add up to beta (SimPO: per token)."""
    other = {"chosen": "rejected", "rejected": "chosen"}
    swap = {**other, "ref_chosen": "ref_rejected", "ref_rejected": "ref_chosen"}
    swapped = [{key: pair[swap[key]] for key in pair} for pair in pairs]
    losses, there = computed(name, pairs, beta, 0.0)
    mirrored, back = computed(name, swapped, beta, 0.0)
    for row, pair in enumerate(pairs):
        assert math.exp(-losses[row]) + math.exp(-mirrored[row]) == pytest.approx(1, abs=1e-10)
        for side, sign in (("chosen", -1), ("rejected", 1)):
            n = len(pair[side])
            total = there[side][row] - back[other[side]][row]
            assert_gradient(total[None], 0, n, sign * beta / (1 if name == "dpo" else n))


@given(*cases)
def test_pairs_do_not_touch_each_other(name, pairs, beta, ratio):
    together, _ = computed(name, pairs, beta, ratio)
    alone = [computed(name, [pair], beta, ratio)[0][0] for pair in pairs]
    assert together == pytest.approx(alone, abs=1e-12, rel=1e-12)


def test_at_the_start_dpos_loss_is_log_2():
    logps = [-1.0, -2.0, -0.5]
    pair = {"chosen": logps, "ref_chosen": logps, "rejected": logps[:1], "ref_rejected": logps[:1]}
    assert computed("dpo", [pair], 0.1, 0.0)[0][0] == pytest.approx(math.log(2), abs=1e-12)


def test_large_margins_stay_finite():
    pair = {"chosen": [-1e4], "ref_chosen": [0.0], "rejected": [0.0], "ref_rejected": [0.0]}
    for name in NAMES:
        (loss,), gradients = computed(name, [pair], 10.0, 0.0)
        assert loss == pytest.approx(1e5)
        assert gradients["rejected"][0, 0].item() == pytest.approx(10.0)
