"""Matrix products on CPUs by oneDNN, where a measurement says that it is the faster one.

torch gives products of float32 matrices to MKL, which on some processors leaves the widest vector
units idle; on others oneDNN, which torch has with it for other operations, is the slower of the
two. Both make the same products in the same precision, summed in another order.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import torch

from poet.files import UserError
from poet.provenance import processor

TOKENS, WIDEST = 4096, 256  # what is measured: rows as in training, weights of 2 x width^2
REPEATS = 8
MARGIN = 1.05  # so many times as fast oneDNN has to be

FEW = 32  # rows; with fewer, the way to oneDNN takes longer than it saves
# What is prepared for a shape takes a megabyte, and rows of many lengths make many shapes. Kept are
# those of one row: torch's and oneDNN's own default is 1,024, and both read these when first used.
KEPT = {"LRU_CACHE_CAPACITY": "32", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32"}


@contextmanager
def onednn_products() -> Iterator[None]:
    """All of torch's float32 matrix products on CPUs by oneDNN, while the context lasts.

    Also those of linear layers and of their gradients. Elsewhere, or where torch has no MKL or no
    oneDNN, nothing changes. oneDNN prepares itself for every new shape, a fraction of a
    millisecond each: it pays for batches of thousands of tokens.
    """
    if not available():
        yield
        return
    for name, shapes in KEPT.items():
        os.environ.setdefault(name, shapes)
    multiply = torch.library.get_kernel("aten::mm", "CPU").call_boxed
    linear = torch.ops.mkldnn._linear_pointwise.default  # what torch.compile uses for linear layers

    def mm(keys, a, b):
        if a.dtype is b.dtype is torch.float32 and len(a) >= FEW and a.shape[1] == len(b) > 0:
            # What is not contiguous comes second, or oneDNN gets a copy of it.
            if a.is_contiguous() or a.numel() < b.numel():
                return linear(a, b.t(), None, "none", [], "")
            return linear(b.t(), a, None, "none", [], "").t()
        return multiply(keys, a, b)

    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():  # torch says that its own is overridden
        warnings.simplefilter("ignore", UserWarning)
        library.impl("mm", mm, "CPU", with_keyset=True, allow_override=True)
    try:
        yield
    finally:
        library._destroy()


def available() -> bool:
    """Whether there are two to choose from."""
    return torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()


def products(by: str):
    """The context in which an outcome's (:func:`choose`) products are made."""
    return onednn_products() if by == "onednn" else nullcontext()


def choose(asked: str, width: int, earlier: dict | None = None) -> dict:
    """Which products a program makes, with what it was decided by; said on stderr.

    Args:
        asked: the configuration's ``matrix_products``: "onednn", "torch", or "auto", to measure.
        width: of the model's hidden states.
        earlier: outcome of a pass whose numbers are used here. It holds on the same processor, so
            that all programs of a setting multiply alike though two may be nearly as fast.

    Returns:
        ``asked``, and ``by``: "onednn" or "torch". Where it was measured: ``machine``, and
        ``milliseconds`` of each.

    Raises:
        UserError: oneDNN is asked for, and torch is without it.
    """
    machine = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if asked == "onednn" and not available():
        raise UserError(
            f"matrix_products is onednn, but torch {torch.__version__} has no oneDNN beside MKL "
            "here; write `auto` or `torch`"
        )
    if asked != "auto":
        return {"asked": asked, "by": asked}
    if not available() or torch.cuda.is_available():
        return {"asked": asked, "by": "torch"}
    if earlier and earlier.get("machine") == machine:
        return earlier
    milliseconds = measure(min(width, WIDEST))
    faster = milliseconds["torch"] > MARGIN * milliseconds["onednn"]
    outcome = {"asked": asked, "by": "onednn" if faster else "torch"}
    said = " and ".join(f"{by} {took:.1f} ms" for by, took in milliseconds.items())
    print(f"matrix products by {outcome['by']}: measured {said}", file=sys.stderr)
    return {**outcome, "machine": machine, "milliseconds": milliseconds}


def measure(width: int) -> dict[str, float]:
    """Milliseconds that the products of a linear layer take by each, forwards and backwards.

    The least of several turns, in which the two take turns. Every turn has rows of a new length, as
    training has, so that what oneDNN prepares for a shape counts. One thread's own time leaves out
    what other programs take of the processor; of several threads, only the wall's clock knows.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    generator = torch.Generator().manual_seed(0)  # the training's own random numbers stay its own
    weight = torch.randn(2 * width, width, generator=generator)
    best = {}
    for turn in range(REPEATS + 1):  # the first one warms up
        x = torch.randn(TOKENS - 8 * turn, width, generator=generator)
        slope = torch.randn(len(x), 2 * width, generator=generator)
        for by in ("onednn", "torch"):
            with products(by):
                times = [clock()]
                for a, b in ((x, weight.t()), (slope, weight), (slope.t(), x)):
                    a @ b
                    times.append(clock())
            took = [1e3 * (end - start) for start, end in pairwise(times)]
            if turn:
                best[by] = [min(pair) for pair in zip(took, best.get(by, took), strict=True)]
    return {by: round(sum(took), 2) for by, took in best.items()}
