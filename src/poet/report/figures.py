"""The figures, each as SVG and PNG with the CSV it was drawn from."""

from __future__ import annotations

import argparse
import csv

from poet.evaluate.prompts import read_rows
from poet.files import cli, named_files
from poet.report import figure_analysis, figure_scores, figure_training
from poet.report.style import save

# Figure of a CSV file -> what makes its rows of the file's, and what draws them.
OF_TABLES = {
    "win-rates": (figure_scores.win_rate_rows, figure_scores.draw_win_rates),
    "lc-length": (figure_scores.length_control_rows, figure_scores.draw_length_control),
    "ablation-curves": (figure_scores.ablation_rows, figure_scores.draw_ablation),
    "pair-lengths": (list, figure_analysis.draw_pair_lengths),
    "prefix-quality": (list, figure_analysis.draw_prefix_quality),
    "margins": (list, figure_analysis.draw_margins),
    "entropy": (figure_analysis.entropy_rows, figure_analysis.draw_entropy),
}


def _lengths(annotations: dict[tuple[str, str], list[str]]) -> list[dict]:
    """Lengths of what every method wrote, after those of each setting's reference answers."""
    found = {}
    for (setting, method), files in annotations.items():
        of_seeds = [read_rows(path) for path in files]
        reference = [len(row["output_1"]) for row in of_seeds[0]]
        found.setdefault((setting, "reference"), (1, reference))
        lengths = [len(row["output_2"]) for rows in of_seeds for row in rows]
        found[setting, method] = (len(files), lengths)
    return figure_scores.length_rows([(*key, *value) for key, value in found.items()])


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    figures = parser.add_subparsers(dest="figure", required=True)
    for name in OF_TABLES:
        figure = figures.add_parser(name)
        figure.add_argument("--table", required=True, help="the .csv file that has its numbers")
    pair = {"nargs": 2, "metavar": ("METHOD", "BASELINE")}
    figures.choices["lc-length"].add_argument("--gain", action="append", default=[], **pair)
    for name, what in (("lengths", "annotations"), ("training", "trained models")):
        figures.add_parser(name).add_argument(
            "--of", nargs="+", action="append", required=True,
            metavar="SETTING METHOD PATH", help=f"{what}, one per seed; repeat for each method",
        )  # fmt: skip
    for figure in figures.choices.values():
        figure.add_argument("--output", nargs="+", required=True, help=".svg, .png and .csv files")
    args = parser.parse_args(argv)
    if args.figure in OF_TABLES:
        rows_of, draw = OF_TABLES[args.figure]
        with open(args.table, newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        rows = rows_of(table, dict(args.gain)) if "gain" in args else rows_of(table)
    elif args.figure == "lengths":
        rows, draw = _lengths(named_files(args.of, "--of", names=2)), figure_scores.draw_lengths
    else:
        rows = figure_training.training_rows(named_files(args.of, "--of", names=2))
        draw = figure_training.draw_training
    save(rows, draw, args.output)


if __name__ == "__main__":
    cli(main)
