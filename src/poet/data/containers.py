"""Files of rows as people have them: JSON lines, a JSON array or JSON objects over several lines,
or parquet; gzipped or not.

What a file is, its content says and not its name. Text is UTF-8 (a byte order mark is no matter);
what is anything else is refused by name, before a row is made of it.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from poet.files import UserError

HEAD = 1 << 20  # bytes that decide what a file is
READ = "JSON lines, a JSON array or parquet, gzipped or not"
_TO_JSON = 'pandas.read_csv(FILE).to_json("pairs.jsonl", orient="records", lines=True)'
_SAVED = 'datasets.Dataset.from_file(FILE).to_parquet("pairs.parquet")'
# How files begin that are not read, what they are, and what to do.
_OTHERS = (
    (b"\x1f\x8b", "gzip within gzip", "Unpack it once."),
    (b"PK\x03\x04", "a zip archive (.zip, .xlsx, .npz or .pt)", "Unpack or export it."),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "Unpack it with `zstd -d`."),
    (b"\x04\x22\x4d\x18", "compressed by LZ4", "Unpack it with `lz4 -d`."),
    (b"BZh", "compressed by bzip2", "Unpack it with `bunzip2`."),
    (b"\xfd7zXZ", "compressed by xz", "Unpack it with `unxz`."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it."),
    (b"ARROW1", "an Arrow file", f"Write it anew with {_SAVED}."),
    (b"FEA1", "a feather file", "Write it anew as parquet."),
    (b"\xff\xff\xff\xff", "an Arrow stream, as `datasets` saves", f"Use {_SAVED}."),
    (b"ORC", "an ORC file", "Write it anew as parquet."),
    (b"Obj\x01", "an Avro file", "Write it anew as parquet."),
    (b"\x89HDF", "an HDF5 file", "Write it anew as parquet."),
    (b"SQLite format 3", "an SQLite database", "Export its table as JSON lines."),
    *((bytes([128, n]), "a Python pickle", "Write it anew as parquet.") for n in range(2, 6)),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file", "Run `git lfs pull`."),
    (b"<", "XML or a web page", "Was the file itself downloaded?"),
)
_HEADER_CELLS = {"prompt", "chosen", "rejected", "question", "instruction", "messages"}


class BadRow(Exception):
    """One row that cannot be used: the ``reason`` it is counted under, and what was ``found``."""

    def __init__(self, reason: str, found: object = None):
        self.reason, self.found = reason, found if found is None else str(found)[:100]
        super().__init__(self.reason, self.found)  # what a process hands on

    def __str__(self) -> str:
        return self.reason if self.found is None else f"{self.reason}; found {self.found!r}"


Rows = Iterator[tuple[str, dict | BadRow]]


def _object(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise BadRow("a key stands twice in a JSON object", name)
    return found


_PLAIN, _ONCE = json.JSONDecoder(), json.JSONDecoder(object_pairs_hook=_object)


def parse_json(text: str) -> object:
    """The value of a JSON text, as :func:`json.loads` gives it.

    Raises:
        ValueError, RecursionError: no JSON.
        BadRow: an object has a key twice, of which one value would be lost.
    """
    return _ONCE.decode(text)


def read_rows(path: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> Rows:
    """Yield ("line 2", "item 2" or "row 2", row) from a file, counted from 1.

    A line that is no JSON object, or has a key twice, is a BadRow. Of parquet's columns only those
    that are ``wanted`` are read; the others stand as None.

    Raises:
        UserError: no such file, a folder, another kind of file or encoding, a damaged file.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(_folder(path))
        if not path.is_file():
            found = "not a regular file" if path.exists() else "no such file"
            raise UserError(f"{path}: {found} (as {path.absolute()}). Expected {READ}.")
        with path.open("rb") as file:
            opened = gzip.open if file.read(2) == b"\x1f\x8b" else open
        with opened(path, "rb") as file:
            head = file.read(HEAD)
        if head.startswith(b"PAR1") and opened is open:
            yield from _read_parquet(path, wanted)
            return
        reader = _reader(head, path)
        with opened(path, "rb") as file:
            yield from reader(file, path)
    except PermissionError as error:
        raise UserError(f"{path}: {error.strerror}. Allow it to be read, or copy it.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or unreadable ({error}). Write it anew.") from None


