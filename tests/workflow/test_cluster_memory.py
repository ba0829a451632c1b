"""A 7B training asks for what it takes; one that a profile or a machine gives less is refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Stands in for a scheduler's executor: what is sent to it fails.
EXECUTOR = """
from dataclasses import dataclass
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False,
    pass_default_storage_provider_args=True, pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=False, auto_deploy_default_storage_provider=False,
)

class Executor(RemoteExecutor):
    def run_job(self, job):
        print("sent", job.rule.name, flush=True)
        self.report_job_error(SubmittedJobInfo(job=job))

    async def check_active_jobs(self, active_jobs):
        return
        yield

    def cancel_jobs(self, active_jobs):
        pass
"""


@pytest.fixture
def submit(tmp_path):
    plugin = tmp_path / "snakemake_executor_plugin_refusing"
    plugin.mkdir()
    (plugin / "__init__.py").write_text(EXECUTOR)

    def run(*arguments: str) -> subprocess.CompletedProcess:
        target = "results/models/mistral-7b-base/dpo/seed-42"
        command = [
            sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
            "--directory", str(tmp_path), "--configfile", str(ROOT / "config/paper.yaml"),
            "--executor", "refusing", "--jobs", "1", *arguments, "--", target,
        ]  # fmt: skip
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    return run


def test_a_cluster_without_gpus_is_refused_the_papers_models(submit, tmp_path, planted):
    less = ("--set-resources", "train:mem_mb=4000", "reference:mem_mb=4000")
    result = submit(*less)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    message = result.stderr[result.stderr.index("jobs without a GPU") :].split("\n  File")[0]
    assert "train with alignment-handbook/zephyr-7b-sft-full: at least 1158" in message
    assert "sent" not in result.stdout and not (tmp_path / "results").exists()
    planted(
        "a cluster's profile with little memory and no GPU, and a model of 7 billion parameters",
        message,
        "no job starts",
    )
    listed = submit("--dry-run")
    assert listed.returncode == 0
    asked = re.findall(r"gpu=0.* mem_mb=(\d+)", listed.stdout + listed.stderr)
    assert max(map(int, asked)) > 115868  # 16 bytes for each parameter, and activations


def test_a_machine_without_gpus_is_refused_them_too(submit, monkeypatch, planted):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = submit("--executor", "local", "--cores", "1")
    message = result.stderr[result.stderr.index("jobs without a GPU") :].split("\n  File")[0]
    assert re.search(
        r"train with alignment-handbook\S+: at least 1158\d\d, the machine has", message
    )
    assert result.returncode == 1 and "rule download" not in result.stderr
    planted(
        "a machine without a GPU, and a model of 7 billion parameters",
        re.sub(r"the machine has \d+", "the machine has 24000", message),
        "no job starts",
    )


def test_with_gpus_in_the_profile_the_next_check_is_reached(submit):
    gpus = ("train:gpu=1", "reference:slurm_extra='--gpus=1'")
    result = submit("--set-resources", *gpus)
    assert "jobs without a GPU" not in result.stderr
    assert "not in the lock file" in result.stderr
