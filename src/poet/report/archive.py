"""Take an archived run's scores or annotations into a results folder, to be tabulated again.

An archive is laid out like ``results/``, gzipped or not; whatever of it is there is taken, files
are never replaced by others of the same name. Checksums that it has are checked first. What the
tables need and annotations imply is written anew: the prompts in their order. The configuration is
the one in the archive's manifest, unless another is named.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
from pathlib import Path

import yaml

from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.prompts import read_rows
from poet.files import UserError, cli, publish, read_json, write_jsonl
from poet.report import checksums

# Without models, tokens and pairs: what tables, figures and the page are made of.
PARTS = (
    "annotations/**/*.json", "scores/**/*.json", "generations/**/*.json", "downstream/**/*.json",
    "analysis/**/*.json", "analysis/**/*.csv", "models/**/train.json", "benchmarks/**/*.tsv",
    *(f"{name}/*/*/summary.json" for name in BENCHMARKS),
    "data/*/prompts.jsonl", "data/*/gamed.csv", "data/*/corpus.parquet", "manifest.json",
)  # fmt: skip


def take(archive: Path, results: Path) -> list[Path]:
    """Copy the parts of ``archive`` that ``results`` lacks; returns the names of the copies.

    They keep their times, by which what is older than its sources is made anew. Files of an archive
    with checksums are of one run and get one time: a clone gives them the times of its making.

    Raises:
        UserError: there is no such folder, it has neither scores nor annotations, ``results`` has
            another file in the place of one of its files, or see
            :func:`poet.report.checksums.verify`; then nothing is copied.
    """
    if not archive.is_dir():
        raise UserError(
            f"{archive.absolute()}: no such folder. Expected an archive laid out like results/."
        )
    sealed = checksums.verify(archive)
    found = {
        path.relative_to(archive).with_name(path.name.removesuffix(".gz")): path
        for part in PARTS
        for path in sorted([*archive.glob(part), *archive.glob(f"{part}.gz")])
    }
    if not any(name.parts[0] in ("scores", "annotations") for name in found):
        raise UserError(
            f"{archive}: no scores/ and no annotations/ in it; expected results/' layout"
        )
    there = [name for name in found if (results / name).exists()]
    other = [name for name in there if (results / name).read_bytes() != _content(found[name])]
    if other:
        raise UserError(
            f"{results / other[0]} differs from the archive's ({len(other)} such files).\n"
            f"Move {results} away first: results of two runs must not mix."
        )
    for path in sorted(archive.glob("*/*/*/rates.json")):
        print(f"note: {path} is an older version's: summarise its verdicts again", file=sys.stderr)
    new = [name for name in found if name not in set(there)]
    for name in new:
        time = (archive / checksums.OF_ARCHIVE if sealed else found[name]).stat().st_mtime_ns
        with publish(results / name) as path:
            path.write_bytes(_content(found[name]))
            os.utime(path, ns=(time, time))
    return new


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


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
            time = files[0].stat().st_mtime_ns  # not newer than scores that stand there
            os.utime(target, ns=(time, time))


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
