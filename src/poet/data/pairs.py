"""Rows of users' preference data -> prompt, chosen, rejected, or what is wrong with the row.

A :class:`poet.data.formats.Layout` maps a raw row to TRL's preference format
(https://huggingface.co/docs/trl/dataset_formats#preference), in any of these shapes:

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

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from poet.data import containers
from poet.data.containers import BadRow, Rows
from poet.data.formats import FORMATS, given, no_prompt, refuse_other_texts
from poet.data.layout import TRL, Layout, WrongFormat, is_read
from poet.data.messages import check_unicode, is_blank, messages_of, read_options
from poet.data.together import check_together, repeats_prompt
from poet.files import UserError
from poet.methods import SIDES

_SHOWN = 5


def read_rows(path: str | Path) -> Rows:
    """Rows of a file (:func:`poet.data.containers.read_rows`); parquet's without unused columns."""
    return containers.read_rows(path, is_read)


def read_pair(row: dict, layout: Layout = TRL) -> dict:
    """A raw row -> prompt, chosen, rejected (message lists) and key.

    A message has role, content and, where the row gives it, one of REASONING. ``key`` identifies
    the prompt up to white space and Unicode form, ``instruction`` is its text. ``prompt_id``,
    ``dataset``, ``chat_template_kwargs`` (dict) and ``tools`` (list of JSON schemas), whose meaning
    is TRL's, are there if the row has them.

    Raises:
        BadRow: saying what is wrong.
    """
    row = layout.kept(row)
    refuse_other_texts(row, layout.format)
    found = FORMATS[layout.format].read(row)
    prompt = found.get("prompt")
    if prompt is None and any(isinstance(found.get(side), str) for side in SIDES):
        raise BadRow(no_prompt(row, FORMATS[layout.format].prompt[0]))
    chosen, rejected = (_response(found, side, prompt) for side in SIDES)
    if prompt is None:
        prompt, chosen, rejected = _shared_prefix(chosen, rejected)
        if not prompt and len(chosen) == len(rejected) == 1:
            raise BadRow(no_prompt(row))
    elif isinstance(prompt, str) and chosen[0]["role"] == rejected[0]["role"] == "assistant":
        prompt = messages_of([{"role": "user", "content": prompt}], "prompt")
    elif isinstance(prompt, str):
        text, (prompt, chosen, rejected) = prompt, _shared_prefix(chosen, rejected)
        if plain(text) not in [plain(m["content"]) for m in prompt if m["role"] == "user"]:
            raise BadRow("prompt is no user turn that chosen and rejected share", text)
    else:
        prompt = messages_of(prompt, "prompt")
        if chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    if given(found.get("system")):
        prompt = with_system(found["system"], prompt)
    _check_turns(prompt, chosen, rejected)
    text = prompt[-1]["content"]  # a short one may begin both answers by chance
    if (len(text) > 15 or len(text.split()) > 2) and repeats_prompt(prompt, chosen, rejected):
        raise BadRow(
            "chosen and rejected both begin with the prompt: set `format: repeated-prompt`",
            chosen[0]["content"],
        )
    layout.check_nothing_is_lost(row, [*prompt, *chosen, *rejected])
    return {
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "key": _key(prompt),
        "instruction": instruction(prompt),
        **{name: text for name in ("prompt_id", "dataset") if (text := _name(row, name))},
        **read_options(row),
    }


def _name(row: dict, column: str) -> str | None:
    """The text of a cell that names something; None where it holds nothing."""
    text = str(row.get(column))
    if text.strip().lower() in ("none", "nan", "", "null", "[]", "{}"):
        return None
    check_unicode(text, column)
    return text


def _response(row: dict, side: str, prompt: object) -> list[dict]:
    value = row.get(side)
    if value is None:
        raise BadRow(f"no {side}")
    if isinstance(value, str):
        if not isinstance(prompt, str):
            advice = ": set `format: sharegpt`" if isinstance(prompt, list) else ""
            raise BadRow(
                f"{side} is a string, which needs a prompt that is a string{advice}", prompt
            )
        value = [{"role": "assistant", "content": value}]
    if not value:
        raise BadRow(f"{side} is empty")
    return messages_of(value, side)


def _shared_prefix(chosen: list, rejected: list) -> tuple[list, list, list]:
    """Split two conversations into the messages they share and the rest, at least one message."""
    n = 0
    while n < min(len(chosen), len(rejected)) - 1 and chosen[n] == rejected[n]:
        n += 1
    return chosen[:n], chosen[n:], rejected[n:]


def with_system(text: str, prompt: list[dict]) -> list[dict]:
    """A conversation with a system text first, unless it has the same already."""
    if not prompt or prompt[0]["role"] != "system":
        return [*messages_of([{"role": "system", "content": text}], "system"), *prompt]
    if plain(prompt[0]["content"]) != plain(text):
        raise BadRow("the column system and the prompt's system message differ", text)
    return prompt


