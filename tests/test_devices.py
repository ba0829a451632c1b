"""GPUs of their own for jobs that run at once; nvidia-smi is a stand-in, the locks are real."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from poet import devices
from poet.files import UserError

# A job: says what it was given, and lasts until its input ends.
JOB = "import os, sys; print(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); sys.stdin.read()"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Two GPUs, a temporary folder for the locks, and the job as a module."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: a)'\necho 'GPU 1: A (UUID: b)'\n")
    program.chmod(0o755)
    (tmp_path / "held.py").write_text(JOB)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start(machine):
    started = []

    def run(gpus: int) -> subprocess.Popen:
        command = [sys.executable, "-m", "poet.devices", str(gpus), "held"]
        pipe = subprocess.PIPE
        job = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(job)
        return job

    yield run
    for job in started:
        job.kill()
        job.wait()
        for pipe in (job.stdin, job.stdout, job.stderr):
            pipe.close()


def given(job: subprocess.Popen) -> list[str]:
    return job.stdout.readline().strip().split(",")


def test_jobs_at_once_have_different_gpus(start):
    first, second = start(1), start(1)
    assert sorted(given(first) + given(second)) == ["0", "1"]


@pytest.mark.parametrize("end", [signal.SIGKILL, None])
def test_a_job_waits_until_enough_are_free(start, end):
    first = start(1)
    assert given(first) == ["0"]
    both = start(2)
    assert both.stderr.readline() == "waiting for 2 of the GPUs 0, 1\n"
    # It holds none of them while it waits.
    other = start(1)
    assert given(other) == ["1"]
    for job in (first, other):
        if end:
            job.send_signal(end)
        job.stdin.close()
    assert given(both) == ["0", "1"]


def test_only_what_the_user_made_visible(start, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert given(start(1)) == ["1"]


@pytest.mark.parametrize(
    ("gpus", "environment"), [(0, {}), (1, {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "3"})]
)
def test_nothing_is_changed_without_gpus_and_under_slurm(start, monkeypatch, gpus, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert given(start(gpus)) == [environment.get("CUDA_VISIBLE_DEVICES", "None")]


def test_more_than_there_are(machine, tmp_path, planted):
    with pytest.raises(UserError, match="asks for 3, found 2") as error:
        devices.claim(3, devices.devices(), Path(tmp_path))
    planted("a job asks for more GPUs than there are", str(error.value), "the job does not start")


def test_a_machine_without_gpus(machine, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert devices.devices() == []
