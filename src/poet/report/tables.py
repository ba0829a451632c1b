"""The result tables, each as CSV (fixed decimals), Markdown and LaTeX (booktabs).

A cell is text, rounded once: the three files show the same digits. An empty cell is a number that
does not exist here (no true reward outside the embedded world, no gain for a baseline).
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import statistics
from pathlib import Path

from poet.files import UserError, cli, publish, read_json

# Decimals: win rates in percent, lengths in characters, rewards and shares in their own unit.
PERCENT, LENGTH, SHARE = 2, 1, 4
MAIN = {
    "n_seeds": 0, "n_prompts": 0,
    "lc_win_rate": PERCENT, "lc_ci_low": PERCENT, "lc_ci_high": PERCENT,
    "win_rate": PERCENT, "wr_ci_low": PERCENT, "wr_ci_high": PERCENT,
    "avg_length": LENGTH, "share_ended": SHARE,
    "true_reward": SHARE, "true_reward_ci_low": SHARE, "true_reward_ci_high": SHARE,
}  # fmt: skip
GAIN = {"gain_lc": PERCENT, "gain_lc_ci_low": PERCENT, "gain_lc_ci_high": PERCENT, "p_holm": SHARE}
# What Markdown and LaTeX show: heading -> (column, low, high) of an interval, or (column,).
MAIN_SHOWN = {
    "setting": ("setting",),
    "method": ("method",),
    "annotator": ("annotator",),
    "seeds": ("n_seeds",),
    "prompts": ("n_prompts",),
    "LC win rate %": ("lc_win_rate", "lc_ci_low", "lc_ci_high"),
    "win rate %": ("win_rate", "wr_ci_low", "wr_ci_high"),
    "length": ("avg_length",),
    "ended": ("share_ended",),
    "true reward": ("true_reward", "true_reward_ci_low", "true_reward_ci_high"),
    "paper's LC": ("paper_lc_win_rate",),
    "gain LC": ("gain_lc", "gain_lc_ci_low", "gain_lc_ci_high"),
    "p (Holm)": ("p_holm",),
}
DOWNSTREAM_NOTES = [
    "Shares of 1, means over seeds: mean ± lm-eval's standard error over questions (standard error "
    "over seeds; - with one model). n: questions. average: over tasks."
]


def main_rows(comparisons: list[dict], reported: dict[tuple[str, str], str]) -> list[dict]:
    """One row of text cells per setting x method x annotator, in the order of the comparisons.

    Args:
        comparisons: what ``poet.evaluate.compare`` writes, one per setting and annotator.
        reported: (setting, method) -> the paper's LC win rate; see :func:`read_reported`.
    """
    rows = []
    for comparison in comparisons:
        gains = {gain["method"]: gain for gain in comparison["gains"]}
        for method, found in comparison["methods"].items():
            gain = gains.get(method, {})
            rows.append(
                {"setting": comparison["setting"], "method": method}
                | {"annotator": comparison["annotator"]}
                | {column: fixed(found.get(column), n) for column, n in MAIN.items()}
                | {"paper_lc_win_rate": reported.get((comparison["setting"], method), "")}
                | {
                    column: fixed(gain.get(column.replace("gain_lc_ci", "ci")), n)
                    for column, n in GAIN.items()
                }
                | {"lc_kind": comparison["lc_kind"], "interval": found["interval"]}
            )
    return rows


def _main_notes(rows: list[dict]) -> list[str]:
    def said(column: str) -> str:
        return "; ".join(dict.fromkeys(row[column] for row in rows))

    return [
        f"Intervals (95 %): {said('interval')}. LC: {said('lc_kind')}. length: characters; "
        "ended: share of answers that ended by themselves; gain LC: percentage points over the "
        "same objective without POET."
    ]


def read_reported(path: str | Path) -> dict[tuple[str, str], str]:
    """(setting, method) -> LC win rate of the paper's main table, as printed there.

    Raises:
        UserError: a column is missing.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"table", "setting", "method", "metric", "value"} - set(reader.fieldnames or ())
        if missing:
            raise UserError(f"{path}, line 1: columns missing: {', '.join(sorted(missing))}")
        return {
            (row["setting"], row["method"]): row["value"]
            for row in reader
            if row["table"] == "main" and row["metric"] == "lc_win_rate"
        }


def downstream_rows(results: list[tuple[str, str, list[dict]]]) -> list[dict]:
    """One row of text cells per setting x method: lm-eval's metrics in its own unit (shares of 1).

    Per task and metric: the mean over seeds; ``*_se_questions``, lm-eval's standard error (which
    questions were asked), averaged over seeds because all seeds answer the same ones;
    ``*_se_seeds``, the standard deviation over seeds divided by the root of their number. Results
    of one model count once (``sft`` is one model whatever the seed). ``average`` is over tasks, of
    ``acc_norm`` where a task has it and of its first metric elsewhere: on the paper's six tasks,
    the metrics of the Open LLM Leaderboard v1.

    Args:
        results: (setting, method, one lm-eval result per seed) in the order of the rows.
    """
    rows = []
    for setting, method, of_seeds in results:
        models = list({result["model_name"]: result for result in of_seeds}.values())
        row = {"setting": setting, "method": method, "n_seeds": str(len(models)), "average": ""}
        primary = []
        for task in _top_level(models[0]):
            metrics = _metrics(models[0]["results"][task])
            for metric in metrics:
                row |= _summary(task, metric, [model["results"][task] for model in models])
            row[f"{task}_n"] = str(models[0]["results"][task]["sample_len"])
            first = next((m for m in metrics if m.startswith("acc_norm,")), metrics[0])
            primary.append([model["results"][task][first] for model in models])
        row["average"] = fixed(statistics.fmean(map(statistics.fmean, primary)), SHARE)
        rows.append(row)
    return rows


