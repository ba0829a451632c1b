"""How a data set's raw rows are to be read, and what they must not lose by it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from poet.data.containers import BadRow
from poet.data.formats import FORMATS, fitting, given, messages_in
from poet.methods import SIDES

# Columns that are read under every format, beside the format's own.
_COMMON = ("prompt", *SIDES, "prompt_id", "dataset", "tools", "chat_template_kwargs", "split")
# Columns that hold a part of the conversation, in whatever spelling: without case and punctuation.
_CONTENT = frozenset(
    "system systemprompt systemmessage systeminstruction systemcontent systemtext sysprompt "
    "developer preamble persona instruction instructions input inputs question query userprompt "
    "usermessage conversation conversations dialog dialogue dialogs dialogues chat turns messages "
    "history context passage document documents thinking reasoningcontent "
    "functions functioncall functioncalls toolcalls".split()
)
# Of several words the last one counts (user_input), and of some it ends the name (chathistory).
_ENDINGS = tuple(word for word in _CONTENT if len(word) > 6 or word == "turns")
_THOUGHTS = re.compile("think|thought|reasoning", re.IGNORECASE)
_MEDIA = frozenset("image images video videos audio audios".split())


class WrongFormat(BadRow):
    """A row that says that the whole file is of another format: never left out in silence."""


@dataclass(frozen=True)
class Layout:
    """How raw rows are read: the name of one of FORMATS, and columns taken as not there."""

    format: str = "trl"
    ignored: tuple[str, ...] = ()

    def kept(self, row: dict) -> dict:
        """A raw row without the columns to ignore."""
        return {name: value for name, value in row.items() if name not in self.ignored}

    def check_nothing_is_lost(self, row: dict, messages: list[dict]) -> None:
        """Refuse a row with content in columns that are not read, unless the pair has it too.

        Raises:
            BadRow: images and the like.
            WrongFormat: other columns; says which, and which format reads them.
        """
        either = FORMATS[self.format].either
        names = dict.fromkeys((*_unread(self.format, tuple(row)), *either))
        lost = lost_columns(row, names, messages)
        if not lost:
            return
        names = ", ".join(lost)
        others = [name for name in fitting(row) if not set(lost) & set(_unread(name, tuple(row)))]
        others = [] if set(lost) & set(either) else others
        read = f"`format: {others[0]}`, or " if others else ""
        columns = "columns" if len(lost) > 1 else "column"
        raise WrongFormat(
            f"{columns} {names} would be lost under `format: {self.format}`: "
            f"set {read}`ignored_columns: [{names}]` if nothing of it matters"
        )


TRL = Layout()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--format``, ``--ignored-columns`` and ``--bad-rows`` to a program's flags."""
    parser.add_argument("--format", choices=FORMATS, default="trl", help="layout of the rows")
    parser.add_argument("--ignored-columns", nargs="*", default=[], help="taken as not there")
    parser.add_argument(
        "--bad-rows", choices=("error", "drop"), default="error", help="drop leaves them out"
    )


def lost_columns(row: dict, names: Iterable[str], messages: list[dict]) -> list[str]:
    """Those of a row's columns that say something that the messages do not.

    Raises:
        BadRow: images and the like, and nothing else.
    """
    lost = [n for n in names if given(row.get(n)) and not _is_in(row[n], messages)]
    if lost and all(_plain(name) in _MEDIA for name in lost):
        raise BadRow(f"{', '.join(lost)}: images, videos and audio are not supported")
    return lost


def is_read(name: str) -> bool:
    """Whether a column of this name can matter under any format."""
    return name in _COMMON or is_content(name) or _is_of_pair(name) or name == "completion"


@lru_cache(maxsize=1000)
def _unread(format: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a row's columns that hold content and that a format does not read."""
    read = {*_COMMON, *FORMATS[format].prompt, *FORMATS[format].beside}
    return tuple(c for c in columns if c not in read and (is_content(c) or _is_of_pair(c)))


def _is_of_pair(name: str) -> bool:
    """Whether a column is a pair's, in whatever spelling."""
    return _plain(name) in ("prompt", *SIDES)


def is_content(name: str) -> bool:
    """Whether a column of this name holds a part of a conversation."""
    plain, last = _plain(name), (re.findall("[A-Z]?[a-z]+|[A-Z]+", str(name)) or [""])[-1]
    return bool({plain, last.lower()} & (_CONTENT | _MEDIA)) or plain.endswith(_ENDINGS)


def is_part(key: str) -> bool:
    """Whether what a message has under this key, beside its content, is a part of what it says."""
    return is_content(key) or bool(_THOUGHTS.search(str(key)))


@lru_cache(maxsize=1000)
def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", str(name).lower())


def _is_in(value: object, messages: list[dict]) -> bool:
    """Whether every text of a cell is what some message of the pair says."""
    contents = {text.strip() for message in messages for text in message.values()}

    def said(text: str) -> bool:
        held = [] if text.strip() in contents else messages_in(text)
        return text.strip() in contents or bool(held) and all(map(said, _texts(held)))

    return all(map(said, _texts(value)))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        # Of a message, what it says and not who says it.
        said = [value[key] for key in value if key in ("content", "value") or is_part(key)]
        value = said or list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield repr(value)
