"""Progress that reads well in a terminal and in a log: one line every few seconds, no control codes."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tqdm import tqdm

_FORMAT = "{desc} {percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"


class _Lines:
    """A stream that turns tqdm's in-place redraws into lines, so that parallel jobs do not overdraw."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def track(iterable: Iterable | None = None, total: int | None = None, label: str = "") -> tqdm:
    """A progress bar over ``iterable`` (or to be advanced by ``update``), one line every five seconds."""
    return tqdm(
        iterable,
        total=total,
        desc=label,
        file=_Lines(),
        mininterval=5.0,
        maxinterval=5.0,
        ascii=True,
        ncols=100,
        bar_format=_FORMAT,
    )
