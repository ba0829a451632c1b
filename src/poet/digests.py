"""Digests of the content of local files and model folders, each read once.

A file's digest is remembered beside its :func:`stamp`, so that 15 GB of weights are read the first
time only; whatever changed them since, the stamp has changed too.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from poet.files import UserError, read_json, write_json
from poet.hub.lock import MODEL_FILES
from poet.progress import track

CACHE = Path(".snakemake/poet-digests.json")
BIG = 2**30  # bytes that take long enough to read for a line of progress
# Two changes within one tick of a file system's clock look the same: what is that new is not kept.
_TICK = 2 * 10**9  # nanoseconds


def stamp(path: str | Path) -> list[int]:
    """Size, times of change (nanoseconds) and inode of a file.

    The second time, of the inode, is the kernel's: unlike the first, nobody can set it back.
    """
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def digest(path: str | Path, cache: str | Path = CACHE) -> str:
    """16 hex digits that change whenever the content of a file or of a model's folder does.

    Raises:
        UserError: there is neither.
    """
    path = Path(path).absolute()
    files = _files(path)
    known = remembered(cache)
    stamps = {file: stamp(file) for file in files}
    unread = [file for file in files if _known(known, file, stamps[file]) is None]
    total = sum(stamps[file][0] for file in unread)
    bar = track(total=-(-total // 2**20), label=f"read {path.name} (MiB)") if total >= BIG else None
    for file in unread:
        known[str(file)] = [*stamps[file], _sha256(file, bar)]
    if kept := [file for file in unread if time.time_ns() - stamps[file][2] > _TICK]:
        # Read again: another process may have added to it meanwhile.
        write_json({**remembered(cache), **{str(file): known[str(file)] for file in kept}}, cache)
    parts = [[file.relative_to(path).as_posix(), known[str(file)][-1]] for file in files]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    """A file itself; of a folder what is loaded of a model, as it is taken from the hub."""
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"{path}: no such file or folder")
        return [path]
    patterns = (*MODEL_FILES, "*.py", "additional_chat_templates/*.jinja")
    return sorted({file for pattern in patterns for file in path.glob(pattern) if file.is_file()})


def remembered(cache: str | Path) -> dict:
    """What a cache file holds: an object, empty where there is no file or a damaged one."""
    try:
        known = read_json(cache)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _known(known: dict, file: Path, stamped: list[int]) -> str | None:
    match known.get(str(file)):
        case [*before, str(found)] if before == stamped:
            return found
    return None


def _sha256(file: Path, bar) -> str:
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**24):
            found.update(block)
            if bar is not None:
                bar.update(len(block) / 2**20)
    return found.hexdigest()
