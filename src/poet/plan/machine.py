"""The devices that a plan is made for: this machine where it has no GPU, and assumed cards."""

from __future__ import annotations

import time
from dataclasses import dataclass

from poet import devices
from poet.plan.workload import Work


@dataclass(frozen=True)
class Device:
    """How fast a device works, and how much it holds.

    Attributes:
        rates: FLOP per second of ``training`` and ``inference``; of ``generation`` tokens per
            second, or FLOP where ``by_operations``.
        memory: GB of a card; None: main memory.
        start: seconds that a program takes before it computes.
    """

    name: str
    rates: dict[str, float]
    memory: float | None = None
    start: float = 0.0
    by_operations: bool = False
    said: str = "assumed"

    def amount(self, work: Work) -> float:
        """Of a job's work, in the unit of its rate."""
        return work.operations if work.kind == "generation" and self.by_operations else work.amount

    def unit(self, kind: str) -> str:
        return "tokens" if kind == "generation" and not self.by_operations else "FLOP"


def known(assumptions: dict, dtypes: set[str]) -> list[Device]:
    """This machine, where no GPU is, and the cards of paper/assumptions.yaml.

    Args:
        dtypes: that the configuration's trainings ask for.
    """
    cards = [
        Device(name, of["rates"], of["memory"], of["start"])
        for name, of in assumptions["cards"].items()
    ]
    if devices.devices():
        return cards
    dtype, rate = products("bfloat16" if "bfloat16" in dtypes else "float32")
    shares = assumptions["cpu"]["shares"]
    rates = {kind: share * rate for kind, share in shares.items()}
    said = f"measured: matrix products in {dtype} make {rate / 1e9:.0f} GFLOP/s; the share assumed"
    here = Device("here", rates, start=assumptions["cpu"]["start"], by_operations=True, said=said)
    return [here, *cards]


def products(asked: str) -> tuple[str, float]:
    """The dtype that this CPU computes in, and its FLOP per second in large matrix products."""
    import torch

    from poet.precision import device_and_dtype
    from poet.train.onednn import available, products

    _, dtype = device_and_dtype(asked)
    n, best = 1024, 0.0
    a, b = (torch.randn(n, n, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    a, b = a.to(dtype), b.to(dtype)
    for by in ("torch", "onednn") if available() else ("torch",):
        with products(by):
            for _ in range(8):  # the first warms up
                start = time.perf_counter()
                a @ b
                best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return str(dtype).removeprefix("torch."), best
