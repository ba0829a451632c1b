"""Tables of text cells as CSV, Markdown and LaTeX (booktabs).

A cell is text, rounded once: the files show the same digits. An empty cell is a number that does
not exist here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from poet.files import UserError, csv_text, write_text

# Decimals: win rates in percent, lengths in characters, rewards and shares in their own unit.
PERCENT, LENGTH, SHARE = 2, 1, 4


@dataclass(frozen=True)
class Layout:
    """What Markdown, LaTeX and the page show of a table's columns.

    Attributes:
        shown: heading -> (column,), or three columns that are put into ``pattern``.
        pattern: a format with three places: value and interval, or value and two standard errors.
        marks: heading -> (column, word): the word stands behind a value where the column says so
            (it is neither empty nor 0).
    """

    shown: dict[str, tuple[str, ...]]
    pattern: str = "{} [{}, {}]"
    marks: dict[str, tuple[str, str]] = field(default_factory=dict)

    def headings(self, rows: list[dict]) -> list[str]:
        """The headings under which at least one row has something to say."""
        return [
            text for text, columns in self.shown.items() if any(r.get(columns[0]) for r in rows)
        ]

    def cell(self, row: dict, heading: str) -> str:
        """The text of a row under a heading; only the value where the row has no bounds."""
        value, *bounds = (row.get(column, "") for column in self.shown[heading])
        column, word = self.marks.get(heading, ("", ""))
        if value and row.get(column, "") not in ("", "0"):
            return f"{value} ({word})"
        if not (value and any(bounds)):
            return value
        return self.pattern.format(value, *(bound or "-" for bound in bounds))


def same(*columns: str) -> dict[str, tuple[str, ...]]:
    """Columns that are shown under their own names."""
    return {column: (column,) for column in columns}


def fixed(value: float | None, decimals: int) -> str:
    """``value`` with fixed decimals; empty for None and NaN; never a negative zero."""
    if value is None or math.isnan(value):
        return ""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def write(rows: list[dict], layout: Layout, notes: Sequence[str], outputs: list[str]) -> None:
    """Write ``rows`` in the format that each output's suffix names.

    Args:
        notes: sentences below the Markdown table, comments in LaTeX.

    Raises:
        UserError: a suffix other than .csv, .md, .tex.
    """
    heading = layout.headings(rows)
    cells = [[layout.cell(row, column) for column in heading] for row in rows]
    for output in outputs:
        match Path(output).suffix:
            case ".csv":
                text = csv_text(rows)
            case ".md":
                text = markdown(heading, cells, notes)
            case ".tex":
                text = latex(heading, cells, notes)
            case other:
                raise UserError(f"{output}: suffix {other!r}; expected .csv, .md or .tex")
        write_text(text, output)


def markdown(heading: list[str], cells: list[list[str]], notes: Sequence[str]) -> str:
    """A Markdown table padded so that it reads as plain text; numbers are right-aligned."""
    columns = []
    for column, right in zip(zip(heading, *cells, strict=True), _numeric(cells), strict=True):
        width = max(map(len, column))
        first, *rest = (text.rjust(width) if right else text.ljust(width) for text in column)
        columns.append([first, "-" * (width - 1) + (":" if right else "-"), *rest])
    table = "\n".join(f"| {' | '.join(row)} |" for row in zip(*columns, strict=True))
    return "\n\n".join([table, *notes]) + "\n"


def latex(heading: list[str], cells: list[list[str]], notes: Sequence[str]) -> str:
    """A ``tabular`` for ``\\input``; needs the package booktabs."""
    numeric = _numeric(cells)
    lines = [
        *(f"% {note}" for note in notes),
        f"\\begin{{tabular}}{{{''.join('r' if right else 'l' for right in numeric)}}}",
        "\\toprule",
        " & ".join(map(_escape, heading)) + r" \\",
        "\\midrule",
        *(" & ".join(map(_escape, row)) + r" \\" for row in cells),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _numeric(cells: list[list[str]]) -> list[bool]:
    """For each column: does no text in it begin like a name?"""
    begins = [{text[:1] for text in column} for column in zip(*cells, strict=True)]
    return [each <= set("-0123456789") | {""} for each in begins]


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip
