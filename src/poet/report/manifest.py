"""The manifest: what a run was made of, what it cost, and the checksums of what came out."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from poet.files import cli, load_record, read_json, sha256, write_json
from poet.provenance import provenance, value_digest

VERSION = ("git_commit", "git_dirty", "code")


def costs(folder: str | Path) -> dict[str, dict]:
    """What each rule cost, from Snakemake's benchmark files ``{rule}/....tsv`` below ``folder``.

    Returns:
        rule -> ``jobs`` (their number), ``seconds`` (wall clock, summed over jobs) and
        ``max_rss_mb`` (the largest resident set of a job, None where Snakemake measured none
        because the jobs were too short).
    """
    folder = Path(folder)
    rules: dict[str, list[dict]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        with path.open(newline="", encoding="utf-8") as file:
            rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
            rules.setdefault(rule, []).extend(csv.DictReader(file, delimiter="\t"))
    return {rule: _cost(jobs) for rule, jobs in rules.items()}


def _cost(jobs: list[dict]) -> dict:
    measured = [float(job["max_rss"]) for job in jobs if job["max_rss"] not in ("-", "NA")]
    return {
        "jobs": len(jobs),
        "seconds": round(sum(float(job["s"]) for job in jobs), 2),
        "max_rss_mb": max(measured, default=None),
    }


def made_by(files: Sequence[str | Path]) -> list[dict]:
    """The versions of the code that made ``files``: JSON whose key ``provenance`` says it.

    Returns:
        One row per version, that with most files first: ``git_commit``, ``git_dirty``, ``code``
        (see :func:`poet.provenance.version`; None where a file does not say) and ``files``.
    """
    versions: dict[tuple, list[str]] = {}
    for file in files:
        content = read_json(file)  # annotations are lists, which say nothing
        said = content.get("provenance", {}) if isinstance(content, dict) else {}
        versions.setdefault(tuple(map(said.get, VERSION)), []).append(str(file))
    ordered = sorted(versions.items(), key=lambda item: -len(item[1]))
    return [dict(zip(VERSION, of, strict=True)) | {"files": found} for of, found in ordered]


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    said = "resolved config: JSON or a file"
    parser.add_argument("--config-json", type=load_record, required=True, help=said)
    parser.add_argument("--benchmarks", required=True, help="folder of Snakemake's benchmark files")
    parser.add_argument("--inputs", nargs="+", required=True, help="files to take checksums of")
    parser.add_argument("--made", nargs="*", default=[], help="JSON files that tables are made of")
    parser.add_argument("--output", required=True, help="manifest.json")
    args = parser.parse_args(argv)

    import torch  # noqa: F401  provenance names the GPUs only where torch is there to ask

    rules = costs(args.benchmarks)
    found = {
        **provenance(),  # this program's
        "made_by": made_by(args.made),
        "config_digest": value_digest(args.config_json),
        "config": args.config_json,
        "seconds": round(sum(rule["seconds"] for rule in rules.values()), 2),
        "rules": rules,
        "sha256": {file: sha256(file) for file in args.inputs},
    }
    write_json(found, args.output)


if __name__ == "__main__":
    cli(main)
