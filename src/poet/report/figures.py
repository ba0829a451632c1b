"""The figures, each as SVG and PNG with the CSV it was drawn from.

The same numbers give the same bytes: no dates, a fixed salt for SVG ids, text as text.
"""

from __future__ import annotations

import argparse
import statistics

from poet.files import UserError, cli, publish, read_json
from poet.report.formats import csv_text, fixed

# From Okabe and Ito's palette, distinct to colour-blind eyes; markers and dashes differ too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
STYLE = {
    "svg.hashsalt": "poet",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.dpi": 150,
}
# metric -> (label, column prefix of the interval, colour, marker, vertical offset in rows)
WIN_RATES = {
    "lc_win_rate": ("length-controlled win rate", "lc", BLUE, "o", 0.14),
    "win_rate": ("win rate", "wr", ORANGE, "s", -0.14),
}
REWARDS = {"chosen": (BLUE, "-"), "rejected": (ORANGE, "--"), "margins": (GREEN, "-")}
# What an implicit reward is: beta times a log-ratio of sums, or of a mean without a reference.
REWARD_LABELS = {"dpo": ("β log π/π_ref", "nats"), "simpo": ("β mean log π", "nats per token")}
PANELS_PER_ROW = 4


def win_rate_rows(comparisons: list[dict]) -> list[dict]:
    """One row per setting, annotator, method and metric, in percent, as text with two decimals."""
    return [
        {
            "setting": comparison["setting"],
            "annotator": comparison["annotator"],
            "method": method,
            "n_seeds": str(found["n_seeds"]),
            "n_prompts": str(found["n_prompts"]),
            "metric": metric,
            "value": fixed(found[metric], 2),
            "ci_low": fixed(found[f"{prefix}_ci_low"], 2),
            "ci_high": fixed(found[f"{prefix}_ci_high"], 2),
            "interval": found["interval"],
        }
        for comparison in comparisons
        for method, found in comparison["methods"].items()
        for metric, (_, prefix, *_) in WIN_RATES.items()
        if found[metric] is not None
    ]


def draw_win_rates(rows: list[dict]):
    """Dots with intervals: a panel per setting and annotator, a line per method, first on top."""
    import matplotlib.pyplot as plt

    panels: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        panels.setdefault((row["setting"], row["annotator"]), []).append(row)
    lines = [len({row["method"] for row in panel}) for panel in panels.values()]
    figure, axes = plt.subplots(
        len(panels), squeeze=False, sharex=True, layout="constrained",
        figsize=(6.5, 1.1 + sum(0.45 * n + 0.5 for n in lines)), height_ratios=lines,
    )  # fmt: skip
    for axis, ((setting, annotator), panel) in zip(axes[:, 0], panels.items(), strict=True):
        _win_rate_panel(axis, panel)
        n = "/".join(dict.fromkeys(row["n_prompts"] for row in panel))
        axis.set_title(f"{setting}, annotator {annotator}, n = {n} prompts", loc="left", fontsize=9)
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
        values = [float(row["value"]) for row in drawn]
        y = [position[row["method"]] + offset for row in drawn]
        axis.plot(values, y, marker, color=colour, markersize=5, label=label)
        bounded = [(row, at) for row, at in zip(drawn, y, strict=True) if row["ci_low"]]
        axis.hlines(
            [at for _, at in bounded],
            [float(row["ci_low"]) for row, _ in bounded],
            [float(row["ci_high"]) for row, _ in bounded],
            colors=colour, linewidth=1.5,
        )  # fmt: skip
    axis.axvline(50, color=GREY, linestyle=":", linewidth=1)
    axis.set_yticks(
        list(position.values()),
        [f"{method} ({n} {'seed' if n == '1' else 'seeds'})" for method, n in seeds.items()],
    )
    axis.set_ylim(0.5 - len(seeds), 0.5)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)


