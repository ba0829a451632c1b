"""What an archive holds, that it is whole, and what it holds instead of texts."""

import gzip
import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet.files import UserError
from poet.report import archive, checksums, seal
from poet.report.answers import bundle

COMMIT = {"git_commit": "a" * 40, "git_dirty": False, "code": "b" * 16}


def row(index: int) -> dict:
    return {
        "index": index, "instruction": f"Secret question {index}?", "output_1": f"Secret {index}.",
        "output_2": f"A secret: {index * 7}.", "generator_1": "reference", "generator_2": "dpo",
        "preference": 1.25, "reward_2": 0.5, "preference_raw_completion": "I saw a secret.",
    }  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The results of a run on a world and on own data, by hand; seals them."""
    monkeypatch.chdir(tmp_path)
    kinds = {"world": {"data": {"kind": "world"}}, "own": {"data": {"kind": "file"}}}
    config = {"settings": kinds, "grid": {"world": ["dpo"], "own": ["dpo"]}}
    files = {
        "manifest.json": {**COMMIT, "config": config},
        "annotations/world/judge/dpo/seed-1.json": [row(i) for i in range(3)],
        "annotations/own/judge/dpo/seed-1.json": [row(i) for i in range(3)],
        "annotations/own/judge/sft/seed-1.json": [row(i) for i in (2, 0, 1)],
        "scores/own/judge/comparison.json": {"setting": "own"},
        "analysis/own/diagnosis.json": {"evaluation": {"exact": 1, "examples": ["A secret."]}},
    }
    for name, value in files.items():
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    shown = ["results/tables/main.csv", "results/report/index.html", "results/report/answer.txt"]
    for name in shown:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)

    def run(into="kept", parts=tuple(files)):
        return seal.seal([f"results/{name}" for name in parts], shown, tmp_path / into)

    return run


def test_coreutils_agree_with_the_checksums(run, tmp_path):
    run()
    for folder, name in ((tmp_path / "kept", "SHA256SUMS"), (tmp_path, "kept/RESULTS.sha256")):
        command = ["sha256sum", "--check", "--strict", name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    files = {str(p.relative_to(tmp_path / "kept")) for p in (tmp_path / "kept").rglob("*.*")}
    assert set(checksums.read(tmp_path / "kept" / "SHA256SUMS")) == files
    # The page of the run has the texts, so that no archive without them gives it.
    assert [*checksums.read(tmp_path / "kept" / "RESULTS.sha256")] == [
        "results/tables/main.csv", "results/report/answer.txt",
    ]  # fmt: skip


def test_texts_of_worlds_stay_and_no_others(run, tmp_path):
    assert run() == ["own"]
    found = {
        path: gzip.decompress(path.read_bytes()).decode()
        for path in (tmp_path / "kept").rglob("*.gz")
    }
    assert len(found) == 5
    for path, text in found.items():
        assert ("ecret" in text) == ("world" in path.parts), path
    same = tmp_path / "results/annotations/world/judge/dpo/seed-1.json"
    assert same.read_text() == found[tmp_path / "kept/annotations/world/judge/dpo/seed-1.json.gz"]
    readme = (tmp_path / "kept" / "README.md").read_text()
    assert "Prompts and answers of own are not in it" in readme
    assert "commit aaaaaaaaaaaa" in readme and "make tables FROM=archive/kept" in readme


def test_what_else_holds_texts_is_refused(run, tmp_path):
    path = tmp_path / "results/generations/own/sft/seed-1.json"
    path.parent.mkdir(parents=True)
    path.write_text("[]")
    with pytest.raises(UserError, match=r"generations/own/sft/seed-1\.json holds texts"):
        run(parts=["manifest.json", "generations/own/sft/seed-1.json"])
    assert not (tmp_path / "kept").exists()  # nothing that looks whole


def test_twice_the_same_and_in_place_of_an_older_one(run, tmp_path):
    run()
    before = {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*.*")}
    run()
    assert before == {path: path.read_bytes() for path in (tmp_path / "kept").rglob("*.*")}


def test_another_folder_is_not_replaced(run, tmp_path):
    (tmp_path / "docs").mkdir()
    with pytest.raises(UserError, match="docs is there and no archive"):
        run(into="docs")


@pytest.mark.parametrize("what", ["changed", "missing", "added"])
def test_what_is_not_as_it_was_is_named(run, tmp_path, what):
    run()
    path = tmp_path / "kept" / "scores" / "own" / "judge" / "comparison.json.gz"
    match what:
        case "changed":
            path.write_bytes(gzip.compress(b"{}"))
        case "missing":
            path.unlink()
        case "added":
            path = path.with_name("ablation.json.gz")
            path.write_bytes(b"")
    with pytest.raises(UserError, match=path.name) as error:
        archive.take(tmp_path / "kept", tmp_path / "again")
    assert "found:" in str(error.value) and "expected:" in str(error.value)
    assert not (tmp_path / "again").exists()


def test_what_is_taken_is_what_was_put_in(run, tmp_path):
    run()
    taken = archive.take(tmp_path / "kept", tmp_path / "again")
    assert len(taken) == 6
    times = {(tmp_path / "again" / name).stat().st_mtime_ns for name in taken}
    assert len(times) == 1  # none is newer than another
    name = "annotations/world/judge/dpo/seed-1.json"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "results" / name).read_bytes()
    assert archive.take(tmp_path / "kept", tmp_path / "again") == []


TEXTS = st.lists(st.text(), min_size=1, max_size=5)


@given(TEXTS, st.data())
def test_blocks_keep_lengths_numbers_and_which_prompt_it_is(prompts, data):
    rows = [
        {**row(i), "instruction": prompt, "output_1": data.draw(st.text())}
        for i, prompt in enumerate(prompts)
    ]
    numbers = {}
    found = seal.redacted(rows, numbers)
    again = seal.redacted(rows[::-1], numbers)[::-1]
    assert found == again  # whatever the order of another file's rows
    for before, after in zip(rows, found, strict=True):
        for name in ("output_1", "output_2"):
            assert len(after[name]) == len(before[name]) and set(after[name]) <= {"█"}
        assert after["preference"] == before["preference"] and after["reward_2"] == 0.5
    same = [[a == b for b in prompts] for a in prompts]
    kept = [after["instruction"] for after in found]
    assert same == [[a == b for b in kept] for a in kept]


def test_the_page_has_no_pairs_of_a_setting_without_texts(run, tmp_path):
    run()
    archive.take(tmp_path / "kept", tmp_path / "again")
    folder = tmp_path / "again" / "annotations"
    files = {
        (s, "judge", "dpo"): [str(folder / s / "judge/dpo/seed-1.json")] for s in ("world", "own")
    }
    found = bundle(files, {}, {}, [1])
    assert [*found["prompts"]] == ["world"] and [*found["answers"]] == ["world"]
