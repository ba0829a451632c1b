"""Preference runs for tests: tiny inputs, and processes that get killed on the way."""

import json
import multiprocessing
import os
import random
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path

import yaml

from poet.config import load, resolve, stage
from poet.data.tokenization import pair_hash

ROOT = Path(__file__).parents[1]
TRAINERS = {  # of each program in poet.train
    "preference": ("poet.train.trainer", "PreferenceTrainer"),
    "sft": ("poet.train.sft", "StartTrainer"),
    "reward_model": ("trl", "RewardTrainer"),
}
# Imported once in the server that forks the processes.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["trl.trainer.dpo_trainer", "trl.trainer.sft_trainer", "trl.trainer.reward_trainer", "peft"]
)


def record_of(method="dpo-poet", **preference) -> dict:
    """The train record of a method of config.yaml, with these preference settings."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    preference = {"global_batch_size": 4, "per_device_batch_size": 2, **preference}
    config["settings"]["world"]["preference"] |= preference
    return stage(resolve(load(config), "world", method, 1), "train")


def make_inputs(start: Path, folder: Path, n_train=41, n_test=6) -> dict[str, str]:
    """Random tokens and their reference; paths by the program's flags."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from poet.train import reference

    draw = random.Random(0)

    def ids(longest):
        return [draw.randrange(10, 250) for _ in range(draw.randint(1, longest))]

    rows = [(ids(6), ids(20), ids(20)) for _ in range(n_train + n_test)]
    kind = pa.list_(pa.int32())
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    table = {n: pa.array(c, kind) for n, c in zip(names, zip(*rows, strict=True), strict=True)}
    table["pair_hash"] = pa.array([pair_hash(*row) for row in rows])
    table["split"] = pa.array(["train"] * n_train + ["test"] * n_test)
    paths = {name: str(folder / f"{name}.parquet") for name in ("tokens", "reference")}
    pq.write_table(pa.table(table), paths["tokens"])
    record = {"setting": "world", "torch_threads": 1, "reference_batch_size": 32}
    record |= {"forward": "packed", "token_budget": 100, "dtype": "float32"}
    reference.main(
        ["--record", json.dumps(record), "--tokens", paths["tokens"], "--model", str(start)]
        + ["--output", paths["reference"]]
    )
    return {**paths, "model": str(start)}


def arguments(inputs: dict[str, str], record: dict, folder: Path) -> list[str]:
    """Command line of ``poet.train.preference``, all that it writes in ``folder``."""
    flags = {
        "record": json.dumps(record), **inputs, "output": folder / "model",
        "checkpoints": folder / "checkpoints", "logs": folder / "logs", "save-steps": 0.6,
    }  # fmt: skip
    return [text for name, value in flags.items() for text in (f"--{name}", str(value))]


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def environment(rank: int, processes: int, port: int) -> dict[str, str]:
    """What torchrun tells a process of its place among others."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip


def start_and_end(argv, log: Path, program: str = "preference", processes=1, **end) -> int:
    """Train in processes of their own that end as :func:`_run` says; stderr in ``log``; their
    code, the first that is not 0.

    Each process of several gets the signal, as on a machine that is taken away.
    """
    port, running = free_port(), []
    for rank in range(processes):
        place = environment(rank, processes, port) if processes > 1 else {}
        given = (program, argv, f"{log}{rank or ''}", place)
        running.append(PROCESSES.Process(target=_run, args=given, kwargs=end))
    for process in running:
        process.start()
    for process in running:
        process.join()
    return next((process.exitcode for process in running if process.exitcode), 0)


def _run(program, argv, log, place, signal_number=signal.SIGKILL, on="", after=0) -> None:
    """Send this process the signal after the ``after``-th call of the trainer's method ``on``."""
    from accelerate.state import AcceleratorState

    from poet.files import cli

    os.environ |= place
    if place:  # the server that this process was forked from has been alone
        AcceleratorState._reset_state(reset_partial_state=True)
    module, name = TRAINERS[program]
    trainer = getattr(import_module(module), name)
    sys.stderr = open(log, "w")
    original, calls = getattr(trainer, on, None), []

    def method(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        calls.append(1)
        if len(calls) == after:
            os.kill(os.getpid(), signal_number)
        return result

    if on:
        setattr(trainer, on, method)
    cli(lambda: import_module(f"poet.train.{program}").main(argv))
