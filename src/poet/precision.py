"""Which numbers a device computes with: bfloat16 where it multiplies them itself, else float32.

GPUs since Ampere do, and CPUs with AMX or AVX512-BF16. Others would emulate it, several times
slower than float32.
"""

from __future__ import annotations

import sys
from functools import cache


def multiplies_bfloat16(device: str) -> bool:
    """Whether a kind of device ("cpu", "cuda") has instructions for products of bfloat16."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def device_and_dtype(asked: str | None) -> tuple:
    """The kind of device that a program computes on, and the dtype, as torch names them.

    Args:
        asked: a record's ``dtype``; "bfloat16" is given where the device multiplies it. None asks
            for float32.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if asked != "bfloat16":
        return device, torch.float32
    if multiplies_bfloat16(device):
        return device, torch.bfloat16
    _say(f"dtype is bfloat16, which this {device} does not multiply: float32 is computed with")
    return device, torch.float32


def device_and_stored_dtype(config: dict) -> tuple:
    """The same for a published judge, by the content of its ``config.json``: as it is stored.

    Half the width on a CPU is bfloat16 where the CPU multiplies it; of float16 no CPU is quick.
    """
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    device, dtype = device_and_dtype("bfloat16" if stored.endswith("16") else None)
    return device, "auto" if device == "cuda" else dtype


@cache  # once per program
def _say(text: str) -> None:
    print(text, file=sys.stderr)
