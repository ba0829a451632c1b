"""What all trainers of the project have in common."""

from __future__ import annotations


def common_arguments(global_batch_size: int, per_device_batch_size: int) -> dict:
    """Arguments of transformers' Trainer that follow from the batch sizes, and our quiet logging.

    The gradient accumulation makes the global batch (examples per optimizer step) the same on any
    number of processes.

    Raises:
        UserError: devices x per-device size does not divide the global batch.
    """
    import os

    from poet.files import UserError

    processes = int(os.environ.get("WORLD_SIZE", 1))
    at_once = per_device_batch_size * processes
    if global_batch_size % at_once:
        raise UserError(
            f"global_batch_size {global_batch_size} is not a multiple of {processes} processes x "
            f"per_device_batch_size {per_device_batch_size}; choose a size that divides it"
        )
    return {
        "per_device_train_batch_size": per_device_batch_size,
        "per_device_eval_batch_size": per_device_batch_size,
        "gradient_accumulation_steps": global_batch_size // at_once,
        "bf16": False,
        "gradient_checkpointing": False,  # TRL's default is True
        "logging_steps": 5,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
