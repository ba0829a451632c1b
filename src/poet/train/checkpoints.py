"""Checkpoints of a training run: written now and then and on a signal, resumed bit for bit.

They live in ``ROOT/KEY``, where KEY names the run: its resolved record, the digests of its inputs
and the number of processes. A checkpoint without its marker was cut off while it was written and
is never used; nor is one whose marker tells of another run. Optimizer state is read from nowhere
else, and by torch's ``weights_only`` loader.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from contextlib import suppress
from math import ceil
from pathlib import Path

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import sort_checkpoints

from poet.files import UserError, read_json, remove, write_json
from poet.provenance import value_digest
from poet.train.leftovers import size

MARKER = "complete.json"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # preemption, Ctrl-C, a closed terminal


def is_main() -> bool:
    """Whether this is the one process, or the first of several, that writes files."""
    return int(os.environ.get("RANK", 0)) == 0


class Checkpoints:
    """The checkpoints of one run below ``root``; ``inputs`` are the digests of what it reads."""

    def __init__(self, root: str | Path, record: dict, inputs: dict[str, str]) -> None:
        processes = int(os.environ.get("WORLD_SIZE", 1))
        self.run = {"record": record, "inputs": inputs, "processes": processes}
        self.folder = Path(root) / value_digest(self.run)

    def hold(self) -> None:
        """Wait until no other process of this machine trains the same run, as an orphan might.

        The lock ends with the process.
        """
        if not is_main():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another process trains the same in {self.folder}; waiting for it to end")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass

    def last(self) -> Path | None:
        """The last complete checkpoint; None to begin at the start.

        Raises:
            UserError: a checkpoint in the folder was made by another run.
        """
        for other in sorted(self.folder.parent.glob("*")):
            if other != self.folder:
                _say(
                    f"checkpoints of other settings or data are not used: {other} ({size(other)}); "
                    f"unless you mean to go back to those, rm -r {other}"
                )
        for path in map(Path, reversed(sort_checkpoints(str(self.folder)))):
            if not (path / MARKER).exists():
                _say(f"{path} is incomplete and will not be used")
            elif read_json(path / MARKER) != self.run:
                raise UserError(
                    f"{path} was made by another run than this one ({path / MARKER} says which); "
                    "expected a checkpoint of these settings and data. Move it away or delete it."
                )
            else:
                _say(f"resuming from {path}")
                return path
        return None

    def remove(self) -> None:
        """Delete them, when the finished model is published."""
        if not is_main():
            return
        remove(self.folder)
        with suppress(OSError):  # other runs' are left
            self.folder.parent.rmdir()


class Saver(TrainerCallback):
    """Saves every ``save_steps`` (below 1: a share of all steps) and on SIGNALS, which stop.

    The interval is rounded up to a multiple of ``logging_steps``, so that a resumed run logs the
    same means; the last step is logged too. A signal waits for the optimizer step in hand: the
    grace time of whoever sends it has to cover that and the writing. ``stopped`` is its number, or
    0. Where it is ignored already (nohup), it stays so. A second Ctrl-C ends at once.
    """

    def __init__(self, checkpoints: Checkpoints, save_steps: float) -> None:
        self.checkpoints, self.save_steps, self.stopped = checkpoints, save_steps, 0
        self.previous = {}

    def on_train_begin(self, args, state, control, **kwargs):
        steps = self.save_steps * state.max_steps if self.save_steps < 1 else self.save_steps
        self.every = ceil(steps / args.logging_steps) * int(args.logging_steps)
        self.signalled, self.alone = 0, args.world_size == 1
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self.previous[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number, frame) -> None:
        # A launcher of several processes passes on the one that they have got already.
        if self.signalled == number == signal.SIGINT and self.alone:
            raise KeyboardInterrupt
        self.signalled = number

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        # accelerate does not reach the sampler of a resumed epoch on several processes.
        sampler = train_dataloader.batch_sampler
        while hasattr(sampler, "batch_sampler"):
            sampler = sampler.batch_sampler
        if hasattr(sampler.sampler, "set_epoch"):
            sampler.sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args, state, control, **kwargs):
        flag = torch.tensor(float(self.signalled), device=args.device)
        if args.world_size > 1:  # all processes stop at the same step
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        self.stopped = int(flag)
        if self.stopped:
            control.should_training_stop = True
        last = state.global_step == state.max_steps
        control.should_log |= last
        due = state.global_step % self.every == 0 and not last
        control.should_save = bool(self.stopped) or due

    def on_save(self, args, state, control, **kwargs):
        if args.world_size > 1:
            torch.distributed.barrier()
        if state.is_world_process_zero:
            folder = self.checkpoints.folder / f"checkpoint-{state.global_step}"
            write_json(self.checkpoints.run, folder / MARKER)
            for other in map(Path, sort_checkpoints(str(self.checkpoints.folder))):
                if other != folder:
                    remove(other)

    def release(self) -> None:
        """Leave the signals to whoever had them, however the training ended."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    if is_main():
        print(text, file=sys.stderr)
