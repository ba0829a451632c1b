"""Figures of scores: win rates, length control against length, the truncation ablation, lengths.

Rows are text, as in the tables; a figure's CSV holds the rows that it was drawn from.
"""

from __future__ import annotations

from poet.evaluate.prompts import read_rows
from poet.methods.truncation import TRUNCATIONS
from poet.report.formats import LENGTH, fixed
from poet.report.scores import CURVES
from poet.report.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    grid_of_panels,
    numbers,
    panels_of,
    seeds_of,
)

# metric -> (label, column prefix of the interval, colour, marker, vertical offset in rows)
WIN_RATES = {
    "lc_win_rate": ("length-controlled win rate", "lc", BLUE, "o", 0.14),
    "win_rate": ("win rate", "wr", ORANGE, "s", -0.14),
}
# (colour, marker) of what POET is compared with, of POET, and of the rest
ROLES = {"baseline": (BLUE, "o"), "method": (ORANGE, "s"), "other": (GREY, "D")}
# How the ablation's curves are drawn, by turns.
CURVE_STYLES = [(BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (GREY, "D")]
N = ("n_seeds", "n_prompts")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def _title(setting: str, annotator: str, panel: list[dict]) -> str:
    n = "/".join(dict.fromkeys(row["n_prompts"] for row in panel))
    return f"{setting}, annotator {annotator}, n = {n} prompts"


def win_rate_rows(table: list[dict]) -> list[dict]:
    """One row per setting, annotator, method and metric of the main table, in percent."""
    return [
        {column: row[column] for column in ("setting", "annotator", "method", *N)}
        | {"metric": metric, "value": row[metric]}
        | {end: row[f"{prefix}_{end}"] for end in ("ci_low", "ci_high")}
        | {"interval": row["interval"]}
        for row in table
        for metric, (_, prefix, *_) in WIN_RATES.items()
        if row[metric]
    ]


def draw_win_rates(rows: list[dict]):
    """Dots with intervals: a panel per setting and annotator, a line per method, first on top."""
    import matplotlib.pyplot as plt

    panels = panels_of(rows, "setting", "annotator")
    lines = [len({row["method"] for row in panel}) for panel in panels.values()]
    figure, axes = plt.subplots(
        len(panels), squeeze=False, sharex=True, layout="constrained",
        figsize=(6.5, 1.1 + sum(0.45 * n + 0.5 for n in lines)), height_ratios=lines,
    )  # fmt: skip
    for axis, ((setting, annotator), panel) in zip(axes[:, 0], panels.items(), strict=True):
        _win_rate_panel(axis, panel)
        axis.set_title(_title(setting, annotator, panel))
    intervals = "; ".join(dict.fromkeys(row["interval"] for row in rows))
    axes[-1, 0].set_xlabel(f"wins over the reference answers (%)\n95 % intervals {intervals}")
    legend = {line.get_label(): line for axis in axes[:, 0] for line in axis.lines}
    labels = [label for label, *_ in WIN_RATES.values() if label in legend]
    handles = [legend[label] for label in labels]
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _win_rate_panel(axis, panel: list[dict]) -> None:
    seeds = {row["method"]: row["n_seeds"] for row in panel}
    position = {method: -i for i, method in enumerate(seeds)}
    for metric, (label, _, colour, marker, offset) in WIN_RATES.items():
        drawn = [row for row in panel if row["metric"] == metric]
        if not drawn:
            continue
        y = [position[row["method"]] + offset for row in drawn]
        axis.plot(numbers(drawn, "value"), y, marker, color=colour, markersize=5, label=label)
        bounded = [row for row in drawn if row["ci_low"]]
        at = [position[row["method"]] + offset for row in bounded]
        bounds = (numbers(bounded, end) for end in ("ci_low", "ci_high"))
        axis.hlines(at, *bounds, colors=colour, linewidth=1.5)
    axis.axvline(50, color=GREY, linestyle=":", linewidth=1)
    labels = [f"{method} ({seeds_of(n)})" for method, n in seeds.items()]
    axis.set_yticks(list(position.values()), labels)
    axis.set_ylim(0.5 - len(seeds), 0.5)
    axis.grid(False, axis="y")


def length_control_rows(table: list[dict], gains: dict[str, str]) -> list[dict]:
    """Length and length-controlled win rate of every method of the main table that was run.

    Args:
        gains: method -> baseline; a baseline is named where its row has one.
    """
    columns = ("lc_win_rate", "lc_ci_low", "lc_ci_high", "avg_length", "interval")
    return [
        {column: row[column] for column in ("setting", "annotator", "method")}
        | {"baseline": gains.get(row["method"], "")}
        | {column: row[column] for column in (*N, *columns)}
        for row in table
        if row["lc_win_rate"]
    ]


def draw_length_control(rows: list[dict]):
    """Win rate against length: a panel per setting and annotator, an arrow from each baseline."""
    panels = panels_of(rows, "setting", "annotator")
    figure, axes = grid_of_panels(panels, 2, 4.2, 3.2, (0.6, 0.3))
    for axis, ((setting, annotator), panel) in zip(axes, panels.items(), strict=True):
        at = {r["method"]: (float(r["avg_length"]), float(r["lc_win_rate"])) for r in panel}
        baselines = {row["baseline"] for row in panel}
        for row in panel:
            compared = row["baseline"] in at
            role = "method" if compared else "baseline" if row["method"] in baselines else "other"
            colour, marker = ROLES[role]
            _point(axis, row, at[row["method"]], colour, marker)
            if compared:
                arrow = {"arrowstyle": "->", "color": GREY, "shrinkA": 5, "shrinkB": 5}
                axis.annotate("", at[row["method"]], at[row["baseline"]], arrowprops=arrow)
        axis.set_title(_title(setting, annotator, panel))
        axis.set_xlabel("mean length of the answers (characters)")
        axis.set_ylabel("length-controlled win rate (%)\n95 % intervals")
        axis.margins(x=0.25)
    return figure


def _point(axis, row: dict, at: tuple[float, float], colour: str, marker: str) -> None:
    axis.plot(*at, marker, color=colour, markersize=6)
    if row["lc_ci_low"]:
        axis.vlines(at[0], float(row["lc_ci_low"]), float(row["lc_ci_high"]), colors=colour)
    # Away from the arrow, which mostly points to the right.
    side = 1 if row["baseline"] else -1
    axis.annotate(
        row["method"], at, xytext=(6 * side, 6 * side), textcoords="offset points", fontsize=8,
        ha="left" if side == 1 else "right", va="center",
    )  # fmt: skip


def ablation_rows(table: list[dict]) -> list[dict]:
    """Points of the ablation's curves; what lies on none has no share in the table."""
    columns = ("lc_win_rate", "lc_ci_low", "lc_ci_high", "paper_lc_win_rate", "interval")
    return [
        {column: row[column] for column in ("setting", "annotator", "objective")}
        | {"curve": TRUNCATIONS[row["truncation"]].curve.name, "keep": row["keep"]}
        | {column: row[column] for column in (*N, *columns)}
        for row in table
        if row["keep"]
    ]


def draw_ablation(rows: list[dict]):
    """Win rate against the share kept: ours with intervals, and dotted the paper's."""
    panels = panels_of(rows, "setting", "annotator", "objective")
    figure, axes = grid_of_panels(panels, 1, 5.5, 3.2, (0, 0.3))
    for axis, ((setting, annotator, objective), panel) in zip(axes, panels.items(), strict=True):
        for (name,), points in panels_of(panel, "curve").items():
            colour, marker = CURVE_STYLES[[*CURVES].index(name) % len(CURVE_STYLES)]
            label = CURVES[name]
            _curve(axis, points, "lc_win_rate", color=colour, marker=marker, label=label)
            ours = [row for row in points if row["lc_ci_low"]]
            bounds = (numbers(ours, column) for column in ("keep", "lc_ci_low", "lc_ci_high"))
            axis.vlines(*bounds, colors=colour, linewidth=1)
            paper = {"color": colour, "marker": marker, "linestyle": ":", "markerfacecolor": "none"}
            _curve(axis, points, "paper_lc_win_rate", **paper, label=f"{label}, the paper's")
        run = [row for row in panel if row["n_prompts"]]
        axis.set_title(f"{objective}, {_title(setting, annotator, run)}")
        axis.set_xlabel("share of the length that is kept (%)")
        axis.set_ylabel("length-controlled win rate (%)\n95 % intervals")
        axis.legend(fontsize=8)
    return figure


def _curve(axis, points: list[dict], column: str, **style) -> None:
    drawn = sorted((float(row["keep"]), float(row[column])) for row in points if row[column])
    if drawn:
        axis.plot(*zip(*drawn, strict=True), **style)


def length_rows(annotations: dict[tuple[str, str], list[str]]) -> list[dict]:
    """Quantiles of lengths in characters, of each setting's reference answers and every method's.

    Args:
        annotations: (setting, method) -> files in alpaca-eval's format, one per seed.
    """
    import numpy as np

    found: dict[tuple[str, str], tuple[int, list[int]]] = {}
    for (setting, method), files in annotations.items():
        of_seeds = [*map(read_rows, files)]
        reference = [len(row["output_1"]) for row in of_seeds[0]]
        found.setdefault((setting, "reference"), (1, reference))
        lengths = [len(row["output_2"]) for rows in of_seeds for row in rows]
        found[setting, method] = (len(files), lengths)
    return [
        {"setting": setting, "writer": writer, "n_seeds": str(n), "n_answers": str(len(lengths))}
        | {"mean": fixed(float(np.mean(lengths)), LENGTH)}
        | {f"q{q * 100:02.0f}": fixed(float(np.quantile(lengths, q)), LENGTH) for q in QUANTILES}
        for (setting, writer), (n, lengths) in found.items()
    ]


def draw_lengths(rows: list[dict]):
    """Boxes from quartile to quartile, whiskers from 5 to 95 %, a dot at the mean."""
    import matplotlib.pyplot as plt

    panels = panels_of(rows, "setting")
    lines = [len(panel) for panel in panels.values()]
    figure, axes = plt.subplots(
        len(panels), squeeze=False, layout="constrained",
        figsize=(6.5, 0.8 + sum(0.35 * n + 0.5 for n in lines)), height_ratios=lines,
    )  # fmt: skip
    for axis, ((setting,), panel) in zip(axes[:, 0], panels.items(), strict=True):
        ends = ("whislo", "q1", "med", "q3", "whishi")
        keys = [f"q{q * 100:02.0f}" for q in QUANTILES]
        boxes = [
            {end: float(row[key]) for end, key in zip(ends, keys, strict=True)}
            | {"mean": float(row["mean"]), "label": f"{row['writer']} (n = {row['n_answers']})"}
            for row in panel
        ]
        axis.bxp(
            boxes, orientation="horizontal", showfliers=False, showmeans=True,
            medianprops={"color": ORANGE, "linewidth": 2},
            meanprops={"marker": "o", "markerfacecolor": BLUE, "markeredgecolor": BLUE},
        )  # fmt: skip
        axis.invert_yaxis()
        axis.set_title(setting)
        axis.grid(False, axis="y")
    axes[-1, 0].set_xlabel("length of an answer (characters): 5, 25, 50, 75, 95 %; dot: mean")
    return figure