def _top_level(result: dict) -> list[str]:
    """The tasks and groups that were asked for, without the members of groups."""
    members = {child for children in result["group_subtasks"].values() for child in children}
    return [task for task in result["results"] if task not in members]


def _metrics(found: dict) -> list[str]:
    return [key for key in found if "," in key and "_stderr," not in key]


def _summary(task: str, metric: str, of_seeds: list[dict]) -> dict[str, str]:
    name, _, of_filter = metric.partition(",")
    column = f"{task}_{name}" if of_filter == "none" else f"{task}_{name}_{of_filter}"
    values = [found[metric] for found in of_seeds]
    errors = [found.get(f"{name}_stderr,{of_filter}") for found in of_seeds]
    known = all(isinstance(error, int | float) for error in errors)  # else lm-eval says "N/A"
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return {
        column: fixed(statistics.fmean(values), SHARE),
        f"{column}_se_questions": fixed(statistics.fmean(errors) if known else None, SHARE),
        f"{column}_se_seeds": fixed(spread, SHARE),
    }


def downstream_shown(columns: list[str]) -> dict[str, tuple[str, ...]]:
    """Heading -> columns for Markdown and LaTeX: each metric with its two standard errors."""
    hidden = {c + end for c in columns for end in ("_se_questions", "_se_seeds")}
    return {
        column: (column, f"{column}_se_questions", f"{column}_se_seeds")
        if f"{column}_se_questions" in columns
        else (column,)
        for column in columns
        if column not in hidden
    }


def fixed(value: float | None, decimals: int) -> str:
    """``value`` with fixed decimals; empty for None and NaN; never a negative zero."""
    if value is None or math.isnan(value):
        return ""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def write(
    rows: list[dict], shown: dict, pattern: str, notes: list[str], outputs: list[str]
) -> None:
    """Write ``rows`` in the format that each output's suffix names.

    Args:
        shown: heading -> columns for Markdown and LaTeX; three columns are put into ``pattern``.
        notes: sentences below the Markdown table, comments in LaTeX.

    Raises:
        UserError: a suffix other than .csv, .md, .tex.
    """
    heading = list(shown)
    cells = [[_cell(row, of, pattern) for of in shown.values()] for row in rows]
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
        with publish(output) as path:
            path.write_text(text, encoding="utf-8")


def csv_text(rows: list[dict]) -> str:
    """``rows`` as CSV; columns in the order they first appear, empty where a row has none."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _cell(row: dict, columns: tuple[str, ...], pattern: str) -> str:
    value, *bounds = (row.get(column, "") for column in columns)
    if not (value and any(bounds)):
        return value
    return pattern.format(value, *(bound or "-" for bound in bounds))


def markdown(heading: list[str], cells: list[list[str]], notes: list[str]) -> str:
    """A Markdown table padded so that it reads as plain text; numbers are right-aligned."""
    widths = [max(map(len, column)) for column in zip(heading, *cells, strict=True)]
    numeric = _numeric(cells)

    def line(texts: list[str]) -> str:
        padded = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, numeric, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * (width - 1) + (":" if right else "-")
        for width, right in zip(widths, numeric, strict=True)
    ]
    table = "\n".join(map(line, [heading, rule, *cells]))
    return "\n\n".join([table, *notes]) + "\n"


def latex(heading: list[str], cells: list[list[str]], notes: list[str]) -> str:
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


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = parser.add_subparsers(dest="table", required=True)
    of_main = tables.add_parser("main", help="win rates, one row per setting, method, annotator")
    of_main.add_argument("--comparison", nargs="+", required=True, help="comparison.json files")
    of_main.add_argument("--reported", required=True, help="the paper's numbers (reported.csv)")
    of_downstream = tables.add_parser("downstream", help="lm-eval, one row per setting and method")
    of_downstream.add_argument(
        "--results", nargs="+", action="append", required=True,
        metavar="SETTING METHOD FILE", help="one result per seed; repeat for each row",
    )  # fmt: skip
    for table in (of_main, of_downstream):
        table.add_argument("--output", nargs="+", required=True, help=".csv, .md and .tex files")
    args = parser.parse_args(argv)
    if args.table == "main":
        rows = main_rows([*map(read_json, args.comparison)], read_reported(args.reported))
        write(rows, MAIN_SHOWN, "{} [{}, {}]", _main_notes(rows), args.output)
    else:
        results = [(s, m, [*map(read_json, files)]) for s, m, *files in args.results]
        rows = downstream_rows(results)
        shown = downstream_shown([*dict.fromkeys(column for row in rows for column in row)])
        write(rows, shown, "{} ± {} ({})", DOWNSTREAM_NOTES, args.output)


if __name__ == "__main__":
    cli(main)
