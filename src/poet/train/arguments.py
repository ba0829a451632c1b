"""What all trainers of the project have in common: batch sizes, precision, flags, packages."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Iterable
from importlib.util import find_spec

from poet.files import UserError
from poet.precision import device_and_dtype


def add_run_flags(parser: ArgumentParser) -> None:
    """Flags of a training run that leave its result alone, so that no record holds them."""
    parser.add_argument("--checkpoints", required=True, help="folder for checkpoints, to resume")
    parser.add_argument(
        "--save-steps", type=float, default=0.2, metavar="N",
        help="optimizer steps between checkpoints; below 1: as a share of all",
    )  # fmt: skip
    parser.add_argument("--logs", required=True, help="folder for TensorBoard's files")
    parser.add_argument(
        "--report-to", nargs="*", default=["tensorboard"], metavar="NAME",
        help="where the log goes besides train.json: names as in transformers' report_to",
    )  # fmt: skip


def common_arguments(settings: dict) -> dict:
    """Arguments of transformers' Trainer: batch sizes, precision and our quiet logging.

    The gradient accumulation makes the global batch (examples per optimizer step) the same on any
    number of processes; without a per-device size each process takes its whole share at once.
    Weights are float32 always; ``dtype`` bfloat16 asks for autocast, see :mod:`poet.precision`.

    Args:
        settings: with ``global_batch_size`` and ``per_device_batch_size`` (None: without); perhaps
            ``dtype`` and ``gradient_checkpointing``.

    Raises:
        UserError: devices x per-device size does not divide the global batch.
    """
    import torch

    processes = int(os.environ.get("WORLD_SIZE", 1))
    batch_size = settings["global_batch_size"]
    per_device = settings["per_device_batch_size"] or max(1, batch_size // processes)
    at_once = per_device * processes
    if batch_size % at_once:
        raise UserError(
            f"global_batch_size {batch_size} is not a multiple of {processes} processes x "
            f"per_device_batch_size {per_device}; choose a size that divides it"
        )
    device, dtype = device_and_dtype(settings.get("dtype"))
    return {
        "per_device_train_batch_size": per_device,
        "per_device_eval_batch_size": per_device,
        "gradient_accumulation_steps": batch_size // at_once,
        "bf16": dtype is torch.bfloat16,
        "use_cpu": device == "cpu",
        "gradient_checkpointing": settings.get("gradient_checkpointing", False),  # TRL's: True
        "logging_steps": 5,
        "save_strategy": "no",  # poet.train.checkpoints decides
        "report_to": "none",  # poet.train.run adds what the flags name
        "disable_tqdm": True,
        "dataloader_pin_memory": device == "cuda",
    }


def check_optimizer(optim: str) -> None:
    """Check that the package of an optimizer (``preference.optim``) is there.

    Raises:
        UserError: it is not installed.
    """
    if optim == "adamw_bnb_8bit" and find_spec("bitsandbytes") is None:
        raise UserError(
            "optim is adamw_bnb_8bit, but bitsandbytes is not installed; install it (it is not in "
            "envs/main.txt: 8-bit states are not the paper's) or choose adamw_torch"
        )


def check_reporting(names: Iterable[str]) -> None:
    """Check that transformers knows what ``report_to`` names, and finds its packages.

    Raises:
        UserError: naming the one, with what transformers says of it.
    """
    from transformers.integrations import get_reporting_integration_callbacks

    for name in names:
        try:
            for callback in get_reporting_integration_callbacks([name]):
                callback()
        except (ImportError, RuntimeError, ValueError) as error:
            raise UserError(
                f"report_to: {name} cannot be used: {str(error).splitlines()[0]} Name others, or "
                "none (`report_to: []`)."
            ) from None