def _read_parquet(path: Path, wanted: Callable[[str], bool]) -> Rows:
    """Yield ("row 2", row); of the columns that are not ``wanted`` each cell is None.

    Raises:
        UserError: a damaged file, two wanted columns of one name, a value that Python cannot hold.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        # One thread: the file is checked in Snakemake's main process, which should stay small.
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if twice := [name for name, n in Counter(names).items() if n > 1 and wanted(name)]:
            raise UserError(
                f"{path}: several columns are named {', '.join(twice)}. Rename or remove one."
            )
        columns = [name for name in names if wanted(name)] or names[:1]
        unread = dict.fromkeys(set(names) - set(columns))
        for batch in file.iter_batches(1000, columns=columns, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", {**unread, **row} if unread else row
    except pyarrow.ArrowException as error:
        raise UserError(
            f"{path}: not a readable parquet file ({error}). Is it cut off? Write it anew."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: text that is not UTF-8 in one of the rows from {number + 1} on ({error}). "
            "Write it anew."
        ) from None
    except (ValueError, OverflowError) as error:  # dates of no calendar, fields of one name
        raise UserError(
            f"{path}: a value that cannot be read in one of the rows from {number + 1} on "
            f"({error}). Leave its column out, or write it as text."
        ) from None


def _folder(path: Path) -> str:
    if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
        files = f'Use datasets.load_from_disk("{path}"), then to_parquet("pairs.parquet").'
    else:
        kinds = ".jsonl .json .gz .parquet .csv .tsv .arrow .zst .bz2 .xz .zip".split()
        found = sorted(p for pattern in ("*", "*/*") for p in path.glob(pattern))
        names = [str(p.relative_to(path)) for p in found if p.suffix in kinds]
        files = f"Files in it: {', '.join(names[:5]) or 'none that look like data'}"
        files += f" and {len(names) - 5} more." if len(names) > 5 else "."
        files += "\nName one of them, or join them into one file." if names else ""
    return f"{path}: a folder. Expected one file ({READ}).\n  {files}"


def _reader(head: bytes, path: Path) -> Callable[[BinaryIO, Path], Rows]:
    """How a text file is read, from its first bytes."""
    refused = next((other for other in _OTHERS if head.lstrip().startswith(other[0])), None)
    if head[257:262] == b"ustar":
        refused = (b"", "a tar archive", "Unpack it.")
    if head.startswith(b"PAR1"):
        refused = (b"", "gzipped parquet", "Unpack it; parquet is compressed as it is.")
    if refused:
        raise UserError(f"{path}: {refused[1]}. Expected {READ}.\n{refused[2]}")
    if head and not head.strip(b"\0"):
        raise UserError(f"{path}: NUL bytes only, so it is damaged. Write it anew.")
    encoding = json.detect_encoding(head)  # by the mark, or by where NULs stand
    if not encoding.startswith("utf-8"):
        name = re.sub("-(?=[LB]E)", "", encoding.upper())  # UTF-16LE is iconv's name
        raise UserError(
            f"{path}: found {name} text, expected UTF-8.\nConvert it: {_iconv(path, name)}"
        )
    text = head.decode("utf-8-sig", errors="ignore").lstrip()
    first, _, rest = text.partition("\n")
    cells = {cell.strip(" \"'\r").lower() for cell in re.split(r"[,;\t|]", first)}
    if not text.startswith(("[", "{")) and (
        path.suffix.lower() in (".csv", ".tsv") or len(cells & _HEADER_CELLS) > 1
    ):
        raise UserError(f"{path}: CSV, which does not say what is a list. Expected {READ}.\n"
                        f"Convert it: {_TO_JSON}")  # fmt: skip
    whole = _value_end(first) == len(first.rstrip())
    if text.startswith("["):
        return _read_lines if whole and rest.strip() else _read_values
    if text.startswith("{") and not whole and _value_end(text):
        return _read_values
    return _read_lines


def _iconv(path: Path, encoding: str) -> str:
    name = shlex.quote(str(path))
    source = f"gunzip -c {name} | iconv" if path.suffix == ".gz" else "iconv"
    end = "" if path.suffix == ".gz" else f" {name}"
    return f"{source} -f {encoding} -t UTF-8{end} > utf8.jsonl"


def _value_end(text: str) -> int:
    """Where the JSON value ends that a text begins with; 0 if it begins with none."""
    try:
        return _PLAIN.raw_decode(text)[1]
    except (ValueError, RecursionError):
        return 0


def _read_lines(file: BinaryIO, path: Path) -> Rows:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield f"line {number}", _parse(line, path, number)


def _parse(line: bytes, path: Path, number: int) -> dict | BadRow:
    try:
        text = line.decode()
        row = parse_json(text[1:] if text[0] == "\ufeff" else text)  # files joined by cat
    except BadRow as problem:
        return problem
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error, number) from None
    except (ValueError, RecursionError):
        if b"\0" in line:
            raise UserError(
                f"{path}, line {number}: NUL bytes, so the file is damaged or in part UTF-16. "
                "Write it anew as UTF-8."
            ) from None
        return BadRow("not valid JSON", text[:100].strip())
    return _row(row)


def _row(value: object) -> dict | BadRow:
    if isinstance(value, dict | BadRow):
        return value
    return BadRow("not a JSON object", type(value).__name__)


def _decode(text: str, at: int) -> tuple[object, int]:
    """A JSON value, or a BadRow of it, and where it ends."""
    try:
        return _ONCE.raw_decode(text, at)
    except BadRow as problem:
        return problem, _PLAIN.raw_decode(text, at)[1]


def _not_utf8(path: Path, error: UnicodeDecodeError, first: int = 1) -> UserError:
    """What the decoder stopped at, whose text begins with the line ``first``."""
    found = error.object
    if b"\0" in found:
        return UserError(f"{path}: binary data. Expected {READ}.")
    number = first + found.count(b"\n", 0, error.start)
    if error.end == len(found) and error.reason == "unexpected end of data":
        return UserError(
            f"{path}, line {number}: the file ends within a character, so it is cut off. "
            "Write or copy it anew."
        )
    byte = error.start - found.rfind(b"\n", 0, error.start)
    return UserError(
        f"{path}, line {number}, byte {byte}: found {found[error.start : error.end]!r}, "
        "expected UTF-8 text. It may be Latin-1 or Windows-1252.\n"
        f"Convert the file from the encoding that it has: {_iconv(path, 'WINDOWS-1252')}"
    )


def _read_values(file: BinaryIO, path: Path) -> Rows:
    """Items of one JSON array, or objects one after another over any number of lines."""
    try:
        text = file.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None
    array = text.startswith("[")
    between, end = (re.compile(r"[\s,]*"), "]") if array else (re.compile(r"\s*"), "")
    at, number = between.match(text, int(array)).end(), 0
    while text[at : at + 1] != end:
        number += 1
        try:
            row, behind = _decode(text, at)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, item {number}: not valid JSON ({getattr(error, 'msg', 'nested too deep')}"
                f"); found {text[at : at + 60]!r}.\nMend it there; is the file cut off?"
            ) from None
        yield f"item {number}", _row(row)
        at = between.match(text, behind).end()
    if rest := text[at + 1 :].strip():
        raise UserError(
            f"{path}: found {rest[:60]!r} after the end of the array. "
            "Expected one array, or one object per line."
        )
