"""The workflow through profiles/slurm on a real SLURM: cancelled, its node lost, no accounting."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from conftest import absent
from workflow.conftest import Workflow, small

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYTHON = ROOT / ".venv-cluster" / "bin" / "python"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """``slurm(action)`` acts on a one-node SLURM; absent, it is the requirement `slurm`."""
    path = os.pathsep.join([*os.get_exec_path(), "/usr/sbin"])
    missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    if missing or os.geteuid() != 0:
        absent("slurm", f"a SLURM of one's own needs root and {', '.join(PROGRAMS)}")
    if not PYTHON.exists():
        absent("slurm", "the environment with SLURM's executor is not there (make cluster)")
    state = tmp_path_factory.mktemp("slurm")

    def act(action: str) -> None:
        done = subprocess.run([HERE / "slurm", action, state], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    act("up")
    yield act
    act("down")


@pytest.fixture(scope="module")
def config():
    """The small default with trainings long enough to be hit in the middle."""
    config = small(yaml.safe_load((ROOT / "config.yaml").read_text()))
    world = config["settings"]["world"]
    world["data"]["pairs"] = 512
    world["preference"]["global_batch_size"] = 8
    config["save_steps"] = 0.1
    config["seeds"] = [1]
    config["grid"] = {"world": ["dpo", "dpo-poet"]}
    return config


class Cluster(Workflow):
    """The same workflow, its jobs sent to SLURM through the profile."""

    def command(self, *arguments: str) -> list[str]:
        local = [a for a in super().command() if a not in ("--cores", "2")]
        return [
            str(PYTHON), "-m", "snakemake", *arguments, *local[3:],
            "--profile", str(ROOT / "profiles" / "slurm"), "--max-threads", "2",
            "--slurm-no-account", "--slurm-status-command", "squeue", "--latency-wait", "5",
            "--slurm-init-seconds-before-status-checks", "2",
        ]  # fmt: skip

    def job(self, folder: str) -> str | None:
        """SLURM's number of the running job that has written a checkpoint of this training."""
        checkpoints = self.folder / "results" / "checkpoints" / folder
        if not any(checkpoints.glob("*/checkpoint-*/complete.json")):
            return None
        running = subprocess.run(
            ["squeue", "--noheader", "--states=running", "--format=%A %k"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        method = folder.split("/")[-2]
        jobs = [line.split()[0] for line in running.splitlines() if f"{method}_" in line]
        return jobs[0] if jobs else None


def wait_for(what, process, seconds: int = 240):
    """What ``what()`` returns once it is true, while ``process`` is running."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, process.communicate()[0][-5000:]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
    return found


def test_cancelled_and_lost_jobs_go_on_from_their_checkpoints(
    slurm, config, tmp_path_factory, planted
):
    undisturbed = Workflow(tmp_path_factory.mktemp("local"), config)
    result = undisturbed("--", "main")
    assert result.returncode == 0, result.stderr[-5000:]

    cluster = Cluster(tmp_path_factory.mktemp("cluster"), config)
    run = subprocess.Popen(
        cluster.command("main"), cwd=cluster.folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    cancelled = wait_for(lambda: cluster.job("train/world/dpo/seed-1"), run)
    subprocess.run(["scancel", cancelled], check=True)
    wait_for(lambda: cluster.job("train/world/dpo-poet/seed-1"), run)
    slurm("fail")  # slurmd, its step daemons and their jobs, all at once
    slurm("up")
    output = run.communicate(timeout=420)[0]
    assert run.returncode == 0, output[-5000:]
    assert cluster.tables() == undisturbed.tables()
    for method in ("dpo", "dpo-poet"):
        log = (cluster.folder / f"results/logs/train/world-{method}-1.log").read_text()
        assert "resuming from results/checkpoints/train/world" in log
    failure = next(line.strip() for line in output.splitlines() if "status is:" in line)
    planted(
        "a training job is cancelled (`scancel`)",
        failure.replace(f"'{cancelled}'", "JOB").split("Detailed")[0],
        "it wrote a checkpoint on SIGTERM; the profile's retry goes on from it to the same tables",
    )
    planted(
        "a node dies with its jobs and comes back",
        "SLURM queues the job again (`--requeue`); its log says `resuming from results/...`",
        "the job goes on from its last checkpoint to the same tables",
    )


def test_a_state_taken_for_success_is_harmless(slurm, config, tmp_path_factory, planted):
    """Without accounting the executor takes an unknown state for success; the files decide."""
    cluster = Cluster(tmp_path_factory.mktemp("unknown"), config)
    forgetful = cluster.folder / "bin" / "squeue"
    forgetful.parent.mkdir()
    forget = "sed -E 's/[|](CANCELLED|FAILED)$/|UNKNOWN/'"
    forgetful.write_text(f'#!/bin/sh\n{shutil.which("squeue")} "$@" | {forget}\n')
    forgetful.chmod(0o755)
    model = "results/models/world/sft"
    run = subprocess.Popen(
        cluster.command(model), cwd=cluster.folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": f"{forgetful.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    job = wait_for(lambda: cluster.job("sft/world"), run)
    subprocess.run(["scancel", job], check=True)
    assert not (cluster.folder / model).exists()
    output = run.communicate(timeout=300)[0]
    assert run.returncode == 0, output[-5000:]
    assert (cluster.folder / model / "model.safetensors").exists()
    seen = next(line for line in output.splitlines() if "Missing files after" in line)
    planted(
        "SLURM forgets the state of a job that was cut off, and the executor takes it for success",
        seen.split(" This might")[0],
        "a file under its final name is complete: the output is missed and the job retried",
    )
