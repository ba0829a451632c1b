"""Take an archived run's scores or annotations into a results folder, to be tabulated again.

An archive is laid out like ``results/``; whatever of it is there is taken, files are never
replaced by others of the same name. What the tables need and annotations imply is written anew:
the prompts in their order. The configuration is the one in the archive's manifest, unless another
is named.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
from pathlib import Path

import yaml

from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.prompts import read_rows
from poet.files import UserError, cli, publish, read_json, write_jsonl

# Without models, tokens and pairs: what tables, figures and the page are made of.
PARTS = (
    "annotations/**/*.json", "scores/**/*.json", "generations/**/*.json", "downstream/**/*.json",
    "analysis/**/*.json", "analysis/**/*.csv", "models/**/train.json", "benchmarks/**/*.tsv",
    *(f"{name}/*/*/summary.json" for name in BENCHMARKS),
    "data/*/prompts.jsonl", "data/*/gamed.csv", "data/*/corpus.parquet", "manifest.json",
)  # fmt: skip


def take(archive: Path, results: Path) -> list[Path]:
    """Copy the parts of ``archive`` that ``results`` lacks, with their times; returns the copies.

    Raises:
        UserError: there is no such folder, it has neither scores nor annotations, or ``results``
            has another file in the place of one of its files; then nothing is copied.
    """
    if not archive.is_dir():
        raise UserError(
            f"{archive.absolute()}: no such folder. Expected an archive laid out like results/."
        )
    found = sorted(path for part in PARTS for path in archive.glob(part))
    names = [path.relative_to(archive) for path in found]
    if not any(name.parts[0] in ("scores", "annotations") for name in names):
        raise UserError(
            f"{archive}: no scores/ and no annotations/ in it; expected results/' layout"
        )
    there = [name for name in names if (results / name).exists()]
    other = [n for n in there if not filecmp.cmp(archive / n, results / n, shallow=False)]
    if other:
        raise UserError(
            f"{results / other[0]} differs from the archive's ({len(other)} such files).\n"
            f"Move {results} away first: results of two runs must not mix."
        )
    for path in sorted(archive.glob("*/*/*/rates.json")):
        print(f"note: {path} is an older version's: summarise its verdicts again", file=sys.stderr)
    new = [name for name in names if name not in set(there)]
    for name in new:
        with publish(results / name) as path:
            shutil.copy2(archive / name, path)
    return new


def write_prompts(results: Path) -> None:
    """The prompts that annotations are of, for every setting that has none, in their order."""
    for folder in sorted((results / "annotations").glob("*")):
        target = results / "data" / folder.name / "prompts.jsonl"
        files = sorted(folder.rglob("*.json"))
        if files and not target.exists():
            rows = read_rows(files[0])
            rows.sort(key=lambda row: row.get("index", 0))
            prompts = [
                {"index": i, "instruction": row["instruction"], "reference": row["output_1"]}
                for i, row in enumerate(rows)
            ]
            write_jsonl(prompts, target)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="archive", required=True, help="folder laid out as results/")
    parser.add_argument("--into", required=True, help="results folder")
    parser.add_argument("--config", required=True, help="of a run whose manifest is not there")
    parser.add_argument("--write-config", required=True, help="the run's configuration, YAML")
    args = parser.parse_args(argv)
    archive, results = Path(args.archive).expanduser(), Path(args.into)
    taken = take(archive, results)
    write_prompts(results)
    manifest = archive / "manifest.json"
    config = (
        yaml.safe_dump(read_json(manifest)["config"], sort_keys=False)
        if manifest.exists()
        else Path(args.config).read_text(encoding="utf-8")
    )
    with publish(args.write_config) as path:
        path.write_text(config, encoding="utf-8")
    print(f"{len(taken)} files taken from {archive}")


if __name__ == "__main__":
    cli(main)
