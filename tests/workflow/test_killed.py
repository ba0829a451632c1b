"""`make results` killed with -9 twenty times, and two runs in one folder."""

import fcntl
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

# What the chain's jobs run.
JOBS = [
    "poet.world.simulate", "poet.train.sft", "poet.data.tokenization", "poet.data.truncation",
    "poet.train.reference", "poet.train.preference", "poet.evaluate.generation",
    "poet.evaluate.annotate", "poet.evaluate.downstream", "poet.evaluate.alpaca",
    "poet.evaluate.compare",
]  # fmt: skip


@pytest.fixture
def make(clone, small_config):
    """Start `make results` of the small default in a checkout, in a process group of its own."""
    (clone / "small.yaml").write_text(yaml.safe_dump(small_config, sort_keys=False))

    def start(cores: int = 2):
        return subprocess.Popen(
            ["make", "results", "CONFIG=small.yaml", f"CORES={cores}"],
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


def kill(process: int, sent: signal.Signals) -> bool:
    """Send a signal to a process that was there a moment ago: whether it still was."""
    with suppress(ProcessLookupError):
        os.kill(process, sent)
        return True
    return False


def kill_a_job(run, modules: list[str]) -> str | None:
    """Kill -9 the first job that runs one of ``modules``: which; None if the run ends without."""
    while run.poll() is None:
        for module in modules:
            found = processes(run.pid, f"-m\0{module}\0")
            if any([kill(process, signal.SIGKILL) for process in found]):
                return module
        time.sleep(0.02)
    return None


def wait_for_a_job(run, clone) -> None:
    while not list((clone / "results/logs").glob("simulate/*.log")):
        assert run.poll() is None, run.communicate()[0][-3000:]
        time.sleep(0.1)


def ends_as_undisturbed(make, finished, clone) -> None:
    final = make()
    output = final.communicate()[0]
    assert final.returncode == 0, output[-3000:]
    tables = {path.name: path.read_bytes() for path in (clone / "results/tables").iterdir()}
    assert tables == finished.tables()
    assert not list((clone / "results").rglob(".partial*"))


def test_a_job_of_each_kind_is_killed(make, finished, clone, planted):
    left, errors = list(JOBS), []
    while left:
        run = make(cores=1)  # one job at a time: none ends while another is killed
        killed = kill_a_job(run, left)
        assert killed, f"never ran: {left}; {run.communicate()[0][-3000:]}"
        left.remove(killed)
        output = run.communicate(timeout=300)[0]
        assert run.returncode != 0, (killed, output[-3000:])
        errors += [line for line in output.splitlines() if line.startswith("Error in ")]
    ends_as_undisturbed(make, finished, clone)
    planted(
        "a job is killed (`kill -9`)",
        errors[0],
        "other jobs finish; the same command goes on, a training from its last checkpoint",
    )


def test_killed_at_random_moments(make, finished, clone):
    """Snakemake alone, whose jobs live on; or everything at once. Before the run can be done."""
    moments = random.Random(0)
    for number in range(20 - len(JOBS)):
        run = make()
        time.sleep(moments.uniform(1, 6))
        assert run.poll() is None, run.communicate()[0][-3000:]
        if number % 2:
            os.killpg(run.pid, signal.SIGKILL)
        else:
            for process in processes(run.pid, "snakemake"):
                kill(process, signal.SIGKILL)
        run.stdout.close()
        run.wait()
    ends_as_undisturbed(make, finished, clone)


def test_a_lock_that_is_about_to_go(make, clone):
    """What a killed run leaves for a moment: the next one waits instead of giving up."""
    (clone / "results").mkdir()
    with (clone / "results/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = make()
        time.sleep(1)
        assert run.poll() is None, run.communicate()[0][-3000:]
    wait_for_a_job(run, clone)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


def test_two_runs_in_one_folder(make, clone, planted):
    first = make()
    wait_for_a_job(first, clone)
    second = make()
    output = second.communicate(timeout=60)[0]
    assert second.returncode != 0
    seen = next(line for line in output.splitlines() if line.startswith("error:"))
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    planted("two `make results` in one folder", seen, "the first goes on undisturbed")


def test_a_run_that_waits_for_its_last_job_keeps_the_folder(make, clone):
    """SIGTERM to make's shell and to Snakemake, which lets its job end: it would publish later."""
    first = make(cores=1)
    while not (jobs := processes(first.pid, "-m\0poet.world.simulate\0")):
        assert first.poll() is None, first.communicate()[0][-3000:]
        time.sleep(0.02)
    for job in jobs:
        kill(job, signal.SIGSTOP)
    for process in processes(first.pid, "snakemake"):
        kill(process, signal.SIGTERM)
    second = make()
    output = second.communicate(timeout=60)[0]
    assert "error: another make is running the workflow in this folder" in output
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
