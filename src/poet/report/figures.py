"""The figures, each as SVG and PNG with the CSV it was drawn from."""

from __future__ import annotations

import argparse
import csv

from poet.evaluate.prompts import read_rows
from poet.files import cli, named_files
from poet.report import figure_analysis, figure_scores, figure_training
from poet.report.style import save

# Figures of one CSV file, drawn as it stands, with their help.
ANALYSES = {
    "pair-lengths": (figure_analysis.draw_pair_lengths, "lengths in the training pairs"),
    "prefix-quality": (figure_analysis.draw_prefix_quality, "quality of prefixes"),
    "margins": (figure_analysis.draw_margins, "margins of prefixes, before and after training"),
    "entropy": (figure_analysis.draw_entropy, "token entropy by position"),
}


def _read_table(path: str) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _lengths(
    annotations: dict[tuple[str, str], list[str]],
) -> list[tuple[str, str, int, list[int]]]:
    """Lengths of what every method wrote, after those of each setting's reference answers."""
    found = {}
    for (setting, method), files in annotations.items():
        of_seeds = [read_rows(path) for path in files]
        reference = [len(row["output_1"]) for row in of_seeds[0]]
        found.setdefault((setting, "reference"), (1, reference))
        lengths = [len(row["output_2"]) for rows in of_seeds for row in rows]
        found[setting, method] = (len(files), lengths)
    return [(*key, *value) for key, value in found.items()]


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    figures = parser.add_subparsers(dest="figure", required=True)
    figures.add_parser("win-rates", help="win rates with intervals, per method")
    lc = figures.add_parser("lc-length", help="length-controlled win rate against length")
    lc.add_argument("--gain", action="append", nargs=2, default=[], metavar=("METHOD", "BASELINE"))
    figures.add_parser("ablation-curves", help="win rate against the share that is kept")
    for name, (_, what) in ANALYSES.items():
        figures.add_parser(name, help=what)
    for figure in figures.choices.values():
        figure.add_argument("--table", required=True, help="the .csv file that has its numbers")
    lengths = figures.add_parser("lengths", help="how long the answers are, per method")
    lengths.add_argument(
        "--annotations", nargs="+", action="append", required=True,
        metavar="SETTING METHOD FILE", help="one file per seed; repeat for each method",
    )  # fmt: skip
    training = figures.add_parser("training", help="implicit rewards and margins over training")
    training.add_argument(
        "--runs", nargs="+", action="append", required=True,
        metavar="SETTING METHOD FILE", help="one train.json per seed; repeat for each panel",
    )  # fmt: skip
    for figure in figures.choices.values():
        figure.add_argument("--output", nargs="+", required=True, help=".svg, .png and .csv files")
    args = parser.parse_args(argv)
    match args.figure:
        case "win-rates":
            rows = figure_scores.win_rate_rows(_read_table(args.table))
            draw = figure_scores.draw_win_rates
        case "lc-length":
            rows = figure_scores.length_control_rows(_read_table(args.table), dict(args.gain))
            draw = figure_scores.draw_length_control
        case "ablation-curves":
            rows = figure_scores.ablation_rows(_read_table(args.table))
            draw = figure_scores.draw_ablation
        case name if name in ANALYSES:
            rows, draw = _read_table(args.table), ANALYSES[name][0]
            rows = figure_analysis.entropy_rows(rows) if name == "entropy" else rows
        case "lengths":
            files = named_files(args.annotations, "--annotations", names=2)
            rows = figure_scores.length_rows(_lengths(files))
            draw = figure_scores.draw_lengths
        case "training":
            rows = figure_training.training_rows(named_files(args.runs, "--runs", names=2))
            draw = figure_training.draw_training
    save(rows, draw, args.output)


if __name__ == "__main__":
    cli(main)
