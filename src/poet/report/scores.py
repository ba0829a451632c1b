"""Rows of the tables of win rates: main, truncation ablation, token-level baselines.

A row has one annotator, and a verdict compares a number with the paper's only where the paper's
own judge gave both.
"""

from __future__ import annotations

from poet.methods.truncation import NONE, POET, TRUNCATIONS, complete, name_of
from poet.methods.weighting import UNIFORM
from poet.report.formats import LENGTH, PERCENT, SHARE, Layout, fixed, same
from poet.report.paper import Paper

SCORES = {
    "n_seeds": 0, "n_prompts": 0,
    "lc_win_rate": PERCENT, "lc_ci_low": PERCENT, "lc_ci_high": PERCENT,
    "lc_prompts_ci_low": PERCENT, "lc_prompts_ci_high": PERCENT, "lc_degenerate_seeds": 0,
    "win_rate": PERCENT, "wr_ci_low": PERCENT, "wr_ci_high": PERCENT,
    "wr_prompts_ci_low": PERCENT, "wr_prompts_ci_high": PERCENT,
    "wr_seed_sd": PERCENT, "wr_judge_sd": PERCENT,
    "avg_length": LENGTH, "share_ended": SHARE, "share_as_start": SHARE,
    "true_reward": SHARE, "true_reward_ci_low": SHARE, "true_reward_ci_high": SHARE,
}  # fmt: skip
GAIN = {
    "gain_lc": PERCENT, "gain_lc_ci_low": PERCENT, "gain_lc_ci_high": PERCENT, "p_holm": SHARE,
    "n_prompts_needed": 0, "share_identical": SHARE,
}  # fmt: skip
SHOWN_SCORES = {
    "annotator": ("annotator",),
    "seeds": ("n_seeds",),
    "prompts": ("n_prompts",),
    "LC win rate %": ("lc_win_rate", "lc_ci_low", "lc_ci_high"),
    "win rate %": ("win_rate", "wr_ci_low", "wr_ci_high"),
    "seed sd": ("wr_seed_sd",),
    "judge sd": ("wr_judge_sd",),
    "length": ("avg_length",),
    "ended": ("share_ended",),
    "as start": ("share_as_start",),
    "true reward": ("true_reward", "true_reward_ci_low", "true_reward_ci_high"),
    "paper's LC": ("paper_lc_win_rate",),
    "verdict": ("verdict",),
    "gain LC": ("gain_lc", "gain_lc_ci_low", "gain_lc_ci_high"),
    "p (Holm)": ("p_holm",),
    "prompts needed": ("n_prompts_needed",),
    "paper's gain": ("paper_gain_lc",),
    "gain's verdict": ("gain_verdict",),
}
MARKS = {
    "LC win rate %": ("lc_degenerate_seeds", "degenerate"),
    "gain LC": ("not_measured", "not measured"),
}
# The ablation's curves with their labels.
CURVES = {r.curve.name: r.curve.label for r in TRUNCATIONS.values() if r.curve}
# The columns before the scores, which are the same in all of these tables.
FIRST = {
    "main": ("setting", "method"),
    "ablation": ("setting", "objective", "truncation", "keep", "method"),
    "baselines": ("setting", "objective", "truncation", "weighting", "method"),
}


def layout(table: str) -> Layout:
    """What is shown of a table."""
    return Layout(same(*FIRST[table]) | SHOWN_SCORES, marks=MARKS)


def main_rows(comparisons: list[dict], paper: Paper) -> list[dict]:
    """One row of text cells per setting x method x annotator, in the order of the comparisons.

    What the paper reports of a setting and no model answered for is a row with the verdict
    ``not run``.

    Args:
        comparisons: what ``poet.evaluate.compare`` writes, one per setting and annotator.
        paper: the paper's numbers of the same table.
    """
    rows = []
    for comparison in comparisons:
        setting, annotator = comparison["setting"], comparison["annotator"]
        gains = {gain["method"]: gain for gain in comparison["gains"]}
        for method in dict.fromkeys([*comparison["methods"], *paper.methods(setting)]):
            found, gain = comparison["methods"].get(method, {}), gains.get(method, {})
            of_gain = {c: gain.get(c.replace("gain_lc_ci", "ci")) for c in GAIN}
            rows.append(
                {"setting": setting, "method": method, "annotator": annotator}
                | {column: fixed(found.get(column), n) for column, n in SCORES.items()}
                | paper.score(comparison, method)
                | {column: fixed(of_gain[column], n) for column, n in GAIN.items()}
                | {"not_measured": gain.get("not_measured") or ""}
                | paper.gain(comparison, gain)
                | {"lc_kind": comparison["lc_kind"], "interval": found.get("interval", "")}
            )
    return rows


