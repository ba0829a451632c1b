"""Give a job GPUs of its own: ``python -m poet.devices 2 poet.train.sft ...``.

Snakemake counts GPUs (``--resources gpu=4``) and does not say which ones a job may use: all jobs
would take the first. Here a job locks as many as it asks for and sees no others. The locks are the
kernel's and pass to the program and its workers, so they end when the last of these does. On SLURM
the scheduler has assigned the devices already, and nothing is done.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from poet.files import UserError, cli

T = TypeVar("T")
WAIT = 2.0  # seconds between attempts


def devices() -> list[str]:
    """The GPUs that a job may be given: those of CUDA_VISIBLE_DEVICES, or all of the machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(i) for i, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


def memory_mb() -> int:
    """MB of main memory that programs of this machine, or of this container, may take together."""
    import psutil

    found = [psutil.virtual_memory().total]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of control groups, version 2, 1
        with suppress(OSError, ValueError):  # none, or "max"
            found.append(int(Path("/sys/fs/cgroup", limit).read_text()))
    return min(found) // 10**6


def out_of_memory(error: Exception) -> bool:
    """Whether an error is Python's or torch's word for too little memory, on a GPU or a CPU."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def in_batches(rows: list, size: int, compute: Callable[[list], T]) -> Iterator[tuple[list, T]]:
    """(rows, ``compute`` of them) in batches of ``size``; one that is too large is halved.

    Raises:
        whatever ``compute`` does, out of memory with a single row included.
    """
    waiting = deque(rows[start : start + size] for start in range(0, len(rows), size))
    while waiting:
        batch = waiting.popleft()
        try:
            found = compute(batch)
        except (MemoryError, RuntimeError) as error:
            if len(batch) == 1 or not out_of_memory(error):
                raise
            half = len(batch) // 2
            waiting.extendleft([batch[half:], batch[:half]])
        else:
            yield batch, found


def check(count: int, found: list[str]) -> None:
    """Check that a job may be given ``count`` of the devices ``found``.

    Raises:
        UserError: there are fewer.
    """
    if count > len(found):
        raise UserError(
            f"gpu: the job asks for {count}, found {len(found)} (CUDA_VISIBLE_DEVICES, else "
            "nvidia-smi); set `gpu` in the profile's set-resources to what the machine has"
        )


def claim(count: int, found: list[str], folder: Path) -> list[str]:
    """Lock ``count`` of the devices ``found``, waiting for other jobs; the locks are inherited.

    ``folder`` holds a lock file per device; it is one for all runs of a user on the machine.

    Raises:
        UserError: as :func:`check`.
    """
    check(count, found)
    folder.mkdir(mode=0o700, exist_ok=True)
    waiting = False
    while True:
        held = {}
        for name in found:
            lock = os.open(folder / f"{name.replace('/', '-')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            held[name] = lock
            if len(held) == count:
                for lock in held.values():
                    os.set_inheritable(lock, True)
                return [*held]
        for lock in held.values():  # all or none: two jobs must not wait for each other
            os.close(lock)
        if not waiting:
            print(f"waiting for {count} of the GPUs {', '.join(found)}", file=sys.stderr)
            waiting = True
        time.sleep(WAIT)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gpus", type=int, help="0: nothing is assigned")
    parser.add_argument("module", help="run as `python -m`, such as poet.train.sft")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the module")
    args = parser.parse_args(argv)
    if args.gpus and "SLURM_JOB_ID" not in os.environ:
        folder = Path(tempfile.gettempdir()) / f"poet-gpus-{os.getuid()}"
        names = claim(args.gpus, devices(), folder)
        # CUDA counts by speed unless told to count as nvidia-smi does.
        os.environ |= {"CUDA_VISIBLE_DEVICES": ",".join(names), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        print(f"on GPU {', '.join(names)}", file=sys.stderr, flush=True)
    # In place of this process, so that signals reach the program.
    os.execv(sys.executable, [sys.executable, "-m", args.module, *args.arguments])


if __name__ == "__main__":
    cli(main)
