"""Bars are lines: ours from the start, a library's where it lasts."""

import io
import os
import subprocess
import sys

from poet.progress import track

PROGRAM = """
import time
from poet.files import cli
from poet.progress import track

def main():
    from tqdm.auto import tqdm
    from transformers.utils import logging
    for _ in track(range(2), label="ours"):
        for _ in track(range(2), label="nested"):
            for _ in logging.tqdm(range(3), desc="short bar of a library"):
                pass
    for _ in tqdm(range(8), desc="long bar of a library"):
        time.sleep(0.7)

cli(main)
"""


def test_no_bar_moves_the_cursor_and_short_ones_of_libraries_are_not_shown():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert b"\r" not in done.stderr and b"\x1b" not in done.stderr
    text = done.stderr.decode()
    assert "ours 100% |####################| 2/2" in text and "nested 100%" in text
    assert "short bar" not in text and "long bar of a library 100%" in text


def test_a_reader_that_is_gone_stops_nothing(monkeypatch):
    """A cancelled job's tee may end before the training that is writing its last checkpoint."""
    reader, writer = os.pipe()
    os.close(reader)
    gone = os.fdopen(writer, "wb", buffering=0)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(gone, write_through=True))
    assert list(track(range(3), label="train")) == [0, 1, 2]