def variant(method: dict) -> dict[str, str]:
    """The three choices that make a method of the configuration, as text.

    ``keep``, in percent, is the share of the length that is kept, "" where nothing says it.
    """
    parameters = complete(**method.get("truncation", NONE))
    strategy = parameters.pop("strategy")
    record, weighting = TRUNCATIONS[strategy], method.get("weighting", UNIFORM)
    if isinstance(weighting, dict):
        weighting = " ".join(f"{name} {value:g}" for name, value in weighting.items())
    return {
        "objective": method["objective"],
        "truncation": strategy,
        "keep": f"{100 * record.share(**parameters):g}" if record.curve else "",
        "weighting": weighting,
    }


def belongs(table: str, methods: dict[str, dict], names) -> set[str]:
    """Which of the methods ``names`` a table is about; none where its question is not asked.

    ``ablation``: the truncations of an objective of which one is neither none nor POET's own.
    ``baselines``: the weightings of an objective of which one is not
    uniform, beside the objective alone and with POET.
    """
    variants = {name: variant(methods[name]) for name in names if name in methods}
    if table == "ablation":
        same = {n: v for n, v in variants.items() if v["weighting"] == UNIFORM}
        asking = [v for n, v in same.items() if not _plain(methods[n])]
    else:
        same = {n: v for n, v in variants.items() if _plain(methods[n])}
        asking = [v for v in same.values() if v["weighting"] != UNIFORM]
    objectives = {v["objective"] for v in asking}
    return {name for name, v in same.items() if v["objective"] in objectives}


def _plain(method: dict) -> bool:
    """Whether a method truncates not at all or as the paper's does."""
    return name_of(method.get("truncation", NONE)) in (name_of(NONE), name_of(POET))


def variant_rows(table: str, comparisons: list[dict], paper: Paper, methods: dict) -> list[dict]:
    """The rows of :func:`main_rows` that belong to a table of variants, like beside like.

    Args:
        methods: the section of the configuration, name -> objective, truncation, weighting.
    """
    rows = []
    for comparison in comparisons:
        chosen = belongs(table, methods, comparison["methods"])
        if chosen:
            chosen |= set(paper.methods(comparison["setting"]))
        found = [row for row in main_rows([comparison], paper) if row["method"] in chosen]
        described = [
            (variant(methods[row["method"]]) if row["method"] in methods else {}) | row
            for row in found
        ]
        described.sort(key=lambda row: (row.get("objective", ""), *_order(row)))
        rows += [
            {c: row.get(c, "") for c in dict.fromkeys([*FIRST[table], *row])} for row in described
        ]
    return rows


def _order(row: dict) -> tuple:
    """By curve (whole responses end that of their own shares), then what is on none."""
    curve = TRUNCATIONS[row.get("truncation", NONE["strategy"])].curve
    place = [*CURVES].index(curve.name) if curve else len(CURVES)
    return place, float(row.get("keep", "100") or 0), row.get("weighting", "")


def notes(rows: list[dict]) -> list[str]:
    """What the columns are, below a table of scores, and why numbers have no interval."""

    def said(column: str) -> str:
        return "; ".join(dict.fromkeys(row[column] for row in rows if row[column]))

    missing = []
    if any(row["lc_degenerate_seeds"] not in ("", "0") for row in rows):
        missing.append(
            "degenerate: alpaca-eval's cross-validation chose a penalty that took the model's own "
            "term out of its regression, in as many seeds as the CSV says; that number says "
            "nothing of the model. Look at the win rate."
        )
    if why := said("not_measured"):
        missing.append(f"not measured: {why}.")
    return [
        f"Intervals (95 %): {said('interval')}; the CSV has those over prompts alone, given these "
        f"models, as well. LC: {said('lc_kind')}. seed sd, judge sd: standard deviations of one "
        "run's win rate, from run to run, and where every verdict is drawn once from the judge's "
        "probabilities; prompts needed: to see a gain of that size at 80 % power. "
        "length: characters; "
        "ended: share of answers that ended by themselves; as start: share of answers that are the "
        "start model's to the letter; gain LC: percentage points over the method's baseline, for "
        "POET the same objective without it. verdict: reproduced (the paper's judge, and the "
        "interval within 3 points of its number), direction only (the gain has the paper's sign), "
        "contradicts, inconclusive, different judge, not run.",
        *missing,
    ]
