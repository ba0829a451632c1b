"""Rows of users' preference data -> prompt, chosen, rejected, or what is wrong with the row.

Reads TRL's preference format (https://huggingface.co/docs/trl/dataset_formats#preference) from
``.jsonl``, ``.jsonl.gz``, ``.parquet`` or the hub, in any of these shapes:

==========================  =====================================================================
``prompt``                  ``chosen`` and ``rejected``
==========================  =====================================================================
messages                    messages: the response (or the prompt's messages and the response)
a string                    strings: one user turn, one assistant turn
a string                    messages: the response, or the whole conversation (UltraFeedback)
absent                      messages: two conversations that differ in their last message
==========================  =====================================================================

A prompt may have any number of turns; a response is one assistant message.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from poet.files import UserError

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
_COLUMNS = (
    "prompt", "chosen", "rejected", "prompt_id", "dataset", "tools", "images", "image",
    "messages", "completion",
)  # fmt: skip
_SHOWN = 5


class BadRow(Exception):
    """One row that cannot be a pair: the ``reason`` it is counted under, and what was ``found``."""

    def __init__(self, reason: str, found: object = None):
        self.reason = reason
        super().__init__(reason if found is None else f"{reason}; found {str(found)[:100]!r}")


def read_rows(path: str | Path) -> Iterator[tuple[str, dict | BadRow]]:
    """Yield ("line 2" or "row 2", row) from a file, counted from 1; a broken line is a BadRow.

    Raises:
        UserError: no such file, an ending not in ENDINGS, a damaged file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file. Expected a pairs file ({', '.join(ENDINGS)}).")
    if not path.name.endswith(ENDINGS):
        raise UserError(
            f"{path}: unknown file ending. Expected one of {', '.join(ENDINGS)}; "
            "JSON goes one object per line."
        )
    try:
        yield from _read_parquet(path) if path.suffix == ".parquet" else _read_lines(path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or unreadable ({error}). Write it anew.") from None


def _read_lines(path: Path) -> Iterator[tuple[str, dict | BadRow]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"line {number}", _parse(line)


def _parse(line: bytes) -> dict | BadRow:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return BadRow("not valid JSON", line[:100].decode(errors="replace").strip())
    return row if isinstance(row, dict) else BadRow("not a JSON object", type(row).__name__)


def _read_parquet(path: Path) -> Iterator[tuple[str, dict]]:
    import pyarrow
    from pyarrow import parquet

    try:
        # One thread: the file is checked in Snakemake's main process, which should stay small.
        file = parquet.ParquetFile(path)
        columns = [name for name in file.schema_arrow.names if name in _COLUMNS]
        batches = file.iter_batches(1000, columns=columns, use_threads=False)
        for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
            yield f"row {number}", row
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: not a readable parquet file ({error}).") from None


def read_pair(row: dict) -> dict:
    """A row in any of the module's shapes -> prompt, chosen, rejected (message lists) and key.

    ``key`` identifies the prompt up to white space and Unicode form. ``prompt_id`` and ``dataset``
    are there if the row has them.

    Raises:
        BadRow: saying what is wrong.
    """
    for column in ("tools", "images", "image"):
        if row.get(column):
            raise BadRow(f"{column}: tool calls and images are not supported")
    prompt = row.get("prompt")
    chosen, rejected = (_response(row, side, prompt) for side in ("chosen", "rejected"))
    if prompt is None:
        prompt, chosen, rejected = _shared_prefix(chosen, rejected)
    elif isinstance(prompt, str) and chosen[0]["role"] == rejected[0]["role"] == "assistant":
        prompt = messages_of([{"role": "user", "content": prompt}], "prompt")
    elif isinstance(prompt, str):
        text, (prompt, chosen, rejected) = prompt, _shared_prefix(chosen, rejected)
        if _plain(text) not in [_plain(m["content"]) for m in prompt if m["role"] == "user"]:
            raise BadRow("prompt is no user turn that chosen and rejected share", text)
    else:
        prompt = messages_of(prompt, "prompt")
        if chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    _check_turns(prompt, chosen, rejected)
    return {
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "key": _key(prompt),
        **{name: str(row[name]) for name in ("prompt_id", "dataset") if row.get(name) is not None},
    }


def _response(row: dict, side: str, prompt: object) -> list[dict]:
    value = row.get(side)
    if value is None:
        raise BadRow(f"no {side}")
    if isinstance(value, str):
        if not isinstance(prompt, str):
            raise BadRow(f"{side} is a string, which needs a prompt that is a string", value)
        value = [{"role": "assistant", "content": value}]
    if not value:
        raise BadRow(f"{side} is empty")
    return messages_of(value, side)


def messages_of(value: object, column: str) -> list[dict]:
    """Chat messages, checked one by one; ``column`` is what the value stands in.

    Raises:
        BadRow: saying what is wrong.
    """
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise BadRow(f"{column} is neither a string nor a list of messages", value)
    return [_message(message, column) for message in value]


def _message(message: dict, column: str) -> dict:
    role, content = message.get("role"), message.get("content")
    if role in ("tool", "function") or message.get("tool_calls"):
        raise BadRow(f"{column}: tool calls are not supported", message)
    if role not in ("system", "user", "assistant"):
        raise BadRow(f"{column}: role is not system, user or assistant", role)
    if isinstance(content, list):
        raise BadRow(f"{column}: images and other content parts are not supported", content)
    if not isinstance(content, str):
        raise BadRow(f"{column}: content is not a string", content)
    try:
        content.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{column}: content is not valid Unicode", ascii(content)) from None
    return {"role": role, "content": content}


def _shared_prefix(chosen: list, rejected: list) -> tuple[list, list, list]:
    """Split two conversations into the messages they share and the rest, at least one message."""
    n = 0
    while n < min(len(chosen), len(rejected)) - 1 and chosen[n] == rejected[n]:
        n += 1
    return chosen[:n], chosen[n:], rejected[n:]


def _check_turns(prompt: list[dict], chosen: list[dict], rejected: list[dict]) -> None:
    for side, response in (("chosen", chosen), ("rejected", rejected)):
        if not response or not response[-1]["content"].strip():
            raise BadRow(f"{side} is empty")
        if response[-1]["role"] != "assistant":
            raise BadRow(f"{side}: last message is not the assistant's", response[-1]["role"])
        if len(response) > 1:
            roles = ", ".join(message["role"] for message in response)
            raise BadRow(f"{side} has more than one message after the prompt", roles)
    if not prompt or prompt[-1]["role"] == "user" and not prompt[-1]["content"].strip():
        raise BadRow("prompt is empty")
    if prompt[-1]["role"] != "user":
        raise BadRow("prompt: last message is not the user's", prompt[-1]["role"])
    if any(not m["content"].strip() for m in prompt if m["role"] != "system"):
        raise BadRow("prompt has an empty message")
    if chosen == rejected:
        raise BadRow("chosen equals rejected", chosen[0]["content"])


def collect(
    rows: Iterable[tuple[str, dict | BadRow]], source: str, bad_rows: str
) -> tuple[list[dict], Counter]:
    """Pairs in the rows' order, and how many rows were dropped for which reason.

    Raises:
        UserError: no rows; a column that all rows lack; bad rows, unless ``bad_rows`` is "drop"
            and something is left.
    """
    pairs, bad, columns = [], [], set()
    for place, row in rows:
        try:
            if isinstance(row, BadRow):
                raise row
            columns |= row.keys()
            pairs.append(read_pair(row))
        except BadRow as problem:
            bad.append((place, problem))
    if not pairs and not bad:
        raise UserError(f"{source} is empty. Expected one preference pair per row.")
    missing = [name for name in ("chosen", "rejected") if name not in columns]
    if columns and missing:
        raise UserError(
            f"{source}: no column {' and no column '.join(map(repr, missing))}.\n"
            f"  found:    {', '.join(sorted(columns))[:200]}\n"
            "  expected: prompt, chosen, rejected (strings or lists of {role, content})"
        )
    return pairs, refuse_bad(bad, len(pairs), source, bad_rows)


def refuse_bad(
    bad: list[tuple[str, BadRow]], n_good: int, source: str, bad_rows: str
) -> Counter[str]:
    """How many rows are dropped for which reason.

    Raises:
        UserError: there are any, unless ``bad_rows`` is "drop" and good ones are left.
    """
    if bad and (bad_rows != "drop" or not n_good):
        shown = "".join(f"  {place}: {problem}\n" for place, problem in bad[:_SHOWN])
        more = f"  and {len(bad) - _SHOWN} more\n" if len(bad) > _SHOWN else ""
        advice = "Mend the rows, or leave them out with `bad_rows: drop`." if n_good else "Mend it."
        n = n_good + len(bad)
        raise UserError(f"{source}: {len(bad)} of {n} rows cannot be used.\n{shown}{more}{advice}")
    return Counter(problem.reason for _, problem in bad)


def visible(prompt: list[dict]) -> list[dict]:
    """The messages that say something: system messages may be empty, and often are."""
    return [message for message in prompt if message["content"].strip()]


def digest(*parts: object) -> str:
    """SHA-256 of JSON-able parts, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _key(prompt: list[dict]) -> str:
    return digest(*([m["role"], _plain(m["content"])] for m in visible(prompt)))[:32]


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
