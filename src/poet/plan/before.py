"""What a run's jobs lack, said before the first of them starts, not where it is needed."""

from __future__ import annotations

import os
from pathlib import Path

from poet import devices
from poet.files import UserError
from poet.hub import lock, wanted
from poet.plan.fits import Job
from poet.train import arguments, launch


def check_lock(jobs: list[Job], config: dict, command: str) -> None:
    """Check that the lock has every repository that is to be fetched or read.

    Args:
        command: that asks the hub for what the lock lacks.

    Raises:
        UserError: it lacks one; perhaps the name is a mistyped folder.
    """
    repositories, locked = wanted.repositories(config), lock.read(config["lock"])
    for job in jobs:
        name = job.wildcards.get("repository")
        if job.rule == "diagnose_pairs":
            name = config["settings"][job.wildcards["setting"]]["model"].get("name")
        if name in repositories and name not in locked:
            mistyped = Path(name.removeprefix("datasets/")).absolute()
            raise UserError(
                f"{name} is not in the lock file {config['lock']}, which says what the hub has to "
                f"deliver. With access to the hub, run once:\n  {command}\n"
                f"If a path on this machine is meant: there is no {mistyped}."
            )


def check_devices(jobs: list[Job]) -> None:
    """Check that this machine has the GPUs that each job asks for.

    Raises:
        UserError: there are fewer.
    """
    if asked := [gpus for job in jobs if (gpus := job.resources.get("gpu", 0))]:
        found = devices.devices()
        for gpus in asked:
            devices.check(gpus, found)


def check_trainings(jobs: list[Job], config: dict, deployed: bool) -> None:
    """Check how trainings are launched, and the packages that they need beside the pinned ones.

    Args:
        deployed: the packages are those of an image or a conda environment, not of this Python.

    Raises:
        UserError: an unknown sharding, or a package that is not installed.
    """
    for job in jobs:
        if job.rule == "train":
            launch.command("", [], job.resources.get("gpu", 0), job.resources["sharding"])
            if not deployed:
                setting = config["settings"][job.wildcards["setting"]]
                arguments.check_optimizer(setting["preference"]["optim"])
    others = set(config["report_to"]) - {"tensorboard"}  # which is pinned
    if others and not deployed:
        arguments.check_reporting(sorted(others))


def check_engine(jobs: list[Job], config: dict) -> None:
    """Check that vLLM is there, where answers or verdicts are sampled with it.

    Raises:
        UserError: naming the interpreter, the rule and its setting.
    """
    interpreter = config["vllm_python"]
    if os.path.isfile(interpreter):
        return
    for job in jobs:
        if job.params.get("engine") or '"vllm_python"' in str(job.params.get("settings")):
            raise UserError(
                f"vllm_python is {interpreter}, which does not exist, and {job.rule} of "
                f"{job.wildcards['setting']} asks for `backend: vllm`. `make vllm` sets it up (it "
                "needs a GPU); `backend: transformers` or `continuous` needs nothing more."
            )


def check_keys(jobs: list[Job], config: dict) -> None:
    """Check that verdicts can be bought; what is in a judge's store needs nothing.

    Raises:
        UserError: a store that cannot be written, no key, or no money.
    """
    buying = [job.wildcards["annotator"] for job in jobs if job.rule.startswith("buy_")]
    for name in dict.fromkeys(buying):
        section, where = config["annotators"][name], f"annotators.{name}"
        store = Path(section["store"], name)
        try:
            store.mkdir(parents=True, exist_ok=True)
            with open(store / "answers.jsonl", "ab"):
                empty = not os.path.getsize(store / "answers.jsonl")
        except OSError as error:
            raise UserError(
                f"{where}.store is {section['store']}, where nothing can be written: "
                f"{error.strerror} ({error.filename})"
            ) from None
        variable = section.get("key_variable")
        if empty and variable and not os.environ.get(variable):
            raise UserError(
                f"{where}: the environment variable {variable} is empty; expected the server's "
                "key. Export it and run again."
            )
        if empty and not section["max_cost"] and any(section["price"].values()):
            raise UserError(
                f"{where}.max_cost is 0 and the price is not: nothing would be bought. Say how "
                "many US dollars this judge may cost; `make plan` estimates it."
            )
