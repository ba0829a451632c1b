"""Figures of the analyses: lengths of pairs, quality of prefixes, margins and entropy by position.

Drawn from the CSV files that ``poet.analyse`` writes, whose columns its modules describe.
"""

from __future__ import annotations

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

# Colour says the objective's method, dashes and marker whether POET truncated: one style per method
STYLES = [
    {"color": GREY, "marker": "D", "linestyle": ":"},
    {"color": BLUE, "marker": "o", "linestyle": "-"},
    {"color": ORANGE, "marker": "s", "linestyle": "--"},
    {"color": GREEN, "marker": "^", "linestyle": "-."},
    {"color": "#CC79A7", "marker": "v", "linestyle": "-"},
    {"color": "#56B4E9", "marker": "P", "linestyle": "--"},
    {"color": "#E69F00", "marker": "X", "linestyle": "-."},
]


def _styles(methods) -> dict[str, dict]:
    return {m: STYLES[i % len(STYLES)] for i, m in enumerate(dict.fromkeys(methods))}


def _band(axis, rows: list[dict], x: str, value: str, **style) -> None:
    axis.plot(numbers(rows, x), numbers(rows, value), markersize=4, linewidth=1.5, **style)
    # `before` is bounded by `before_ci_low`, `value` by `ci_low`.
    low, high = (f"{value}_{end}".removeprefix("value_") for end in ("ci_low", "ci_high"))
    bounded = [row for row in rows if row.get(low)]
    bounds = (numbers(bounded, column) for column in (x, low, high))
    axis.fill_between(*bounds, color=style["color"], alpha=0.15, linewidth=0)


def _log2(axis) -> None:
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")


def draw_prefix_quality(rows: list[dict]):
    """Gap of chosen and rejected prefixes, and quality of the models' own, against k."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, layout="constrained", figsize=(8.6, 3.6))
    gaps = [row for row in rows if row["measure"] == "dq"]
    _band(left, gaps, "k", "value", color=BLUE, marker="o", label="estimated; band: 95 % interval")
    exact = [row for row in rows if row["measure"] == "dq_exact"]
    if exact:
        style = {"color": ORANGE, "marker": "x", "linestyle": ":"}
        _band(left, exact, "k", "value", label="true, where it is known", **style)
    left.axhline(0, color=GREY, linewidth=0.8)
    left.legend(fontsize=8)
    left.set_title(f"{rows[0]['setting']}, {_n(gaps)} pairs")
    left.set_ylabel("Q(chosen prefix) − Q(rejected prefix)\n(reward)")
    own = [row for row in rows if row["measure"] == "own"]
    _dodged(right, panels_of(own, "method"))
    right.set_title(f"what the models write, {_n(own)} prompts")
    right.set_ylabel("quality of the first k tokens\n(reward; 95 % intervals)")
    for axis, drawn in ((left, gaps), (right, own)):
        _log2(axis)
        ticks = sorted({int(row["k"]) for row in drawn})
        axis.set_xticks(ticks, [str(k) for k in ticks])
        axis.set_xlabel("prefix length k (tokens)")
    return figure


def _dodged(axis, methods: dict) -> None:
    """A line with intervals per method, each a little to the side of the last (k on a log axis)."""
    styles = _styles(method for (method,) in methods)
    for i, ((method,), points) in enumerate(methods.items()):
        at = [float(row["k"]) * 2 ** (0.09 * (i - (len(methods) - 1) / 2)) for row in points]
        style = styles[method]
        axis.plot(at, numbers(points, "value"), markersize=4, linewidth=1, label=method, **style)
        bounded = [(x, row) for x, row in zip(at, points, strict=True) if row["ci_low"]]
        low, high = ([float(row[end]) for _, row in bounded] for end in ("ci_low", "ci_high"))
        axis.vlines([x for x, _ in bounded], low, high, colors=style["color"], linewidth=1)
    axis.legend(fontsize=8)


def _n(rows: list[dict]) -> str:
    return "n = " + "/".join(dict.fromkeys(row["n"] for row in rows))


def draw_margins(rows: list[dict]):
    """Implicit-reward margin of every prefix before and after training: a panel per method."""
    panels = panels_of(rows, "setting", "method")
    figure, axes = grid_of_panels(panels, 4, 2.9, 2.8)
    for axis, ((setting, method), points) in zip(axes, panels.items(), strict=True):
        _band(axis, points, "prefix_length", "before", color=GREY, linestyle=":", label="before")
        _band(axis, points, "prefix_length", "after", color=BLUE, label="after")
        axis.axhline(0, color=GREY, linewidth=0.8)
        seeds, n = seeds_of(points[0]["n_seeds"]), points[0]["n_pairs"]
        axis.set_title(f"{setting}, {method}\n{seeds}, n = {n} pairs", fontsize=8)
        _log2(axis)
        axis.set_xlabel("prefix length (tokens)")
        axis.set_ylabel(f"margin ({points[0]['unit']})", fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    titles = [f"{label} training; bands: 95 % intervals" for label in labels]
    figure.legend(handles, titles, loc="outside upper center", ncols=2)
    return figure


def draw_pair_lengths(rows: list[dict]):
    """Histograms of the lengths in training pairs, and of the shorter by the longer one's."""
    import matplotlib.pyplot as plt

    measures = {measure: found for (measure,), found in panels_of(rows, "measure").items()}
    figure, (left, right) = plt.subplots(1, 2, layout="constrained", figsize=(8.6, 3.2))
    lines = {"chosen": (BLUE, "-"), "rejected": (ORANGE, "--"), "k": (GREEN, "-.")}
    for measure, (colour, dashes) in lines.items():
        label = "k, what POET keeps" if measure == "k" else measure
        _histogram(left, measures[measure], color=colour, linestyle=dashes, label=label)
    left.set_xscale("log")
    left.xaxis.set_major_formatter("{x:g}")
    left.set_xlabel("length of a response (tokens; words without a tokenizer)")
    left.legend(fontsize=8)
    _histogram(right, measures["min_over_max"], color=BLUE)
    right.set_xlabel("length of the shorter response / of the longer one")
    n = sum(int(row["n"]) for row in measures["chosen"])
    left.set_title(f"{rows[0]['source']}, n = {n} pairs")
    for axis in (left, right):
        axis.set_ylabel("pairs")
    return figure


