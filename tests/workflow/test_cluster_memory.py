"""A 7B training that asks a scheduler for 4 GB and no GPU is refused before any job is sent."""

import os
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
    result = submit()
    assert result.returncode == 1 and "Traceback" not in result.stderr
    message = result.stderr[result.stderr.index("jobs without a GPU") :].split("\n  File")[0]
    assert "train with alignment-handbook/zephyr-7b-sft-full: at least 1158" in message
    assert "sent" not in result.stdout and not (tmp_path / "results").exists()
    planted(
        "a cluster's profile without GPUs, and a model of 7 billion parameters",
        message,
        "no job starts",
    )
    assert submit("--dry-run").returncode == 0


def test_with_gpus_in_the_profile_the_next_check_is_reached(submit):
    gpus = ("train:gpu=1", "reference:slurm_extra='--gpus=1'")
    result = submit("--set-resources", *gpus)
    assert "jobs without a GPU" not in result.stderr
    assert "not in the lock file" in result.stderr
