"""`snakemake --lint` is clean; commands do run."""

import json
import re
import subprocess
import sys

import pytest


@pytest.mark.parametrize("configuration", ["config.yaml", "config/own-data.yaml"])
def test_lint(pytestconfig, tmp_path, configuration):
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": str(i), "chosen": "a", "rejected": "b"} for i in range(80)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--config", f"pairs={pairs}"] if "own" in configuration else []
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint", "--configfile", configuration, *flags],
        cwd=pytestconfig.rootpath, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "Lints for" not in result.stderr and "in a good condition" in result.stderr


@pytest.mark.parametrize("target", ["results", "worlds", "ablation", "sweep", "diagnose"])
def test_targets_of_make_list_their_jobs(clone, target):
    """`-o`: the environment that runs the tests is set up."""
    command = ["make", "-o", ".venv/.installed", target, "ARGS=--dry-run"]
    result = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert re.search(r"^total +\d+$", result.stdout + result.stderr, flags=re.MULTILINE)


def test_a_configuration_that_is_not_there_is_named(clone):
    command = ["make", "results", "CONFIG=config/own-dat.yaml"]
    result = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert result.returncode
    assert "CONFIG: found no file config/own-dat.yaml" in result.stderr
    assert "Traceback" not in result.stderr


def test_params_made_of_inputs_decide_about_no_result(pytestconfig):
    """Snakemake compares none of these: what they say beside their files would go stale."""
    texts = [path.read_text() for path in (pytestconfig.rootpath / "rules").glob("*.smk")]
    found = re.findall(r"^ +(\w+)=lambda w, input: (.*?),(?:  #.*)?$", "\n".join(texts), re.M)
    assert len(found) > 10
    files = re.compile(r'given\("--[a-z-]+", input\.\w+\)( or "--without-gamed")?')
    assert {(name, text) for name, text in found if not files.fullmatch(text)} == {
        ("caption", "titles.of(w.table)[1]"),
        ("caption", "titles.of(w.figure)[1]"),
        ("limits", "json.dumps(judging.limits(CONFIG, w.annotator))"),
        ("lock", 'CONFIG["lock"]'),
        # The record and the digest beside it say the same of the model.
        ("tokenizer", "sources.diagnosis_flags(CONFIG, w.setting, input.corpus)"),
    }


def documents(folder) -> dict[str, str]:
    """The texts in which commands are named."""
    patterns = (
        "README.md",
        "CONTRIBUTING.md",
        "Makefile",
        "docs/*.md",
        "config/*.yaml",
        "profiles/*/*.yaml",
    )
    return {str(path): path.read_text() for pattern in patterns for path in folder.glob(pattern)}


def test_documented_commands_name_their_target_first(pytestconfig):
    """`--configfile FILE target` takes the target for another file."""
    texts = documents(pytestconfig.rootpath)
    commands = [
        line for text in texts.values() for line in text.splitlines() if "snakemake" in line
    ]
    assert len(commands) > 10
    assert not [line for line in commands if re.search(r"--configfile \S+ +[a-z]", line)]
    # The cluster's environment has Snakemake from the main one, and so no script of it.
    assert not [line for line in commands if ".venv-cluster/bin/snakemake" in line]


def test_only_the_clusters_environment_knows_slurm(pytestconfig):
    """Elsewhere it is `invalid choice: 'slurm'`; who names the command says how to get there."""
    found = 0
    for path, text in documents(pytestconfig.rootpath).items():
        lines = [line for line in text.splitlines() if re.search("snakemake.*profiles/slurm", line)]
        assert all(".venv-cluster/bin/python -m snakemake " in line for line in lines), path
        assert not lines or "make cluster" in text, path
        found += len(lines)
    assert found >= 4


def test_the_readmes_commands_can_be_pasted(pytestconfig, tmp_path):
    text = (pytestconfig.rootpath / "README.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    for block in blocks:
        parsed = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert parsed.returncode == 0, f"{block}{parsed.stderr}"
    (line,) = [line for block in blocks for line in block.splitlines() if "torch==" in line]
    pip = tmp_path / ".venv" / "bin" / "pip"
    pip.parent.mkdir(parents=True)
    pip.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    pip.chmod(0o755)

    def paste(**environment):
        return subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    unset = paste()
    assert unset.returncode and not unset.stdout
    assert "TORCH_INDEX: set it to the CPU index" in unset.stderr
    given = paste(TORCH_INDEX="https://index.example/cpu")
    assert given.stdout.splitlines()[-2:] == ["--index-url", "https://index.example/cpu"]
