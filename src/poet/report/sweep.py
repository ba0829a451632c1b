"""The sweep's table: every cell of beta and learning rate, and what the chosen ones are worth."""

from __future__ import annotations

from collections import defaultdict

from poet.report.formats import SHARE, Layout, fixed, same
from poet.report.paper import Paper
from poet.report.scores import GAIN, MARKS, SCORES, SHOWN_SCORES, main_rows

VALIDATED = ("validation_reward", "validation_reward_se", "pair_accuracy")
LAYOUT = Layout(
    {
        **same("setting", "arm", "beta"),
        "learning rate": ("learning_rate",),
        "validation reward": ("validation_reward",),
        "± se": ("validation_reward_se",),
        "pairs ranked right": ("pair_accuracy",),
        "chosen": ("chosen",),
        **SHOWN_SCORES,
    },
    marks=MARKS,
)
NOTES = (
    "validation reward: mean true reward of one answer, by the first seed's model, to the prompt "
    "of each held-out pair, with its standard error over prompts; it chooses. pairs ranked right: "
    "share of the held-out pairs, by implicit rewards. The scores behind it: all seeds of the "
    "chosen cells on the evaluation prompts, with 95 % intervals over prompts and seeds; gain LC: "
    "percentage points over the chosen cell of the same objective without POET.",
)


def rows_of(validations: list[dict], comparisons: list[dict]) -> list[dict]:
    """One row of text cells per cell and annotator; scores only where the cell was chosen.

    Args:
        validations: what ``poet.evaluate.validation`` writes, one per setting and arm.
        comparisons: what ``poet.evaluate.compare`` writes of the chosen cells.
    """
    scores = defaultdict(list)
    for row in main_rows(comparisons, Paper({})):  # the paper swept nothing
        scores[row["setting"], row["method"]].append(row)
    kept = ("annotator", *SCORES, *GAIN, "not_measured", "lc_kind", "interval")
    rows = []
    for found in validations:
        for cell in found["cells"]:
            row = {"setting": found["setting"], "arm": found["arm"], "method": cell["method"]}
            row |= {key: f"{cell[key]:g}" for key in ("beta", "learning_rate")}
            row |= {key: fixed(cell[key], SHARE) for key in VALIDATED}
            row |= {"chosen": "yes" if cell["method"] == found["chosen"] else ""}
            for final in scores[found["setting"], cell["method"]] or [{}]:
                rows.append(row | {key: final.get(key, "") for key in kept})
    return rows