def _histogram(axis, bins: list[dict], **style) -> None:
    edges = [float(bins[0]["low"]), *numbers(bins, "high")]
    axis.stairs([int(row["n"]) for row in bins], edges, linewidth=1.5, **style)


def entropy_rows(table: list[dict]) -> list[dict]:
    """The positions that at least a quarter of the responses reach: beyond, few decide."""
    reached = {(row["method"], row["side"]): row["n"] for row in reversed(table)}
    return [r for r in table if 4 * int(r["n"]) >= int(reached[r["method"], r["side"]])]


def draw_entropy(rows: list[dict]):
    """Token entropy by position of chosen and rejected responses, per model."""
    import matplotlib.pyplot as plt

    panels = panels_of(rows, "side")
    figure, axes = plt.subplots(
        1, len(panels), squeeze=False, sharey=True, layout="constrained", figsize=(8.6, 3.4)
    )
    for axis, ((side,), points) in zip(axes[0], panels.items(), strict=True):
        curves = panels_of(points, "method")
        styles = _styles(method for (method,) in curves)
        for (method,), curve in curves.items():
            style = styles[method] | {"marker": None}
            label = f"{method} ({seeds_of(curve[0]['n_seeds'])})"
            _band(axis, curve, "position", "entropy", label=label, **style)
        n = f"n = {points[0]['n']} to {points[-1]['n']}"
        axis.set_title(f"{points[0]['setting']}, {side} responses, {n}")
        _log2(axis)
        axis.set_xlabel("position (tokens); bands: 95 % intervals")
    axes[0, 0].set_ylabel("entropy of the next token (nats)")
    axes[0, -1].legend(fontsize=8)
    return figure
