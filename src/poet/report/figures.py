"""The figures, each as SVG and PNG with the CSV it was drawn from."""

from __future__ import annotations

import argparse
import csv

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
# Figure of what every method and seed left -> the same.
OF_SEEDS = {
    "lengths": (figure_scores.length_rows, figure_scores.draw_lengths),
    "training": (figure_training.training_rows, figure_training.draw_training),
}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    figures = parser.add_subparsers(dest="figure", required=True)
    for name in OF_TABLES:
        figure = figures.add_parser(name)
        figure.add_argument("--table", required=True, help="the .csv file that has its numbers")
    pair = {"nargs": 2, "metavar": ("METHOD", "BASELINE")}
    figures.choices["lc-length"].add_argument("--gain", action="append", default=[], **pair)
    for name in OF_SEEDS:
        figures.add_parser(name).add_argument(
            "--of", nargs="+", action="append", required=True, metavar="SETTING METHOD PATH",
            help="annotations or trained models, one per seed; repeat for each method",
        )  # fmt: skip
    for figure in figures.choices.values():
        figure.add_argument("--output", nargs="+", required=True, help=".svg, .png and .csv files")
    args = parser.parse_args(argv)
    rows_of, draw = (OF_TABLES | OF_SEEDS)[args.figure]
    if args.figure in OF_SEEDS:
        rows = rows_of(named_files(args.of, "--of", names=2))
    else:
        with open(args.table, newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        rows = rows_of(table, dict(args.gain)) if "gain" in args else rows_of(table)
    save(rows, draw, args.output)


if __name__ == "__main__":
    cli(main)