def training_rows(runs: list[tuple[str, str, list[str]]]) -> list[dict]:
    """Implicit rewards over training: mean, minimum and maximum over seeds, a row per logged step.

    Args:
        runs: (setting, method, paths of ``train.json``, one per seed) in the order of the panels.

    Raises:
        UserError: a file whose ``log_history`` holds no rewards.
    """
    rows = []
    for setting, method, paths in runs:
        seeds = [_rewards(path) for path in paths]
        objective = read_json(paths[0])["record"]["objective"]
        for step in sorted(set.intersection(*map(set, seeds))):
            row = {"setting": setting, "method": method, "objective": objective}
            row |= {"n_seeds": str(len(seeds)), "step": str(step)}
            for name in REWARDS:
                values = [seed[step][f"rewards/{name}"] for seed in seeds]
                row[f"{name}_mean"] = fixed(statistics.fmean(values), 6)
                row[f"{name}_min"] = fixed(min(values), 6)
                row[f"{name}_max"] = fixed(max(values), 6)
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

    panels: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        panels.setdefault((row["setting"], row["method"]), []).append(row)
    columns = min(len(panels), PANELS_PER_ROW)
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        2 * lines, columns, squeeze=False, layout="constrained",
        figsize=(2.9 * columns + 0.3, 3.9 * lines + 0.4), height_ratios=[3, 2] * lines,
    )  # fmt: skip
    for axis in axes.flat[:]:
        axis.set_visible(False)
    for i, ((setting, method), panel) in enumerate(panels.items()):
        above, below = (axes[2 * (i // columns) + k, i % columns] for k in (0, 1))
        _reward_lines(above, panel, ["chosen", "rejected"])
        _reward_lines(below, panel, ["margins"])
        n = panel[0]["n_seeds"]
        of_seeds = f"{n} {'seed' if n == '1' else 'seeds'}"
        above.set_title(f"{setting}, {method} ({of_seeds})", fontsize=9)
        reward, unit = REWARD_LABELS[panel[0]["objective"]]
        above.set_ylabel(f"implicit reward\n{reward} ({unit})", fontsize=8)
        below.set_ylabel(f"margin\n({unit})", fontsize=8)
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
        mean, low, high = (
            [float(row[f"{name}_{end}"]) for row in panel] for end in ("mean", "min", "max")
        )
        axis.plot(steps, mean, dashes, color=colour, linewidth=1.5, label=name)
        axis.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axis.grid(color="#dddddd", linewidth=0.6)


def save(rows: list[dict], draw, outputs: list[str]) -> None:
    """Write ``rows`` (.csv) and the figure that ``draw`` makes of them (.svg, .png).

    Raises:
        UserError: a suffix other than these.
    """
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE):
        figure = draw(rows)
        for output in outputs:
            with publish(output) as path:
                match path.suffix:
                    case ".csv":
                        path.write_text(csv_text(rows), encoding="utf-8")
                    case ".svg":
                        figure.savefig(path, metadata={"Date": None})
                    case ".png":
                        figure.savefig(path, metadata={"Software": None})
                    case other:
                        raise UserError(f"{output}: suffix {other!r}; expected .svg, .png or .csv")
        matplotlib.pyplot.close(figure)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    figures = parser.add_subparsers(dest="figure", required=True)
    win_rates = figures.add_parser("win-rates", help="win rates with intervals, per method")
    win_rates.add_argument("--comparison", nargs="+", required=True, help="comparison.json files")
    training = figures.add_parser("training", help="implicit rewards and margins over training")
    training.add_argument(
        "--runs", nargs="+", action="append", required=True,
        metavar="SETTING METHOD FILE", help="one train.json per seed; repeat for each panel",
    )  # fmt: skip
    for figure in (win_rates, training):
        figure.add_argument("--output", nargs="+", required=True, help=".svg, .png and .csv files")
    args = parser.parse_args(argv)
    if args.figure == "win-rates":
        rows = win_rate_rows([*map(read_json, args.comparison)])
        save(rows, draw_win_rates, args.output)
    else:
        rows = training_rows([(setting, method, files) for setting, method, *files in args.runs])
        save(rows, draw_training, args.output)


if __name__ == "__main__":
    cli(main)
