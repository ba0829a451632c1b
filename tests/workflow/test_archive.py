"""Tables, figures and the page from an archive: nothing is trained, sampled or judged."""

import csv
import shutil

import pytest

from poet.report import archive

MADE = ("tables", "figures", "report")


@pytest.fixture
def regenerated(finished, workflow, small_config, monkeypatch):
    """Regenerate from the parts of the finished run that match; returns both results folders."""

    def run(*parts):
        again = workflow(small_config)
        source, kept = finished.folder / "results", again.folder / "archive"
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
