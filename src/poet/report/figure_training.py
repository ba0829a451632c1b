"""The training curves: implicit rewards of chosen and rejected, and their margin."""

from __future__ import annotations

import statistics

from poet.files import UserError, read_json
from poet.methods import SIDES
from poet.methods.objectives import OBJECTIVES
from poet.report.formats import fixed
from poet.report.style import BLUE, GREEN, ORANGE, numbers, panels_of, seeds_of

REWARDS = {"chosen": (BLUE, "-"), "rejected": (ORANGE, "--"), "margins": (GREEN, "-")}
PANELS_PER_ROW = 4


def training_rows(runs: dict[tuple[str, str], list[str]]) -> list[dict]:
    """Implicit rewards over training: mean, minimum and maximum over seeds, a row per logged step.

    Args:
        runs: (setting, method) -> trained models, one per seed; in order of the panels.

    Raises:
        UserError: a model whose ``log_history`` in ``train.json`` holds no rewards.
    """
    rows = []
    for (setting, method), models in runs.items():
        seeds = [_rewards(f"{model}/train.json") for model in models]
        objective = read_json(f"{models[0]}/train.json")["record"]["objective"]
        for step in sorted(set.intersection(*map(set, seeds))):
            row = {"setting": setting, "method": method, "objective": objective}
            row |= {"n_seeds": str(len(seeds)), "step": str(step)}
            for name in REWARDS:
                values = [seed[step][f"rewards/{name}"] for seed in seeds]
                for end, of in (("mean", statistics.fmean), ("min", min), ("max", max)):
                    row[f"{name}_{end}"] = fixed(of(values), 6)
            rows.append(row)
    return rows


def _rewards(path: str) -> dict[int, dict]:
    steps = {row["step"]: row for row in read_json(path)["log_history"] if "rewards/chosen" in row}
    if not steps:
        raise UserError(f"{path}: log_history has no row with the key rewards/chosen")
    return steps


def draw_training(rows: list[dict]):
    """Rewards of chosen and rejected above their margin: two panels per setting and method."""
    import matplotlib.pyplot as plt

    panels = panels_of(rows, "setting", "method")
    columns = min(len(panels), PANELS_PER_ROW)
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        2 * lines, columns, squeeze=False, layout="constrained",
        figsize=(2.9 * columns + 0.3, 3.9 * lines + 0.4), height_ratios=[3, 2] * lines,
    )  # fmt: skip
    for axis in axes.flat:
        axis.set_visible(False)
    for i, ((setting, method), panel) in enumerate(panels.items()):
        above, below = (axes[2 * (i // columns) + k, i % columns] for k in (0, 1))
        _reward_lines(above, panel, SIDES)
        _reward_lines(below, panel, ["margins"])
        above.set_title(f"{setting}, {method} ({seeds_of(panel[0]['n_seeds'])})", loc="center")
        objective = OBJECTIVES[panel[0]["objective"]]
        above.set_ylabel(f"implicit reward\n{objective.label} ({objective.unit})", fontsize=8)
        below.set_ylabel(f"margin\n({objective.unit})", fontsize=8)
        below.set_xlabel("optimizer step")
    handles = [line for axis in axes[:2, 0] for line in axis.get_legend_handles_labels()[0]]
    figure.legend(
        handles, ["chosen", "rejected", "margin (chosen - rejected); band: range over seeds"],
        loc="outside upper center", ncols=3,
    )  # fmt: skip
    return figure


def _reward_lines(axis, panel: list[dict], names: list[str]) -> None:
    axis.set_visible(True)
    steps = [int(row["step"]) for row in panel]
    for name in names:
        colour, dashes = REWARDS[name]
        mean, low, high = (numbers(panel, f"{name}_{end}") for end in ("mean", "min", "max"))
        axis.plot(steps, mean, dashes, color=colour, linewidth=1.5, label=name)
        axis.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
