"""Answers that were paid for: an append-only file of JSON lines, found again by their request.

The key of an answer is the SHA-256 of its whole request (server, model, messages, parameters).
Answers that were refused as garbage are kept too: they were paid for, but answer nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import threading
from collections import defaultdict
from pathlib import Path

from poet.files import UserError

# How every line begins, so that half a line is told from a foreign one.
_START = b'{"key": "'


def sha256(value) -> str:
    """SHA-256 (hex) of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """The answers of one annotator. One process at a time holds it; threads may share it.

    Holding it for a whole run keeps two runs from asking the same question twice and from exceeding
    a rate limit together. The lock dies with its process.

    Attributes:
        path: ``answers.jsonl`` in the store's folder.
        spent: price of everything in it, refused answers included.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder) / "answers.jsonl"
        self.spent = 0.0
        self._answers: dict[str, dict] = {}
        self._models: dict[str, set[str]] = defaultdict(set)
        self._threads = threading.Lock()

    def __enter__(self) -> Store:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{self.path}: another job asks this judge; waiting for it", file=sys.stderr)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        _sync_folder(self.path.parent)
        self._load()
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def _load(self) -> None:
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        # A run killed while it wrote left half a line; what comes next starts a new one.
        self._torn = bool(lines[-1])
        for number, line in enumerate(lines, start=1):
            if line:
                self._load_line(line, f"{self.path}, line {number}")

    def _load_line(self, line: bytes, place: str) -> None:
        try:
            self._add(json.loads(line))
        except ValueError:
            if not line.startswith(_START[: len(line)]):
                raise UserError(
                    f"{place}: found {line[:80]!r}, expected an answer as a JSON object.\n"
                    "Delete the line; what it held is asked again."
                ) from None
            print(f"{place}: half an answer, from a run that was killed; dropped", file=sys.stderr)

    def _add(self, record: dict) -> None:
        self.spent += record["price"]
        if "refused" not in record:
            self._answers[record["key"]] = {k: v for k, v in record.items() if k != "request"}
            self._models[record["judge"]].add(record["model"])

    def append(self, record: dict) -> None:
        """Write a record and wait until the disk has it.

        Args:
            record: ``key`` first, ``request``, ``price``, ``judge``, ``model``; ``refused`` (why)
                where it answers nothing.

        Raises:
            UserError: the disk is full.
        """
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        with self._threads:
            line = b"\n" + line if self._torn else line
            self._torn = True
            if self._file.write(line) != len(line):
                raise UserError(f"{self.path}: the disk is full")
            os.fsync(self._file.fileno())
            self._torn = False
            self._add(record)

    def get(self, key: str) -> dict | None:
        """The record of a request's answer, without the request; None where it was not bought."""
        return self._answers.get(key)

    def models(self, judge: str) -> list[str]:
        """The names under which servers answered the records with this ``judge``."""
        return sorted(self._models[judge])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
