"""Truncation against the paper's definition and against the released code's mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from poet.methods.truncation import kept_lengths, name_of, truncate_pair

tokens = st.lists(st.integers(0, 1000), min_size=1, max_size=40)
shares = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.75, 1.0])


@given(tokens, tokens)
def test_poet_is_the_and_of_both_masks(chosen, rejected):
    # The released code: both responses padded to one length, their masks ANDed.
    width = max(len(chosen), len(rejected))
    both = (np.arange(width) < len(chosen)) & (np.arange(width) < len(rejected))
    kept = truncate_pair(chosen, rejected)
    for original, prefix in zip((chosen, rejected), kept, strict=True):
        padded = np.array(original + [-1] * (width - len(original)))
        assert prefix == padded[both].tolist()


@given(tokens, tokens, st.sampled_from(["none", "poet", "own"]), shares)
def test_prefixes_and_lengths(chosen, rejected, strategy, keep):
    choice = {"strategy": strategy} if strategy == "none" else {"strategy": strategy, "keep": keep}
    kept = truncate_pair(chosen, rejected, **choice)
    for original, other, prefix in zip((chosen, rejected), (rejected, chosen), kept, strict=True):
        base = min(len(original), len(other)) if strategy == "poet" else len(original)
        # Integer arithmetic in percent: an exact ceiling.
        share = 100 if strategy == "none" else round(keep * 100)
        assert len(prefix) == max(1, -(-share * base // 100))
        assert original[: len(prefix)] == prefix
    swapped = truncate_pair(rejected, chosen, **choice)
    assert swapped == kept[::-1]


@given(tokens, tokens)
def test_poet_twice_is_poet(chosen, rejected):
    once = truncate_pair(chosen, rejected)
    assert truncate_pair(*once) == once


@given(tokens, tokens, st.sampled_from(["poet", "own"]), shares)
def test_no_eos_is_invented(chosen, rejected, strategy, keep):
    """A cut response does not end; of POET's pair the shorter one keeps its EOS."""
    eos = 1001
    pair = [*chosen, eos], [*rejected, eos]
    for full, kept in zip(pair, truncate_pair(*pair, strategy, keep=keep), strict=True):
        assert (eos in kept) == (len(kept) == len(full))
    kept = truncate_pair(*pair)
    shorter = min((0, 1), key=lambda side: len(pair[side]))
    assert kept[shorter] == pair[shorter] and kept[shorter][-1] == eos


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [1], {}), "empty response"),
        (([1], [1], {"strategy": "half"}), "unknown truncation strategy 'half'"),
        (([1], [1], {"strategy": "poet", "keep": 0.0}), "keep is 0.0"),
        (([1], [1], {"strategy": "own", "keep": 1.5}), "keep is 1.5"),
        (([1], [1], {"strategy": "none", "keep": 0.5}), "none has no parameter keep; it has none"),
        (([1], [1], {"strategy": "own", "kept": 0.5}), "own has no parameter kept; it has keep"),
        (([1], [1], {"strategy": "random"}), "random draws for each pair, and needs its key"),
    ],
)
def test_bad_arguments(arguments, message):
    chosen, rejected, choice = arguments
    with pytest.raises(ValueError, match=message):
        truncate_pair(chosen, rejected, **choice)


@given(st.integers(1, 100), st.integers(1, 100), st.sampled_from(["poet", "own"]))
def test_choices_have_names_of_their_own(a, b, strategy):
    names = [name_of({"strategy": strategy, "keep": percent / 100}) for percent in (a, b)]
    assert names == [f"{strategy}-{a}", f"{strategy}-{b}"]


def test_names_have_the_defaults():
    assert name_of({"strategy": "none"}) == "none"
    assert name_of({"strategy": "poet"}) == name_of({"strategy": "poet", "keep": 1}) == "poet-100"
    assert name_of({"strategy": "own", "keep": 0.335}) == "own-33.5"
    assert name_of({"strategy": "random"}) == "random-0"
    assert name_of({"strategy": "random", "seed": 12}) == "random-12"


@given(tokens, tokens, st.text(max_size=16), st.integers(0, 9))
def test_random_prefixes_are_equal_and_the_pairs_own(chosen, rejected, key, seed):
    kept = truncate_pair(chosen, rejected, "random", key, seed=seed)
    k = len(kept[0])
    assert 1 <= k <= min(len(chosen), len(rejected))
    assert kept == (chosen[:k], rejected[:k])
    assert truncate_pair(rejected, chosen, "random", key, seed=seed) == kept[::-1]


def test_random_lengths_are_uniform():
    """On 1 ... 7, independent of the seed's other draws; 7000 pairs each."""
    keys = [f"{i:016x}" for i in range(7000)]
    draws = {
        seed: np.array([kept_lengths(9, 7, "random", key, seed=seed)[0] for key in keys])
        for seed in (0, 1)
    }
    for lengths in draws.values():
        counts = np.bincount(lengths, minlength=8)
        assert len(counts) == 8 and counts[0] == 0
        assert stats.chisquare(counts[1:]).pvalue > 1e-3
    assert abs(np.corrcoef(draws[0], draws[1])[0, 1]) < 0.05
