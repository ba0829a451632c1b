"""Verdicts: the six words of the tables, and how often they are wrong where the truth is known."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from poet.evaluate.statistics import (
    VERDICTS,
    Interval,
    Score,
    over_prompts_and_seeds,
    same_direction,
    verdict,
)

POINTS = st.floats(-100, 100).map(lambda value: round(value, 2))


@pytest.mark.parametrize(
    ("low", "high", "direction", "expected"),
    [
        (9, 11, None, "reproduced"),
        (7, 13, None, "reproduced"),  # within 3 points, just
        (9, 11, False, "reproduced"),  # the level is; the gain's own cell says that it is not
        (6.9, 11, None, "inconclusive"),
        (0, 30, None, "inconclusive"),
        (6.9, 11, True, "direction only"),
        (20, 30, True, "direction only"),
        (6.9, 11, False, "contradicts"),
        (13.1, 14, None, "contradicts"),
        (1, 6.9, None, "contradicts"),
    ],
)
def test_verdict_of_an_interval_about_a_reported_ten(low, high, direction, expected):
    assert verdict(Interval(low, high), 10.0, True, direction) == expected
    assert verdict(Interval(low, high), 10.0, False, direction) == "different judge"


def test_nothing_run_is_no_verdict():
    assert verdict(None, 10.0, True) == verdict(None, 10.0, False) == "not run"


@pytest.mark.parametrize(
    ("low", "high", "reported", "expected"),
    [
        (1, 2, 12.8, True),
        (-2, -1, 12.8, False),
        (-2, -1, -4.0, True),
        (-1, 2, 12.8, None),
        (0, 2, 12.8, None),
        (1, 2, 0.0, None),
    ],
)
def test_direction_needs_an_interval_without_zero(low, high, reported, expected):
    assert same_direction(Interval(low, high), reported) is expected


@given(POINTS, POINTS, POINTS, st.sampled_from([True, False, None]), st.floats(0, 20))
def test_verdicts_depend_on_differences_alone(low, high, reported, direction, shift):
    assume(low <= high)
    # near the margins a shift may round to the other side
    assume(min(abs(abs(bound - reported) - 3) for bound in (low, high)) > 1e-6)
    found = verdict(Interval(low, high), reported, True, direction)
    assert found in VERDICTS
    moved = Interval(low + shift, high + shift)
    assert verdict(moved, reported + shift, True, direction) == found
    mirrored = Interval(-high, -low)
    assert verdict(mirrored, -reported, True, direction) == found


def test_a_difference_of_the_margin_is_rarely_called_reproduced():
    """Two one-sided tests at 2.5 %: with the truth 3 points off, at most that many are fooled."""
    rng = np.random.default_rng(0)
    values = 47 + 10 * rng.standard_normal((2000, 1, 200)) + 0.3 * rng.standard_normal((2000, 3, 1))
    intervals = over_prompts_and_seeds(Score.of_values(values))
    pairs = [Interval(*bounds) for bounds in zip(*intervals, strict=True)]
    share = {
        truth: np.mean([verdict(pair, truth, True) == "reproduced" for pair in pairs])
        for truth in (50.0, 47.0)
    }
    assert share[50.0] < 0.035
    assert share[47.0] > 0.9
