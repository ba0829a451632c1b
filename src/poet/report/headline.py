"""The answer in one sentence: does POET help, by how much, how sure?

A gain is shown to exist where Holm's corrected p-value is below 5 %; the intervals are 95 %. Where
a gain has neither (``not_measured`` says why), nothing was measured, and the sentence says that.
"""

from __future__ import annotations

from poet.methods.truncation import NONE, POET, name_of

LEVEL = 0.05
# Up to so many gains are named in the sentence; of more, the smallest and the largest.
NAMED = 2


def poet_gains(comparisons: list[dict], methods: dict[str, dict]) -> list[dict]:
    """The gains of the comparisons in which POET is what differs, with where they were found.

    Args:
        comparisons: what ``poet.evaluate.compare`` writes.
        methods: that section of the configuration.

    Returns:
        The gains with setting, annotator, and the method's n_seeds and share_as_start (None where
        the start model was not compared).
    """
    return [
        {"setting": comparison["setting"], "annotator": comparison["annotator"]}
        | {
            key: comparison["methods"][gain["method"]].get(key)
            for key in ("n_seeds", "share_as_start")
        }
        | gain
        for comparison in comparisons
        for gain in comparison["gains"]
        if is_poet(gain["method"], methods)
    ]


def is_poet(method: str, methods: dict[str, dict]) -> bool:
    """Whether a method truncates to the shorter response's length, and not to a share of it."""
    return name_of(methods.get(method, {}).get("truncation", NONE)) == name_of(POET)


def effect(gain: dict) -> str:
    """``helps``, ``hurts``, ``no effect shown``, or ``not measured``."""
    if gain["p_holm"] is None:
        return "not measured"
    if gain["p_holm"] >= LEVEL:
        return "no effect shown"
    return "helps" if gain["gain_lc"] > 0 else "hurts"


def sentence(gains: list[dict]) -> str:
    """The answer with its intervals, and what of it was not measured.

    Args:
        gains: what :func:`poet_gains` returns.
    """
    if not gains:
        return "This run compares no method with and without POET."
    measured = [gain for gain in gains if effect(gain) != "not measured"]
    places: dict[str, list[str]] = {}
    for gain in gains:
        if effect(gain) == "not measured":
            places.setdefault(why_not(gain), []).append(_place(gain))
    missing = "; ".join(f"{' and '.join(of)}: {why}" for why, of in places.items())
    if not measured:
        return f"Whether POET helps was not measured. {missing}."
    found = _measured(measured)
    return f"{found} Not measured: {missing}." if missing else found


def _measured(gains: list[dict]) -> str:
    effects = [effect(gain) for gain in gains]
    found = [word for word in ("helps", "hurts") if word in effects]
    if not found:
        answer = "No effect of POET is shown"
    elif len(gains) == 1:
        answer = f"POET {effects[0]}"
    else:
        counts = " and ".join(f"{word} in {effects.count(word)}" for word in found)
        answer = f"POET {counts} of {len(gains)} comparisons"
    named, lead, joint = gains, ": ", " and "
    if len(gains) > NAMED:
        ordered = sorted(gains, key=lambda gain: gain["gain_lc"])
        named, lead, joint = [ordered[0], ordered[-1]], ", the gains ranging from ", " to "
    intervals = "; ".join(dict.fromkeys(gain["interval"] for gain in gains))
    return f"{answer}{lead}{joint.join(map(_named, named))} (95 % intervals {intervals})."


def why_not(gain: dict) -> str:
    """Why a gain was not measured, and what to do."""
    match gain.get("not_measured"):
        case "identical answers":
            if gain["share_as_start"] == 1:
                return (
                    "with and without POET, every answer is the very same as the start model's, so "
                    "training moved the model too little to tell (learning rate, steps)"
                )
            return "with and without POET, every answer is the very same"
        case "degenerate length control":
            return (
                "alpaca-eval's length control is degenerate here (its penalty took the model's own "
                f"term to zero); the raw win rate differs by {signed(gain['gain_wr'])} points "
                f"{interval(gain, 'wr_')}".rstrip()
            )
    return (
        f"the win rate differs by {signed(gain['gain_wr'])} points at every prompt, and where "
        "nothing varies there is no interval"
    )


def _named(gain: dict) -> str:
    return (
        f"{signed(gain['gain_lc'])} {interval(gain)} points of length-controlled win rate for "
        f"{_place(gain)}"
    )


def _place(gain: dict) -> str:
    return (
        f"{gain['method']} over {gain['baseline']} on {gain['setting']}, judged by "
        f"{gain['annotator']}"
    )


def interval(gain: dict, prefix: str = "", decimals: int = 2) -> str:
    """``[low, high]`` of a gain whose keys begin with ``prefix``; empty where there is none."""
    low, high = (gain[f"{prefix}{bound}"] for bound in ("ci_low", "ci_high"))
    return "" if low is None else f"[{signed(low, decimals)}, {signed(high, decimals)}]"


def signed(value: float, decimals: int = 2) -> str:
    """With a sign, a typographic minus, and no negative zero."""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:+.{decimals}f}".replace("-", "−")
