"""Weightings against their papers' equations, and what SamPO's draw may depend on."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poet.methods.weighting import WEIGHTINGS
from poet.methods.weighting import token_weights as weights_of_both

lengths = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=5)


def masked(pairs, extra=0):
    """Mask [2 pairs, tokens] in float64 of responses with these (chosen, rejected) lengths."""
    rows = [c for c, _ in pairs] + [r for _, r in pairs]
    return (torch.arange(max(rows) + extra) < torch.tensor(rows)[:, None]).double()


def token_weights(weighting, mask, keys):
    """Of all chosen responses, then of the rejected ones, as ``mask`` has them."""
    return torch.cat(weights_of_both(weighting, *mask.chunk(2), keys))


def keyed(pairs, seed=1, epoch=0, first=100):
    return [(seed, epoch, first + row) for row in range(len(pairs))]


@given(lengths, st.sampled_from(["uniform", "sampo", {"d2po": 0.98}, {"ld": 0.3}]))
def test_padding_has_no_weight(pairs, weighting):
    mask = masked(pairs, extra=3)
    weights = token_weights(weighting, mask, keyed(pairs))
    assert weights.shape == mask.shape and weights.dtype == mask.dtype
    assert not weights[mask == 0].any()
    assert (0 <= weights).all() and (weights <= 1).all()


@given(lengths)
def test_uniform_is_one_on_every_token(pairs):
    assert torch.equal(token_weights("uniform", masked(pairs), keyed(pairs)), masked(pairs))


@given(lengths, st.sampled_from([0.5, 0.9, 0.98, 1.0]))
def test_d2po_decays_from_the_first_token(pairs, gamma):
    weights = token_weights({"d2po": gamma}, masked(pairs), keyed(pairs)).tolist()
    rows = [c for c, _ in pairs] + [r for _, r in pairs]
    for row, n in zip(weights, rows, strict=True):
        assert row[:n] == pytest.approx([gamma**t for t in range(n)], abs=1e-14)


@given(lengths, st.sampled_from([0.0, 0.3, 1.0]))
def test_ld_is_one_on_the_shared_length_and_alpha_beyond(pairs, alpha):
    weights = token_weights({"ld": alpha}, masked(pairs), keyed(pairs)).tolist()
    for i, (chosen, rejected) in enumerate(pairs):
        shared = min(chosen, rejected)
        for row, n in ((weights[i], chosen), (weights[len(pairs) + i], rejected)):
            assert row[:n] == [1.0] * shared + [alpha] * (n - shared)


@given(lengths)
def test_sampo_keeps_the_shorter_length_of_both(pairs):
    weights = token_weights("sampo", masked(pairs), keyed(pairs))
    assert set(weights.unique().tolist()) <= {0.0, 1.0}
    shared = [min(pair) for pair in pairs]
    assert weights.sum(-1).tolist() == shared * 2  # without replacement, and of both sides
    # Equal lengths, so POET's truncation too, leave nothing to draw.
    equal = [(n, n) for n in shared]
    assert torch.equal(token_weights("sampo", masked(equal), keyed(equal)), masked(equal))


@given(lengths, st.randoms(use_true_random=False))
def test_sampos_draw_is_the_pairs_own(pairs, random):
    """It is the same alone, in another order, behind other padding; so on any number of devices."""
    keys = keyed(pairs)
    together = token_weights("sampo", masked(pairs), keys)
    order = random.sample(range(len(pairs)), len(pairs))
    shuffled = token_weights(
        "sampo", masked([pairs[i] for i in order], extra=2), [keys[i] for i in order]
    )
    for place, i in enumerate(order):
        alone = token_weights("sampo", masked([pairs[i]]), [keys[i]])
        for side, n in enumerate(pairs[i]):
            drawn = alone[side, :n].tolist()
            assert together[side * len(pairs) + i, :n].tolist() == drawn
            assert shuffled[side * len(pairs) + place, :n].tolist() == drawn


def test_sampo_draws_anew_with_seed_epoch_and_pair():
    def draw(**key):
        return token_weights("sampo", masked([(40, 20)]), keyed([None], **key))[0].tolist()

    assert draw() == draw()
    draws = [draw(), draw(seed=2), draw(epoch=1), draw(first=101)]
    assert len(set(map(tuple, draws))) == 4


def test_sampo_draws_uniformly():
    """Each of 8 tokens is kept in 3 of 8 draws; 4000 draws leave a standard error of 0.0077."""
    pairs = [(8, 3)] * 4000
    weights = token_weights("sampo", masked(pairs), keyed(pairs)).numpy()
    assert np.abs(weights[:4000].mean(0) - 3 / 8).max() < 0.03


def test_every_weighting_is_tested_here():
    assert set(WEIGHTINGS) == {"uniform", "sampo", "d2po", "ld"}
