"""What make passes on (paths and arguments with spaces and quotes), and what it ends with."""

import json
import shutil
import subprocess

import pytest

PAIRS = [
    {
        "prompt": f"Count to {n}.",
        "chosen": " ".join(map(str, range(n))),
        "rejected": "No, I will not.",
    }
    for n in range(2, 62)
]


@pytest.fixture
def make(clone):
    """Run a target of make in a checkout; `-o`: the environment that runs the tests is set up."""

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = ["make", "--no-print-directory", "-o", ".venv/.installed", *arguments]
        return subprocess.run(command, cwd=clone, capture_output=True, text=True)

    return run


@pytest.mark.parametrize(
    "name", ["my pairs.jsonl", "it's $HOME.jsonl", 'a "b"; c.jsonl', "br{x} {seed}.jsonl"]
)
@pytest.mark.parametrize("target", ["results", "diagnose"])
def test_arguments_reach_snakemake_as_a_shell_would_pass_them(clone, make, name, target):
    (clone / name).write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    shutil.copy(clone / "config" / "own-data.yaml", clone / "my conf's.yaml")
    quoted = name.replace("'", "'\\''")
    (clone / "results" / "report").mkdir(parents=True)
    (clone / "results" / "report" / "answer.txt").write_text("POET helped before.\n")
    done = make(target, "CONFIG=my conf's.yaml", f"ARGS=--dry-run --config 'pairs={quoted}'")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "diagnose_pairs" in done.stdout + done.stderr
    assert "POET helped before." not in done.stdout  # a dry run has no answer


@pytest.mark.parametrize("name", ["own (1).yaml", "own[1].yaml", "~/a home/own.yaml"])
def test_names_of_configurations(clone, make, monkeypatch, name):
    monkeypatch.setenv("HOME", str(clone / "somebody"))
    path = clone / name.replace("~", "somebody")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(clone / "config" / "own-data.yaml", path)
    done = make("diagnose", f"CONFIG={name}", "ARGS=--config pairs=none.jsonl")
    assert "settings.own.data.path is none.jsonl: no such file" in done.stderr


def test_a_plan_reads_the_same_arguments(clone, make):
    (clone / "my pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    done = make("plan", "CONFIG=config/own-data.yaml", "ARGS=--config 'pairs=my pairs.jsonl'")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "total" in done.stdout


def test_an_archive_in_a_folder_with_spaces(clone, make):
    done = make("tables", "FROM=no such folder's")
    assert done.returncode
    assert "no such folder's: no such folder. Expected an archive laid out like" in done.stderr
    (clone / "my archive").mkdir()
    done = make("tables", "FROM=my archive")
    assert "my archive: no scores/ and no annotations/ in it" in done.stderr
    done = make("tables")
    assert "make tables FROM=folder" in done.stdout


def test_a_run_that_is_not_whole_is_not_archived(clone, make):
    done = make("archive", "INTO=archive/mine")
    assert done.returncode and "results/ is not whole" in done.stderr
    assert not (clone / "archive" / "mine").exists()
    assert "make archive INTO=archive/NAME" in make("archive").stdout


def test_an_archive_of_own_pairs_is_told_of_them(clone, make):
    """`ARGS` has the only `--config`: of two, Snakemake would take the last."""
    scores = clone / "my archive" / "scores" / "own" / "reward_model" / "comparison.json"
    scores.parent.mkdir(parents=True)
    scores.write_text("{}")
    given = ["CONFIG=config/own-data.yaml", "ARGS=--dry-run --config pairs=none.jsonl"]
    done = make("tables", "FROM=my archive", *given)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rule tabulate:" in done.stdout and "rule train:" not in done.stdout


def test_the_last_lines_are_the_answer(clone, make):
    """`.venv/bin/snakemake` is another program here: what counts is what make does after it."""
    (clone / "results" / "report").mkdir(parents=True)
    (clone / "results" / "report" / "answer.txt").write_text(
        "POET helps.\nresults/report/index.html\n"
    )
    (clone / ".venv").unlink()
    (clone / ".venv" / "bin").mkdir(parents=True)
    program = clone / ".venv" / "bin" / "snakemake"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    assert make("results").stdout.endswith("\nPOET helps.\nresults/report/index.html\n")
    program.write_text("#!/bin/sh\nexit 1\n")
    failed = make("results")
    assert failed.returncode and "POET helps." not in failed.stdout


def test_a_folder_that_cannot_be_made_ends_it(clone, make):
    """Without its lock nothing may run."""
    (clone / "results").write_text("a file")
    done = make("diagnose", "ARGS=--dry-run")
    assert done.returncode and "results" in done.stderr and "Traceback" not in done.stderr
    assert "DAG" not in done.stderr and "another make" not in done.stdout
