"""The answer in one sentence, and what it counts."""

import pytest

from poet.report import headline

METHODS = {
    "dpo": {"objective": "dpo"},
    "dpo-poet": {"objective": "dpo", "truncation": {"strategy": "poet", "keep": 1.0}},
    "dpo-poet-25": {"objective": "dpo", "truncation": {"strategy": "poet", "keep": 0.25}},
    "dpo-sampo": {"objective": "dpo", "weighting": "sampo"},
}


def gain(value, p_holm, method="dpo-poet", **changes) -> dict:
    return {
        "method": method, "baseline": "dpo", "gain_lc": value, "ci_low": value - 2,
        "ci_high": value + 2, "p_holm": p_holm, "interval": "over prompts and seeds",
    } | changes  # fmt: skip


def comparison(*gains, setting="world") -> dict:
    methods = {name: {"n_seeds": 3, "share_as_start": 1.0} for name in METHODS}
    return {"setting": setting, "annotator": "judge", "methods": methods, "gains": list(gains)}


def test_one_comparison_names_gain_interval_and_judge():
    others = [gain(9, 0.001, method) for method in ("dpo-sampo", "dpo-poet-25")]
    gains = headline.poet_gains([comparison(gain(4.5, 0.01), *others)], METHODS)
    assert headline.sentence(gains) == (
        "POET helps: +4.50 [+2.50, +6.50] points of length-controlled win "
        "rate for dpo-poet over dpo on world, judged by judge (95 % intervals over prompts and "
        "seeds)."
    )


def test_many_comparisons_are_counted_and_their_range_named():
    found = [comparison(gain(v, p), setting=f"s{v}") for v, p in ((4, 0.01), (-3, 0.04), (1, 0.5))]
    text = headline.sentence(headline.poet_gains(found, METHODS))
    assert text.startswith(
        "POET helps in 1 and hurts in 1 of 3 comparisons, the gains ranging from"
    )
    assert "−3.00 [−5.00, −1.00]" in text and "+4.00 [+2.00, +6.00]" in text
    assert "+1.00" not in text


def test_nothing_shown_is_said():
    text = headline.sentence(headline.poet_gains([comparison(gain(0.3, 0.7))], METHODS))
    assert text.startswith("No effect of POET is shown: +0.30 [−1.70, +2.30] points")
    assert headline.sentence([]) == "This run compares no method with and without POET."


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "+0.00"), (-0.001, "+0.00"), (1.234, "+1.23"), (-2.0, "−2.00")]
)
def test_signed(value, text):
    assert headline.signed(value) == text


UNKNOWN = {"ci_low": None, "ci_high": None, "p_holm": None}


def unmeasured(why, **changes) -> dict:
    return gain(0.0, None) | UNKNOWN | {"not_measured": why} | changes


def test_no_verdict_over_answers_that_are_the_same():
    found = unmeasured("identical answers")
    text = headline.sentence(headline.poet_gains([comparison(found)], METHODS))
    assert text == (
        "Whether POET helps was not measured. dpo-poet over dpo on world, judged by judge: with "
        "and without POET, every answer is the very same as the start model's, so training moved "
        "the model too little to tell (learning rate, steps)."
    )
    assert headline.effect(found) == "not measured"
    two = [comparison(found), comparison(found, setting="other")]
    both = headline.sentence(headline.poet_gains(two, METHODS))
    assert "on world, judged by judge and dpo-poet over dpo on other, judged by judge: with" in both
    assert both.count("very same") == 1
    moved = headline.poet_gains([comparison(found)], METHODS)[0] | {"share_as_start": None}
    assert "start model" not in headline.sentence([moved])


def test_what_was_measured_is_said_beside_what_was_not():
    raw = {"gain_wr": 2.0, "wr_ci_low": -1.0, "wr_ci_high": 5.0}
    empty = unmeasured("degenerate length control", **raw)
    gains = headline.poet_gains(
        [comparison(gain(4.5, 0.01)), comparison(empty, setting="other")], METHODS
    )
    text = headline.sentence(gains)
    assert text.startswith("POET helps: +4.50 [+2.50, +6.50] points")
    assert text.endswith(
        "Not measured: dpo-poet over dpo on other, judged by judge: alpaca-eval's length control "
        "is degenerate here (its penalty took the model's own term to zero); the raw win rate "
        "differs by +2.00 points [−1.00, +5.00]."
    )
    constant = comparison(unmeasured("nothing varies", gain_wr=98.0))
    constant = headline.sentence(headline.poet_gains([constant], METHODS))
    assert "the win rate differs by +98.00 points at every prompt" in constant
