"""The manifest sums what Snakemake measured; provenance names no machine."""

import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet import provenance
from poet.files import read_json
from poet.report import manifest

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


@pytest.fixture
def benchmarks(tmp_path):
    jobs = {
        "train/world-dpo.tsv": [(10.25, "512.5")],
        "train/nested/world-simpo.tsv": [(20.5, "900.25"), (1.0, "-")],
        "score/world.tsv": [(0.125, "NA")],
    }
    for name, rows in jobs.items():
        path = tmp_path / "benchmarks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{s}\t0:00:10\t{rss}\t1\t1\t1\t0\t0\t99\t9\n" for s, rss in rows]
        path.write_text(HEADER + "".join(lines))
    return tmp_path / "benchmarks"


def test_manifest_sums_seconds_and_takes_checksums(benchmarks, tmp_path):
    table, output = tmp_path / "main.csv", tmp_path / "manifest.json"
    table.write_bytes(b"setting\n")
    config = {"seeds": [1, 2], "torch_threads": 1}
    manifest.main(
        ["--config-json", json.dumps(config), "--benchmarks", str(benchmarks), "--inputs",
         str(table), "--output", str(output)]
    )  # fmt: skip
    found = read_json(output)
    assert found["rules"] == {
        "score": {"jobs": 1, "seconds": 0.12, "max_rss_mb": None},
        "train": {"jobs": 3, "seconds": 31.75, "max_rss_mb": 900.25},
    }
    assert found["seconds"] == pytest.approx(31.87)
    assert found["config"] == config
    assert found["config_digest"] == provenance.value_digest({"torch_threads": 1, "seeds": [1, 2]})
    assert found["sha256"] == {str(table): hashlib.sha256(b"setting\n").hexdigest()}
    assert found["hardware"]["gpus"] is not None  # torch was asked
    assert found["versions"]["snakemake"]


def test_provenance_names_no_machine(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HOME", "/home/secret-user")
    monkeypatch.setattr(socket, "gethostname", lambda: "secret-host")
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    folder = Path.cwd()
    arguments = [
        "--record",
        '{"model": "/data/m"}',
        str(folder / "results/a"),
        "--x=/home/u/b.json",
    ]
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    found = provenance.provenance()
    assert found["command"].endswith("--record <json, 20 characters> results/a --x=b.json")
    assert "secret" not in json.dumps(found)
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["hardware"]["cores"] == os.cpu_count()


def test_git_commit_and_dirty_flag(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    module = tmp_path / "provenance.py"
    module.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert provenance._git() == (None, None)  # no repository
    git("init", "-q")
    assert provenance._git() == (None, None)  # somebody else's: the file is not tracked
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert provenance._git() == (commit, False)
    module.write_text("changed")
    assert provenance._git() == (commit, True)
    monkeypatch.setenv("PATH", "")
    assert provenance._git() == (None, None)  # no git


def test_the_digest_of_the_code_is_that_of_programs_and_templates(tmp_path, monkeypatch):
    (tmp_path / "report" / "templates").mkdir(parents=True)
    (tmp_path / "report" / "captions").mkdir()
    files = {
        name: tmp_path / name
        for name in ("provenance.py", "report/page.py", "report/templates/page.css", "notes.md",
                     "report/captions/main.rst")
    }  # fmt: skip
    for path in files.values():
        path.write_text("as it is")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    before = provenance.code()
    assert before == provenance.code() and len(before) == 16
    for name in ("notes.md", "report/captions/main.rst"):
        files[name].write_text("a document that changed")
    assert provenance.code() == before
    seen = {before}
    for name in ("report/page.py", "report/templates/page.css"):
        files[name].write_text("a program that changed")
        seen.add(provenance.code())
    files["report/page.py"].rename(tmp_path / "report" / "sheet.py")
    seen.add(provenance.code())
    assert len(seen) == 4


def test_the_manifest_says_which_version_made_which_file(benchmarks, tmp_path):
    old = {"git_commit": "a" * 40, "git_dirty": False, "code": "1" * 16}
    new = old | {"git_commit": "b" * 40, "git_dirty": True, "code": "2" * 16}
    made = {"train": old, "answers": old, "comparison": new, "older": None}
    paths = {name: tmp_path / f"{name}.json" for name in made}
    for name, version in made.items():
        content = {"record": {}} | ({"provenance": {**version, "command": "x"}} if version else {})
        paths[name].write_text(json.dumps(content))
    (tmp_path / "main.csv").write_text("x")
    manifest.main(
        ["--config-json", "{}", "--benchmarks", str(benchmarks), "--inputs",
         str(tmp_path / "main.csv"), "--made", *map(str, paths.values()),
         "--output", str(tmp_path / "m.json")]
    )  # fmt: skip
    found = read_json(tmp_path / "m.json")
    assert found["code"] == provenance.code()
    assert found["made_by"] == [
        {**old, "files": [str(paths["train"]), str(paths["answers"])]},
        {**new, "files": [str(paths["comparison"])]},
        {**dict.fromkeys(old), "files": [str(paths["older"])]},
    ]


@given(st.dictionaries(st.text(), st.integers() | st.lists(st.text()), min_size=2))
def test_digest_ignores_the_order_of_keys_only(value):
    reversed_keys = dict(reversed(value.items()))
    assert provenance.value_digest(value) == provenance.value_digest(reversed_keys)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert provenance.value_digest(value) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert provenance.value_digest(value) != provenance.value_digest(value | {"": None})
