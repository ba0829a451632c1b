"""Devices of their own for local jobs, and trained models that nothing overwrites."""

import shutil
import subprocess

import pytest
import yaml
from safetensors.torch import load_file

from workflow.conftest import ROOT, Workflow

# Root writes whatever it likes, and Snakemake asks the system: without this capability it cannot.
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


@pytest.fixture
def again(finished, small_config, tmp_path):
    """The finished run in a folder of its own, with another configuration."""

    def make(**changes) -> Workflow:
        shutil.copytree(finished.folder, tmp_path / "run", symlinks=True)
        return Workflow(tmp_path / "run", {**small_config, **changes})

    return make


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """Let this machine say that it has so many; torch finds none and takes the CPU."""

    def say(n: int) -> None:
        lines = "".join(f"echo 'GPU {i}: A'\n" for i in range(n))
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{lines}")
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return say


def test_jobs_take_turns_on_one_gpu_without_a_profile(again, gpus):
    gpus(1)
    run = again()
    models = [f"results/models/world/{method}/seed-1" for method in ("dpo", "dpo-poet")]
    result = run("--forcerun", *models, "--", *models)
    assert result.returncode == 0, result.stderr[-3000:]
    logs = [(run.folder / f"results/logs/train/world-{m}-1.log") for m in ("dpo", "dpo-poet")]
    assert all("on GPU 0" in log.read_text() for log in logs)
    # Snakemake starts the second one when the first has ended: it does not wait for a lock.
    assert not any("waiting for 1 of the GPUs" in log.read_text() for log in logs)


def test_local_gpus_are_dealt_out(again, gpus):
    """profiles/local-gpu on a machine with two."""
    gpus(2)
    run = again()
    weights = "results/models/world/dpo/seed-1/model.safetensors"
    before = load_file(run.folder / weights)
    result = run(
        "--workflow-profile", str(ROOT / "profiles/local-gpu"), "--resources", "gpu=2",
        "--forcerun", "train", "--until", "train",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    logs = (run.folder / "results/logs/train").glob("*.log")
    used = [line for log in logs for line in log.read_text().splitlines() if "on GPU" in line]
    assert len(used) == 8 and set(used) == {"on GPU 0", "on GPU 1"}
    after = load_file(run.folder / weights)
    assert all((after[name] == before[name]).all() for name in before)


def test_protected_models_are_not_trained_again(again, planted):
    run = again(protect=True)
    model = run.folder / "results/models/world/dpo/seed-1"
    target = "results/models/world/dpo/seed-1"
    result = run("--forcerun", target, "--", target)
    assert result.returncode == 0, result.stderr[-3000:]
    assert all(path.stat().st_mode & 0o222 == 0 for path in [model, *model.iterdir()])
    before = (model / "model.safetensors").read_bytes()

    config = yaml.safe_load(run.config.read_text())
    config["settings"]["world"]["preference"]["dpo"]["beta"] = 0.5
    run.config.write_text(yaml.safe_dump(config, sort_keys=False))
    command = [*UNPRIVILEGED, *run.command("--", target)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=run.folder)
    assert result.returncode == 1
    seen = result.stderr[result.stderr.index("Write-protected") :].splitlines()[:2]
    assert target in "".join(seen)
    assert (model / "model.safetensors").read_bytes() == before
    planted(
        "a change would train a model again that `protect: true` keeps",
        "\n".join(seen),
        "no job starts",
    )
