"""The tables: scores, downstream tasks, prefixes, language, sweep, further benchmarks."""

from __future__ import annotations

import argparse
from pathlib import Path

from poet.evaluate.benchmarks import BENCHMARKS
from poet.files import cli, load_record, named_files, read_json
from poet.report import benchmarks, downstream, language, prefix, scores, sweep
from poet.report.cautions import about_judges
from poet.report.formats import Layout, write
from poet.report.paper import Paper, read_reported

FLAGS = {
    "comparison": {"nargs": "+", "help": "what poet.evaluate.compare writes"},
    "cautions": {"help": "what poet.report.cautions writes"},
    "judged-by": {"help": "annotators and models of the configuration: JSON"},
    "judges": {"nargs": "*", "help": "folders of reward models trained on the settings' pairs"},
    "methods": {"help": "that section of the configuration: JSON"},
    "measured": {"nargs": "+", "help": "prefix_quality.json files"},
    "summaries": {"nargs": "+", "help": "what poet.evaluate.summary writes, one per setting"},
    "validations": {"nargs": "+", "help": "what poet.evaluate.validation writes, one per arm"},
    "reported": {"help": "the paper's numbers (reported.csv)"},
    "results": {
        "nargs": "+", "action": "append", "metavar": "SETTING METHOD FILE",
        "help": "one lm-eval result per seed; repeat for each row",
    },
    "world": {
        "nargs": "+", "action": "append", "metavar": "SETTING CORPUS PROMPTS GENERATIONS",
        "help": "corpus.parquet, prompts.jsonl, a file per seed of sft; repeat for each setting",
    },
}  # fmt: skip
JUDGED = ("judged-by", "judges")
# Table -> the flags that it needs; those of a further benchmark are below.
TABLES = {
    "main": ("comparison", "cautions", "reported"),
    "ablation": ("comparison", *JUDGED, "methods", "reported"),
    "baselines": ("comparison", *JUDGED, "methods", "reported"),
    "downstream": ("results",),
    "prefix": ("measured", *JUDGED, "reported"),
    "language": ("world",),
    "sweep": ("validations", "comparison", *JUDGED),
}


def layout(table: str, columns: list[str]) -> Layout:
    """What is shown of a table with these CSV columns."""
    if table in BENCHMARKS:
        return benchmarks.layout(BENCHMARKS[table])
    if table == "downstream":
        return downstream.layout(columns)
    of_its_own = {"prefix": prefix, "language": language, "sweep": sweep}
    return of_its_own[table].LAYOUT if table in of_its_own else scores.layout(table)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = parser.add_subparsers(dest="table", required=True)
    of_benchmarks = dict.fromkeys(BENCHMARKS, ("summaries", "reported"))
    for name, needed in (TABLES | of_benchmarks).items():
        table = tables.add_parser(name)
        for flag in needed:
            table.add_argument(f"--{flag}", required=True, **FLAGS[flag])
        if name in (*scores.FIRST, "prefix"):
            said = "names here of the annotators that the paper used"
            table.add_argument("--paper-annotators", nargs="*", default=[], help=said)
        if name == "downstream":
            pair = {"nargs": 2, "metavar": ("METHOD", "BASELINE")}
            table.add_argument("--gain", action="append", default=[], **pair)
        table.add_argument("--output", nargs="+", required=True, help=".csv, .md and .tex files")
    args = parser.parse_args(argv)
    reported = read_reported(args.reported) if "reported" in args else []
    comparisons = [*map(read_json, args.comparison)] if "comparison" in args else []
    match args.table:
        case "downstream":
            files = named_files(args.results, "--results", names=2)
            results = {row: [*map(read_json, seeds)] for row, seeds in files.items()}
            rows, below = downstream.rows_of(results, args.gain), downstream.NOTES
        case "prefix":
            measured = [*map(read_json, args.measured)]
            rows = prefix.rows_of(measured, reported, args.paper_annotators)
            below = prefix.NOTES
        case "language":
            rows = language.rows_of(named_files(args.world, "--world", names=3))
            below = language.NOTES
        case "sweep":
            rows = sweep.rows_of([*map(read_json, args.validations)], comparisons)
            below = sweep.NOTES
        case name if name in BENCHMARKS:
            summaries = [*map(read_json, args.summaries)]
            rows = benchmarks.rows_of(BENCHMARKS[name], summaries, reported)
            below = [BENCHMARKS[name].caption]
        case "main":
            rows = scores.main_rows(comparisons, Paper.of(reported, "main", args.paper_annotators))
            below = scores.notes(rows)
        case name:
            paper = Paper.of(reported, name, args.paper_annotators)
            rows = scores.variant_rows(name, comparisons, paper, load_record(args.methods))
            below = scores.notes(rows)
    said = read_json(args.cautions) if args.table == "main" else []
    if "judges" in args:
        judges = [read_json(Path(folder, "train.json")) for folder in args.judges]
        scored = measured if args.table == "prefix" else comparisons
        said = about_judges(scored, load_record(args.judged_by), judges)
    below = [*(f"Caution: {text}" for text in said), *below]
    columns = [*dict.fromkeys(column for row in rows for column in row)]
    write(rows, layout(args.table, columns), below, args.output)


if __name__ == "__main__":
    cli(main)
