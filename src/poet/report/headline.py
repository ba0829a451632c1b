"""The answer in one sentence: does POET help, by how much, how sure?

A gain is shown to exist where Holm's corrected p-value is below 5 %; the intervals are 95 %.
"""

from __future__ import annotations

LEVEL = 0.05
# Up to so many gains are named in the sentence; of more, the smallest and the largest.
NAMED = 2


def poet_gains(comparisons: list[dict], methods: dict[str, dict]) -> list[dict]:
    """The gains of the comparisons in which POET is what differs, with where they were found.

    Args:
        comparisons: what ``poet.evaluate.compare`` writes.
        methods: that section of the configuration.
    """
    return [
        {"setting": comparison["setting"], "annotator": comparison["annotator"]}
        | {"n_seeds": comparison["methods"][gain["method"]]["n_seeds"]}
        | gain
        for comparison in comparisons
        for gain in comparison["gains"]
        if is_poet(gain["method"], methods)
    ]


def is_poet(method: str, methods: dict[str, dict]) -> bool:
    """Whether a method truncates to the shorter response's length."""
    return methods.get(method, {}).get("truncation", {}).get("strategy") == "poet"


def effect(gain: dict) -> str:
    """``helps``, ``hurts`` or ``no effect shown``."""
    if gain["p_holm"] >= LEVEL:
        return "no effect shown"
    return "helps" if gain["gain_lc"] > 0 else "hurts"


def sentence(gains: list[dict]) -> str:
    """One sentence with its intervals.

    Args:
        gains: what :func:`poet_gains` returns.
    """
    if not gains:
        return "This run compares no method with and without POET."
    effects = [effect(gain) for gain in gains]
    found = [word for word in ("helps", "hurts") if word in effects]
    if not found:
        answer = "No effect of POET is shown"
    elif len(gains) == 1:
        answer = f"POET {effects[0]}"
    else:
        counts = " and ".join(f"{word} in {effects.count(word)}" for word in found)
        answer = f"POET {counts} of {len(gains)} comparisons"
    named = gains
    if len(gains) > NAMED:
        ordered = sorted(gains, key=lambda gain: gain["gain_lc"])
        named = [ordered[0], ordered[-1]]
        answer += ", the gains ranging"
        joint, lead = " to ", " from "
    else:
        joint, lead = " and ", ": "
    intervals = "; ".join(dict.fromkeys(gain["interval"] for gain in gains))
    return f"{answer}{lead}{joint.join(map(_named, named))} (95 % intervals {intervals})."


def _named(gain: dict) -> str:
    low, high = (signed(gain[bound]) for bound in ("ci_low", "ci_high"))
    return (
        f"{signed(gain['gain_lc'])} [{low}, {high}] points of length-controlled win rate for "
        f"{gain['method']} over {gain['baseline']} on {gain['setting']}, judged by "
        f"{gain['annotator']}"
    )


def signed(value: float, decimals: int = 2) -> str:
    """With a sign, a typographic minus, and no negative zero."""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:+.{decimals}f}".replace("-", "−")
