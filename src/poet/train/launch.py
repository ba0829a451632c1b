"""Start a training program on one process as it is, on several through `accelerate launch`.

The program makes its gradient accumulation from the number of processes, so that the global batch
is the configuration's on any number of GPUs.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from poet.files import UserError, cli

CONFIGS = Path(__file__).parents[3] / "config" / "accelerate"


def command(module: str, arguments: list[str], processes: int, sharding: str) -> list[str]:
    """The command line that runs ``python -m module`` on ``processes`` processes.

    Args:
        sharding: name of a file in config/accelerate; it is read for several processes only, or
            where it moves what does not fit out of one GPU's memory (``*-offload``).

    Raises:
        UserError: there is no such file.
    """
    if processes <= 1 and not sharding.endswith("-offload"):
        return [sys.executable, "-m", module, *arguments]
    config = CONFIGS / f"{sharding}.yaml"
    if not config.is_file():
        known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
        raise UserError(f"sharding: found {sharding}, expected one of {known} (config/accelerate)")
    return [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config),
        "--num_processes", str(max(processes, 1)), "--num_machines", "1",
        "--main_process_port", "0", "--module", module, *arguments,
    ]  # fmt: skip


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, required=True, help="0: without, or the one there is")
    parser.add_argument("--sharding", required=True, help="a file in config/accelerate")
    parser.add_argument("module", help="such as poet.train.preference")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the module")
    args = parser.parse_args(argv)
    started = command(args.module, args.arguments, args.gpus, args.sharding)
    # In place of this process, so that signals reach the training.
    os.execv(started[0], started)


if __name__ == "__main__":
    cli(main)
