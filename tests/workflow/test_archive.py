"""Tables, figures and the page from an archive: nothing is trained, sampled or judged."""

import csv
import json
import os
import shutil

import pytest

from poet.files import read_json, write_json
from poet.report import archive, checksums, seal

MADE = ("tables", "figures", "report")


@pytest.fixture
def regenerated(finished, workflow, small_config, monkeypatch):
    """Regenerate from parts of the finished run, or its archive; returns both results folders."""

    def run(*parts, kept=None, change=lambda results: None):
        again = workflow(small_config)
        source, kept = finished.folder / "results", kept or again.folder / "archive"
        for part in parts:
            for path in source.glob(part):
                target = kept / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
        results = again.folder / "results"
        archive.main(
            ["--from", str(kept), "--into", str(results), "--config", str(again.config),
             "--write-config", str(again.config)]
        )  # fmt: skip
        change(results)
        monkeypatch.setenv("POET_ARCHIVED", "1")
        done = again("--rerun-triggers", "mtime", "--", "tables")
        assert done.returncode == 0, done.stderr[-3000:]
        ran = {path.name.removesuffix(".tsv") for path in (results / "benchmarks").glob("*")}
        assert not ran & {"sft", "train", "generate", "annotate", "evaluate_downstream"}
        return source, results

    return run


def test_everything_again_byte_for_byte(regenerated):
    source, results = regenerated(*(part for part in archive.PARTS if "benchmarks" not in part))
    for folder in MADE:
        before = {path.name: path.read_bytes() for path in (source / folder).iterdir()}
        after = {path.name: path.read_bytes() for path in (results / folder).iterdir()}
        assert list(before) and before == after, folder


@pytest.fixture
def sealed(finished, tmp_path, monkeypatch):
    """`make archive` of the finished run."""
    monkeypatch.setenv("INTO", str(tmp_path / "sealed"))
    done = finished("--", "archive")
    assert done.returncode == 0, done.stderr[-3000:]
    return tmp_path / "sealed"


def test_an_archive_gives_the_run_again(regenerated, sealed, monkeypatch):
    for number, path in enumerate(sorted(sealed.rglob("*"))):
        os.utime(path, (1e9 + number,) * 2)  # as a clone, which writes files in any order
    source, results = regenerated(kept=sealed)
    monkeypatch.chdir(results.parent)
    said = checksums.same(sealed)
    assert "Different" not in said and "2 of 2 in report/" in said
    for folder in MADE:
        names = {path.name for path in (source / folder).iterdir()}
        assert names == {path.name for path in (results / folder).iterdir()}
    # Nothing was scored again either: another processor's numbers may differ in the last digit.
    ran = {path.name for path in (results / "benchmarks").iterdir()}
    assert not ran & {"score", "compare", "simulate"}
    (results / "tables" / "main.md").write_text("another")
    assert "Different: results/tables/main.md" in checksums.same(sealed)


def test_without_texts_only_the_answers_head_to_head_are_missing(regenerated):
    texts = set()

    def redact(results):
        numbers = {}
        for path in sorted((results / "annotations").rglob("seed-*.json")):
            rows, of = read_json(path), path.stat()
            texts.update(row[key] for row in rows for key in ("instruction", "output_1"))
            write_json(seal.redacted(rows, numbers), path)
            os.utime(path, ns=(of.st_mtime_ns,) * 2)

    parts = [part for part in archive.PARTS if "benchmarks" not in part]
    source, results = regenerated(*parts, change=redact)
    for folder in MADE[:2]:
        before = {path.name: path.read_bytes() for path in (source / folder).iterdir()}
        after = {path.name: path.read_bytes() for path in (results / folder).iterdir()}
        assert list(before) and before == after, folder
    page = (results / "report" / "index.html").read_text()
    assert "The texts of world are not in this archive." in page and 'id="data"' not in page
    assert 'id="data"' in (source / "report" / "index.html").read_text()
    kept = "".join(path.read_text() for path in (results / "annotations").rglob("seed-*.json"))
    assert len(texts) > 30 and not any(json.dumps(text)[1:-1] in kept for text in texts)


def test_from_annotations_alone(regenerated):
    source, results = regenerated("annotations/**/seed-*.json")
    before, after = (
        list(csv.DictReader((folder / "tables" / "main.csv").open()))
        for folder in (source, results)
    )
    # Which answers ended by themselves, only the generations know.
    assert after == [row | {"share_ended": ""} for row in before]
    assert (results / "figures" / "lengths.svg").exists()
    answer = (results / "report" / "answer.txt").read_text()
    files = len([*(results / "annotations").rglob("seed-*.json")])
    assert f"Caution: {files} files of these results do not say which version" in answer
    assert 'id="pairs"' in (results / "report" / "index.html").read_text()


def test_from_scores_alone(regenerated):
    source, results = regenerated("scores/**/*.json")
    name = "tables/main.csv"
    assert (results / name).read_bytes() == (source / name).read_bytes()
    assert "no annotations of a method" in (results / "report" / "index.html").read_text()
