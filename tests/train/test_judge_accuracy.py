"""The accuracy of a reward model on held-out pairs: intervals over prompts, and by length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from poet.train.judge_accuracy import BINS, share, summary


@given(st.lists(st.booleans(), min_size=2, max_size=200).filter(lambda r: 0 < sum(r) < len(r)))
def test_pairs_of_prompts_of_their_own_invert_the_score_test(right):
    """Wilson's bounds are the shares that a score test just rejects; n - 1 pairs are effective."""
    n = len(right)
    found = share(np.array(right, float), np.arange(n))
    assert found["accuracy"] == sum(right) / n and (found["n"], found["n_prompts"]) == (n, n)
    for bound in (found["ci_low"], found["ci_high"]):
        statistic = (found["accuracy"] - bound) ** 2 * (n - 1)
        assert statistic == pytest.approx(t(n - 1).ppf(0.975) ** 2 * bound * (1 - bound))


def test_many_prompts_with_a_pair_each_have_scipys_wilson_interval():
    found = share(np.repeat([1.0, 0.0], [1400, 600]), np.arange(2000))
    wilson = binomtest(1400, 2000).proportion_ci(0.95, method="wilson")
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((wilson.low, wilson.high), abs=1e-4)


# A bin of lengths may hold few prompts.
@pytest.mark.parametrize(("n_prompts", "alike"), [(60, 0.0), (60, 0.9), (6, 0.5)])
def test_the_interval_holds_the_truth_where_pairs_share_prompts(n_prompts, alike):
    """Prompts with one to ten pairs that go alike; Wilson's over pairs would not hold it."""
    rng, truth, held, naive = np.random.default_rng(0), 0.7, 0, 0
    for _ in range(400):
        prompts = np.repeat(np.arange(n_prompts), rng.integers(1, 11, n_prompts))
        common = rng.random(n_prompts) < truth
        own = rng.random(len(prompts)) < truth
        right = np.where(rng.random(len(prompts)) < alike, common[prompts], own)
        found = share(right.astype(float), prompts)
        held += found["ci_low"] <= truth <= found["ci_high"]
        wilson = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="wilson")
        naive += wilson.low <= truth <= wilson.high
    assert 0.92 <= held / 400
    assert (naive / 400 < 0.85) == (alike > 0)


def test_all_right_is_as_many_as_prompts():
    found = share(np.ones(12), np.repeat([1, 2, 3], 4))
    assert found["ci_low"] == pytest.approx(3 / (3 + t(2).ppf(0.975) ** 2))
    assert found["ci_high"] == 1


@given(
    st.lists(st.booleans(), min_size=1, max_size=7), st.integers(2, 9), st.sampled_from([1, 2, 5])
)
def test_prompts_that_are_all_alike_count_as_one_each(pattern, prompts, times):
    """However often each is there, and whatever the rounding of its share."""
    alike = np.tile(np.repeat(pattern, times).astype(float), prompts)
    found = share(alike, np.repeat(np.arange(prompts), len(pattern) * times))
    once = share(
        np.tile(np.array(pattern, float), prompts), np.repeat(np.arange(prompts), len(pattern))
    )
    bounds = ("ci_low", "ci_high")
    assert [found[k] for k in bounds] == pytest.approx([once[k] for k in bounds])
    if sum(pattern) * 2 == len(pattern):
        width = t(prompts - 1).ppf(0.975) / np.sqrt(prompts + t(prompts - 1).ppf(0.975) ** 2) / 2
        assert found["ci_low"] == pytest.approx(0.5 - width)


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
