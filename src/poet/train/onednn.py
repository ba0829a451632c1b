"""Matrix products on CPUs by oneDNN.

torch gives products of float32 matrices to MKL, which on processors of other makers than its own
leaves the widest vector units idle. oneDNN, which torch has with it for other operations, uses them
wherever they are: the same products in the same precision, summed in another order.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

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
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
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
