"""Files and errors: atomic publication, JSON(L), and one way to fail.

A file under its final name is complete: everything is written beside it and renamed.
"""

from __future__ import annotations

import csv
import errno
import gc
import glob
import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import stat
import sys
import zlib
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poet.progress import calm_libraries

UMASK = os.umask(0o077)
os.umask(UMASK)


class UserError(Exception):
    """Something the user can mend: names the place, the finding, the expectation, what to do."""


def cli(main: Callable[[], None]) -> None:
    """Run a program's ``main``; a :class:`UserError` ends it with a message and exit code 1.

    So does a full disk: what was written before stays, and the next run goes on from there. Ctrl-C
    ends it with a message and exit code 130.
    """
    calm_libraries()
    # The libraries' imports make a million objects, which stay. Python's default threshold of 700
    # has the garbage collector walk through them over and over, and its end once more: two of the
    # five seconds that a training takes to start and to end.
    gc.set_threshold(100_000)
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("error: interrupted; the same command does the work again", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(
            f"error: {error.strerror}: {error.filename or 'while an output was written'}.\n"
            "What was finished before is kept. Free some space and start the same command again."
        )
    finally:
        gc.freeze()


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def publish(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it on error.

    Works for a file or a folder (the caller creates either at the yielded path). A folder that
    already stands there is replaced. Files are readable as the umask says, also those of libraries
    that make theirs private.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, for writers that choose their format by it.
    mine = f".partial-{platform.node()}-{os.getpid()}-"
    temporary, replaced = path.with_name(mine + path.name), path.with_name(f"{mine}old-{path.name}")
    _remove_leftovers(path)
    try:
        yield temporary
        _let_read(temporary)
        _replace(temporary, path, replaced)
    finally:
        remove(temporary)


def _let_read(path: Path) -> None:
    """Give files the mode that ``open`` would have given them; hard links are another's too."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        of = file.lstat()
        if stat.S_ISREG(of.st_mode) and of.st_nlink == 1:
            file.chmod(stat.S_IMODE(of.st_mode) | (0o666 & ~UMASK))


def _replace(new: Path, path: Path, aside: Path) -> None:
    """Rename ``new`` to ``path``; a folder there moves ``aside`` first, so none is half removed."""
    while True:
        try:
            return os.replace(new, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR):
                raise
        with suppress(FileNotFoundError):  # another process moved it just now
            os.replace(path, aside)
        remove(aside)


def _remove_leftovers(path: Path) -> None:
    """Remove what processes of this machine that were killed had begun to write for ``path``."""
    prefix = f".partial-{platform.node()}-"
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*-{glob.escape(path.name)}"):
        process = leftover.name.removeprefix(prefix).split("-")[0]
        if process.isdigit() and (
            int(process) == os.getpid() or not Path("/proc", process).exists()
        ):
            remove(leftover)


def read_json(path: str | Path):
    """The content of a ``.json`` or ``.json.gz`` file."""
    with _open(path) as file:
        return json.load(file)


def write_text(text: str, path: str | Path) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with publish(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value, path: str | Path) -> None:
    """Write ``value`` atomically, indented, keys in the order given."""
    write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", path)


def read_jsonl(path: str | Path) -> list[dict]:
    """Rows of a ``.jsonl`` or ``.jsonl.gz`` file; blank lines are skipped.

    Raises:
        UserError: naming the file and the 1-based line that is no JSON object; or the file, where
            it does not exist or cannot be read.
    """
    rows = []
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    rows.append(_parse_line(line, path, number))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected a file of JSON lines") from None
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path} is not readable as UTF-8 text: {error}") from None
    return rows


def _parse_line(line: str, path: str | Path, number: int) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {number}: not valid JSON ({error.msg} at column {error.colno}).\n"
            f"  found:    {line.strip()[:100]}\n"
            "  expected: one JSON object per line; mend or delete the line."
        ) from None
    if not isinstance(row, dict):
        raise UserError(
            f"{path}, line {number}: found a JSON {type(row).__name__}, expected an object."
        )
    return row


def write_jsonl(rows: Iterable[dict], path: str | Path) -> None:
    """Write one JSON object per line, atomically."""
    with publish(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def csv_text(rows: list[dict]) -> str:
    """``rows`` as CSV; columns in the order they first appear, empty where a row has none."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def write_csv(rows: list[dict], path: str | Path) -> None:
    """Write ``rows`` as CSV (see :func:`csv_text`), atomically."""
    write_text(csv_text(rows), path)


def write_parquet(rows: list[dict], path: str | Path) -> None:
    """Write ``rows`` as parquet, atomically."""
    import pyarrow as pa
    from pyarrow import parquet

    with publish(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(rows), temporary)


def sha256(path: str | Path) -> str:
    """sha256 of a file, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_record(text: str) -> dict:
    """A resolved record (see :mod:`poet.config`) from inline JSON or from a JSON file's path.

    Raises:
        UserError: there is no such file, or it is not valid JSON.
    """
    try:
        return json.loads(text) if text.lstrip().startswith("{") else read_json(text)
    except FileNotFoundError:
        raise UserError(f"record {text} does not exist; expected JSON or its file") from None
    except json.JSONDecodeError as error:
        raise UserError(f"record {text[:100]} is not valid JSON: {error}") from None


def record_parser(doc: str, output: str, **of_output) -> ArgumentParser:
    """The parser of a program that works by a record and writes ``--output``.

    ``doc`` is the module's docstring, whose first line describes it; ``of_output``: of that flag,
    such as ``nargs``. ``args.record`` is the record itself, see :func:`load_record`.
    """
    parser = ArgumentParser(description=doc.splitlines()[0])
    said = "resolved record: JSON or its file"
    parser.add_argument("--record", type=load_record, required=True, help=said)
    parser.add_argument("--output", required=True, help=output, **of_output)
    return parser


def named_files(entries: Iterable[list[str]], flag: str, names: int = 1) -> dict:
    """What follows a flag that is repeated, names and then files, as name -> files.

    Args:
        names: how many words name the files; where there are several, the key is their tuple.

    Raises:
        UserError: a name comes twice, or without files.
    """
    named = {}
    for entry in entries:
        words, files = entry[:names], entry[names:]
        key = tuple(words) if names > 1 else words[0]
        if key in named or not files:
            raise UserError(f"{flag} {' '.join(words)}: expected each once, with a file per seed")
        named[key] = files
    return named


def _open(path: str | Path):
    if str(path).endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")
