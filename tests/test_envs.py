"""The environment by conda and by Apptainer: the same pins, and one environment for every rule."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
ENVS = ROOT / "envs"


def pins() -> set[str]:
    lines = (ENVS / "main.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_condas_pins_are_pips():
    environment = yaml.safe_load((ENVS / "main.yaml").read_text())
    *packages, pip = environment["dependencies"]
    assert set(pip["pip"]) == pins() and len(pip["pip"]) == len(pins())
    assert "pip" in packages and any(name.startswith("python=3.11") for name in packages)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^=\s]+", pin) for pin in pins())


def test_the_image_installs_the_pins():
    definition = (ENVS / "poet.def").read_text()
    sections = re.split(r"^%(\w+)$", definition, flags=re.MULTILINE)
    header, found = sections[0], dict(zip(sections[1::2], sections[2::2], strict=True))
    assert re.search(r"^Bootstrap: docker$", header, re.MULTILINE)
    assert re.search(r"^From: python:3\.11-", header, re.MULTILINE)
    source, target = found["files"].split()
    assert (ROOT / source).samefile(ENVS / "main.txt") and f"-r {target}" in found["post"]
    imported = re.search(r'import ([\w, ]+)"', found["test"])[1].split(", ")
    for module in imported:
        assert any(pin.replace("-", "_").startswith(f"{module}==") for pin in pins()), module


CONDA = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/log"
case "$*" in
  "info --json") echo '{"platform": "linux-64", "conda_prefix": "/nowhere"}';;
  "--version") echo "conda 24.9.0";;
  *channel_priority*) echo '{"get": {"channel_priority": "strict"}}';;
esac
"""


def test_one_conda_environment_serves_all_rules(tmp_path):
    """Snakemake's own conda integration, up to the call of conda (a stand-in that takes notes)."""
    conda = tmp_path / "bin" / "conda"
    conda.parent.mkdir()
    conda.write_text(CONDA)
    conda.chmod(0o755)
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1",
         "--sdm", "conda", "--conda-create-envs-only", "--directory", str(tmp_path),
         "--configfile", str(ROOT / "config" / "paper.yaml")],
        capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PATH": f"{conda.parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    created = re.findall(r"env create .*--file (\S+)", (conda.parent / "log").read_text())
    assert len(created) == 1
    assert yaml.safe_load(Path(created[0]).read_text()) == yaml.safe_load(
        (ENVS / "main.yaml").read_text()
    )
