"""The prefix table: gaps of chosen and rejected, surviving orders, the models' own prefixes.

Rewards are in the annotator's unit, on whose scale no margin is known to be harmless: a gap is
never ``reproduced``, its sign is what is compared. Surviving orders are in percent.
"""

from __future__ import annotations

from poet.evaluate.statistics import same_direction, verdict
from poet.report.formats import PERCENT, SHARE, Layout, fixed, same
from poet.report.paper import interval_of

LAYOUT = Layout(
    {
        **same("setting", "measure", "method", "annotator", "k", "n"),
        "seeds": ("n_seeds",),
        "value": ("value", "ci_low", "ci_high"),
        "true value": ("true_value",),
        "gain": ("gain", "gain_ci_low", "gain_ci_high"),
        "p (Holm)": ("p_holm",),
        "paper's": ("paper_value",),
        "verdict": ("verdict",),
    }
)
NOTES = (
    "Intervals (95 %): over pairs; of own prefixes over prompts and seeds. k: tokens. gap: "
    "Q(chosen prefix) - Q(rejected prefix), Q being the reward of a prefix as the start model "
    "completes it; order kept: percent of the pairs whose order survives POET's truncation; own: "
    "quality of what a model writes first; gain: over the same objective without POET. true value: "
    "over the pairs of which it is known.",
)


def rows_of(measured: list[dict], reported: list[dict], paper_annotators=()) -> list[dict]:
    """Rows of text cells.

    Args:
        measured: what ``poet.analyse.prefix_quality`` writes, one per setting.
        reported: the paper's numbers, see :func:`poet.report.paper.read_reported`.
        paper_annotators: names in the configuration of the reward model that the paper used.
    """
    rows = []
    for found in measured:
        pairs, own = found["pairs"], found["own"]
        values = {
            row["metric"]: row["value"]
            for row in reported
            if row["table"] in ("prefix_gap", "analysis")
            and row["setting"] in ("", found["setting"])
        }
        alike = found["annotator"] in paper_annotators
        who = {"setting": found["setting"], "annotator": found["annotator"]}
        rows += [who | {"measure": "gap"} | _cells(g, values, alike, SHARE) for g in pairs["gaps"]]
        rows.append(
            who | {"measure": "order kept (%)"} | _cells(pairs["order"], values, alike, PERCENT)
        )
        gains = {(gain["method"], gain["k"]): gain for gain in own["gains"]}
        rows += [
            who | {"measure": "own"} | _own_cells(row, gains.get((row["method"], row["k"]), {}))
            for row in own["methods"]
        ]
    columns = dict.fromkeys(column for of in LAYOUT.shown.values() for column in of)
    return [{column: row.get(column, "") for column in columns} for row in rows]


def _cells(found: dict, values: dict, same: bool, digits: int) -> dict:
    exact, paper = found["exact"], values.get(found["metric"], "")
    return {
        "k": str(found.get("k", "")),
        "n": str(found["n_pairs"]),
        **{column: fixed(found[column], digits) for column in ("value", "ci_low", "ci_high")},
        "true_value": fixed(exact["value"], digits) if exact else "",
        "paper_value": paper,
        "verdict": _verdict(found, float(paper), same) if paper else "",
    }


def _verdict(found: dict, paper: float, same: bool) -> str:
    interval = interval_of(found, "ci")
    if "k" not in found:  # surviving orders, in percent
        return verdict(interval, paper, same)
    return verdict(interval, paper, same, same_direction(interval, paper), margin=0.0)


def _own_cells(row: dict, gain: dict) -> dict:
    of_gain = {"gain": "gain", "gain_ci_low": "ci_low", "gain_ci_high": "ci_high"}
    return {
        "method": row["method"],
        "k": str(row["k"]),
        "n": str(row["n_prompts"]),
        "n_seeds": str(row["n_seeds"]),
        **{column: fixed(row[column], SHARE) for column in ("value", "ci_low", "ci_high")},
        **{column: fixed(gain.get(key), SHARE) for column, key in of_gain.items()},
        "p_holm": fixed(gain.get("p_holm"), SHARE),
    }
