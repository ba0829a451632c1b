"""What all figures share: colours, type, and files that are the same for the same numbers.

No dates, a fixed salt for SVG ids, text as text.
"""

from __future__ import annotations

from poet.files import UserError, csv_text, publish

# From Okabe and Ito's palette, distinct to colour-blind eyes; markers and dashes differ too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
STYLE = {
    "svg.hashsalt": "poet",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 150,
}


def panels_of(rows: list[dict], *columns: str) -> dict[tuple[str, ...], list[dict]]:
    """``rows`` grouped by these columns, in the order in which groups appear."""
    panels: dict[tuple[str, ...], list[dict]] = {}
    for row in rows:
        panels.setdefault(tuple(row[column] for column in columns), []).append(row)
    return panels


def numbers(rows: list[dict], column: str) -> list[float]:
    """A column of text cells as numbers."""
    return [float(row[column]) for row in rows]


def grid_of_panels(panels, columns: int, width: float, height: float, margins=(0.3, 0.4)):
    """A figure and as many axes as ``panels``, at most ``columns`` in a row; sizes in inches."""
    import matplotlib.pyplot as plt

    columns = min(len(panels), columns)
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines, columns, squeeze=False, layout="constrained",
        figsize=(width * columns + margins[0], height * lines + margins[1]),
    )  # fmt: skip
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    return figure, axes.flat[: len(panels)]


def seeds_of(n: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{n} {'seed' if n == '1' else 'seeds'}"


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
