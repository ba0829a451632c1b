"""Progress that reads well in a terminal and in a log: a line every few seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partialmethod

from tqdm import tqdm

_FORMAT = (
    "{desc} {percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
)


class _Lines:
    """A stream that turns tqdm's redraws into lines, so that parallel jobs do not overdraw."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            # Whoever reads it may be stopped before us (tee, by the signal of a cancelled job).
            with suppress(BrokenPipeError):
                sys.stderr.write(text + "\n")

    def flush(self) -> None:
        with suppress(BrokenPipeError):
            sys.stderr.flush()


_LOOK = {
    "file": _Lines(),
    "mininterval": 5.0,
    "maxinterval": 5.0,
    "ascii": True,
    "ncols": 100,
    "bar_format": _FORMAT,
    "position": 0,  # a bar inside another one moves no cursor either
}
_INIT = tqdm.__init__


def track(
    iterable: Iterable | None = None, total: int | None = None, label: str = "", shown: bool = True
) -> tqdm:
    """A progress bar over ``iterable`` (or advanced by ``update``), one line every five seconds."""
    return tqdm(iterable, total=total, desc=label, delay=0, disable=not shown, **_LOOK)


def calm_libraries() -> None:
    """Give the bars of libraries (transformers, datasets, lm-eval, the hub) the same look.

    Those that last less than five seconds, as loading and saving a small model, are not shown.
    """
    tqdm.__init__ = partialmethod(_INIT, delay=5.0, **_LOOK)
