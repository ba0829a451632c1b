"""The accuracy of a reward model on held-out pairs: intervals over prompts, and by length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from poet.train.judge_accuracy import BINS, share, summary


@given(st.lists(st.booleans(), min_size=2, max_size=200).filter(lambda r: 0 < sum(r) < len(r)))
def test_pairs_of_prompts_of_their_own_have_about_wilsons_interval(right):
    """The variance over prompts is n / (n - 1) of the binomial one."""
    n = len(right)
    found = share(np.array(right, float), np.arange(n))
    wilson = binomtest(sum(right), n).proportion_ci(0.95, method="wilson")
    assert found["accuracy"] == sum(right) / n and (found["n"], found["n_prompts"]) == (n, n)
    assert found["ci_low"] == pytest.approx(wilson.low, abs=0.5 / n)
    assert found["ci_high"] == pytest.approx(wilson.high, abs=0.5 / n)


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_the_interval_holds_the_truth_where_pairs_share_prompts(alike):
    """60 prompts with one to ten pairs that go alike; Wilson's over pairs would not hold it."""
    rng, truth, held, naive = np.random.default_rng(0), 0.7, 0, 0
    for _ in range(400):
        prompts = np.repeat(np.arange(60), rng.integers(1, 11, 60))
        common = rng.random(60) < truth
        own = rng.random(len(prompts)) < truth
        right = np.where(rng.random(len(prompts)) < alike, common[prompts], own)
        found = share(right.astype(float), prompts)
        held += found["ci_low"] <= truth <= found["ci_high"]
        wilson = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="wilson")
        naive += wilson.low <= truth <= wilson.high
    assert 0.92 <= held / 400 <= 0.99
    assert (naive / 400 < 0.75) == (alike > 0)


def test_all_right_is_as_many_as_prompts():
    found = share(np.ones(12), np.repeat([1, 2, 3], 4))
    wilson = binomtest(3, 3).proportion_ci(0.95, method="wilson")
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((wilson.low, wilson.high))


def test_by_length_and_by_length_alone():
    lengths = [(50, 100), (91, 100), (100, 90), (100, 91), (100, 89), (40, 40)]
    chosen, rejected = [1, 1, 0, 1, 1, 2], [0, 0, 0, 0, 2, 1]
    found = summary(chosen, rejected, lengths, [*"abcdef"])["test_accuracy"]
    assert (found["accuracy"], found["n"], found["equal"]) == (4 / 6, 6, 1)
    assert {k: (of["n"], of["accuracy"]) for k, of in found["by_length"].items()} == {
        "chosen shorter": (1, 1.0), "about as long": (4, 0.75), "chosen longer": (1, 0.0)
    }  # fmt: skip
    assert [*found["by_length"]] == [*BINS]
    assert found["length_alone"]["accuracy"] == pytest.approx((3 + 0.5) / 6)
