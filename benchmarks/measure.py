"""Run arms in turns, and time them: seconds, peak memory, loss and gradients."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PrinterCallback, TrainerCallback

from benchmarks.case import synchronize


class Run(NamedTuple):
    """One optimizer step of one arm."""

    seconds: float
    reference_seconds: float  # of the pass that can be shared; 0 where the reference is live
    peak_gb: float
    loss: float
    gradients: torch.Tensor  # flat, as the optimizer gets them, on the CPU


class Watch(TrainerCallback):
    """Takes the time of training proper, and a copy of the gradients outside of it."""

    def __init__(self, device: str):
        self.device, self.seconds = device, 0.0

    def on_train_begin(self, *args, **kwargs):
        synchronize(self.device)
        self.start = time.perf_counter()

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self._stop()
        self.gradients = torch.cat([p.grad.flatten().float().cpu() for p in model.parameters()])
        self.start = time.perf_counter()

    def on_train_end(self, *args, **kwargs):
        self._stop()

    def _stop(self):
        synchronize(self.device)
        self.seconds += time.perf_counter() - self.start


def run(build: Callable, device: str) -> Run:
    """Build an arm's trainer and let it train; memory is that of the training, peak."""
    gc.collect()
    forget_peak(device)
    trainer = build()
    watch = Watch(device)
    trainer.add_callback(watch)
    trainer.remove_callback(PrinterCallback)
    loss = trainer.train().training_loss
    reference_seconds = getattr(trainer, "reference_seconds", 0.0)
    return Run(watch.seconds, reference_seconds, peak_gb(device), loss, watch.gradients)


def interleaved(
    arms: dict[str, Callable], twice: Iterable[str], repeats: int, device: str, say=print
) -> dict[str, list[Run]]:
    """``repeats`` rounds over all arms, so that what disturbs the machine disturbs them alike.

    Those named in ``twice`` run again at the end of a round: their ratio needs the most certainty.
    """
    runs: dict[str, list[Run]] = {name: [] for name in arms}
    order = [*arms, *(name for name in twice if name in arms)]
    for repeat in range(repeats):
        # Every other round backwards: an arm has not always the same neighbour before it.
        for name in order[:: 1 if repeat % 2 == 0 else -1]:
            found = run(arms[name], device)
            if runs[name]:
                found = found._replace(gradients=None)  # the first ones are compared
            runs[name].append(found)
            say(f"round {repeat + 1}/{repeats}  {name:28} {found.seconds:8.2f} s")
    return runs


def forget_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here


def peak_gb(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e9
    raise RuntimeError("/proc/self/status has no VmHWM")