def _check_turns(prompt: list[dict], chosen: list[dict], rejected: list[dict]) -> None:
    for side, response in (("chosen", chosen), ("rejected", rejected)):
        if not response or is_blank(response[-1]["content"]):
            raise BadRow(f"{side} is empty")
        if response[-1]["role"] != "assistant":
            raise BadRow(f"{side}: last message is not the assistant's", response[-1]["role"])
        if len(response) > 1:
            roles = ", ".join(message["role"] for message in response)
            raise BadRow(f"{side} has more than one message after the prompt", roles)
    if not prompt or prompt[-1]["role"] == "user" and is_blank(prompt[-1]["content"]):
        raise BadRow("prompt is empty")
    if prompt[-1]["role"] != "user":
        raise BadRow("prompt: last message is not the user's", prompt[-1]["role"])
    if any(is_blank(m["content"]) for m in prompt if m["role"] != "system"):
        raise BadRow("prompt has an empty message")
    if chosen == rejected:
        raise BadRow("chosen equals rejected", chosen[0]["content"])


def collect(
    rows: Iterable[tuple[str, dict | BadRow]],
    source: str,
    bad_rows: str,
    layout: Layout = TRL,
    read: Callable[[dict, Layout], dict] = read_pair,
) -> tuple[list[dict], Counter]:
    """Pairs in the rows' order, and how many rows were dropped for which reason.

    ``read`` is what makes a pair of a row.

    Raises:
        UserError: no rows; a column that all rows lack; a file of another format; bad rows, unless
            ``bad_rows`` is "drop" and something is left.
    """
    columns: set[str] = set()

    def read_row(row: dict) -> dict:
        columns.update(row)
        return read(row, layout)

    pairs, bad = read_each(rows, source, "preference pair", read_row)
    check_columns(columns, source, layout)
    dropped = refuse_bad(bad, len(pairs), source, bad_rows)
    check_together(pairs, source)
    return pairs, dropped


def read_each(
    rows: Iterable[tuple[str, dict | BadRow]], source: str, kind: str, read: Callable[[dict], dict]
) -> tuple[list[dict], list[tuple[str, BadRow]]]:
    """What ``read`` makes of the rows, and those that cannot be used, with their places.

    Raises:
        UserError: there are no rows.
    """
    good, bad = [], []
    for place, row in rows:
        try:
            if isinstance(row, BadRow):
                raise row
            good.append(read(row))
        except BadRow as problem:
            bad.append((place, problem))
    if not good and not bad:
        raise UserError(f"{source} is empty. Expected one {kind} per row.")
    return good, bad


def check_columns(columns: set[str], source: str, layout: Layout) -> None:
    """Refuse a file that has no column for an answer, or none of the name of an ignored one."""
    found = ", ".join(sorted(map(str, columns)))[:200]
    missing = [name for name in SIDES if name not in columns]
    if columns and missing:
        raise UserError(
            f"{source}: no column {' and no column '.join(map(repr, missing))}.\n"
            f"  found:    {found}\n"
            "  expected: prompt, chosen, rejected (strings or lists of {role, content})\n"
            "Rename the columns of the two answers, or write pairs of what there is."
        )
    unknown = sorted(set(layout.ignored) - columns)
    if columns and unknown:
        raise UserError(
            f"{source}: ignored_columns names {', '.join(unknown)}, which no row has.\n"
            f"  found:    {found}"
        )


def refuse_bad(
    bad: list[tuple[str, BadRow]], n_good: int, source: str, bad_rows: str
) -> Counter[str]:
    """How many rows are dropped for which reason.

    Raises:
        UserError: there are any, unless ``bad_rows`` is "drop" and good ones are left; one that
            says that the file is of another format, in any case.
    """
    wrong = [(place, problem) for place, problem in bad if isinstance(problem, WrongFormat)]
    if wrong or bad and (bad_rows != "drop" or not n_good):
        shown = "".join(f"  {place}: {problem}\n" for place, problem in (wrong or bad)[:_SHOWN])
        left = len(wrong or bad) - _SHOWN
        more = f"  and {left} more\n" if left > 0 else ""
        advice = "Mend the rows, or leave them out with `bad_rows: drop`." if n_good else "Mend it."
        if wrong:
            advice = "A format is the whole data set's: no row is left out for it."
        n = n_good + len(bad)
        raise UserError(
            f"{source}: {len(wrong or bad)} of {n} rows cannot be used.\n{shown}{more}{advice}"
        )
    return Counter(problem.reason for _, problem in bad)


def instruction(prompt: list[dict]) -> str:
    """A prompt as one text: the user's words, or the whole conversation if there is more."""
    messages = visible(prompt)
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in messages)


def visible(prompt: list[dict]) -> list[dict]:
    """The messages that say something: system messages may be empty, and often are."""
    return [message for message in prompt if message["content"].strip()]


def digest(*parts: object) -> str:
    """SHA-256 of JSON-able parts, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _key(prompt: list[dict]) -> str:
    return digest(*([m["role"], plain(m["content"])] for m in visible(prompt)))[:32]


def plain(text: str) -> str:
    """A text up to its white space and Unicode form."""
    return " ".join(unicodedata.normalize("NFC", text).split())
