"""`make results` killed with -9 twenty times, two runs in one folder, a run without room."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

# What the chain's jobs run, in their order.
JOBS = [
    "poet.data.world", "poet.train.sft", "poet.data.tokenization", "poet.data.truncation",
    "poet.train.reference", "poet.train.preference", "poet.evaluate.generation",
    "poet.evaluate.annotators", "poet.evaluate.downstream", "poet.evaluate.alpaca",
    "poet.evaluate.compare",
]  # fmt: skip


@pytest.fixture
def make(clone, small_config):
    """Start `make results` of the small default in a checkout, in a process group of its own."""
    (clone / "small.yaml").write_text(yaml.safe_dump(small_config, sort_keys=False))

    def start():
        return subprocess.Popen(
            ["make", "results", "CONFIG=small.yaml", "CORES=2"],
            cwd=clone, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    return start


def processes(group: int, text: str) -> list[int]:
    """Processes of a group whose command line holds ``text``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            if text in command and os.getpgid(int(folder.name)) == group:
                found.append(int(folder.name))
        except OSError:  # ended meanwhile
            continue
    return found


def kill_a_job(run, module: str) -> bool:
    """Kill -9 the first job that runs ``module``; False if the run ends without one."""
    while run.poll() is None:
        if found := processes(run.pid, f"-m\0{module}\0"):
            for process in found:
                os.kill(process, signal.SIGKILL)
            return True
        time.sleep(0.02)
    return False


def test_killed_twenty_times_ends_with_the_same_tables(make, finished, clone, planted):
    moments = random.Random(0)
    # A job of each kind; and Snakemake alone, whose jobs live on; and everything at once.
    errors = []
    for target in [*JOBS, *["snakemake", "all"] * 5][:20]:
        run = make()
        if target in JOBS:
            killed = kill_a_job(run, target)
            output = run.communicate(timeout=300)[0]
            assert (run.returncode != 0) == killed, (target, output[-3000:])
            errors += [line for line in output.splitlines() if line.startswith("Error in ")]
            continue
        time.sleep(moments.uniform(1, 6))
        if target == "all":
            os.killpg(run.pid, signal.SIGKILL)
        else:
            for process in processes(run.pid, "snakemake"):
                os.kill(process, signal.SIGKILL)
        run.stdout.close()
        run.wait()
    final = make()
    output = final.communicate()[0]
    assert final.returncode == 0, output[-3000:]
    tables = {path.name: path.read_bytes() for path in (clone / "results/tables").iterdir()}
    assert tables == finished.tables()
    assert not list((clone / "results").rglob(".partial*"))
    planted(
        "a job is killed (`kill -9`)",
        errors[0],
        "other jobs finish; the same command goes on, a training from its last checkpoint",
    )


def test_two_runs_in_one_folder(make, clone, planted):
    first = make()
    while not list((clone / "results/logs").glob("simulate/*.log")):
        assert first.poll() is None, first.communicate()[0][-3000:]
        time.sleep(0.1)
    second = make()
    output = second.communicate(timeout=60)[0]
    assert second.returncode != 0
    seen = next(line for line in output.splitlines() if line.startswith("error:"))
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    planted("two `make results` in one folder", seen, "the first goes on undisturbed")
