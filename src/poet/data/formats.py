"""Layouts of preference data that people have, each mapped to TRL's; see docs/own-data.md.

A reader takes a raw row and gives prompt, chosen and rejected as TRL has them (strings or lists of
messages) and, where there is one, the ``system`` text. The checks of :mod:`poet.data.pairs` follow,
the same for all.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import NamedTuple

from poet.data.containers import BadRow

SIDES = ("chosen", "rejected")
TRANSCRIPT = re.compile(r"\s*Human:.*?\n\nAssistant:", re.DOTALL)
_TURN = re.compile(r"\n\n(Human|Assistant):")
# JSON, or Python's repr, of an object that has the keys of a message.
MESSAGES_TEXT = re.compile(
    r"""\s*(?:array\()?\[?\s*\{(?:(?=.*["']role["']\s*:)(?=.*["']content["']\s*:)"""
    r"""|(?=.*["']from["']\s*:)(?=.*["']value["']\s*:))""",
    re.DOTALL,
)
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}


class Format(NamedTuple):
    read: Callable[[dict], dict]
    prompt: tuple[str, ...]  # columns that hold the prompt, one of them
    beside: tuple[str, ...]  # and what else of it
    summary: str
    either: tuple[str, ...] = ()  # columns of which one is read at most, so that others may differ


def given(value: object) -> bool:
    """Whether a cell holds something: not null, NaN, or empty in some way."""
    if isinstance(value, str):
        return bool(value.strip()) and value.strip() not in ("[]", "{}", "null")
    if isinstance(value, float | int):
        return value == value  # NaN is not
    return bool(value)


def no_prompt(row: dict, column: str = "prompt") -> str:
    """What is wrong with a row without a prompt: its columns, and the format that reads them.

    ``column`` is the one that the chosen format reads it from.
    """
    formats = ["trl"] if column != "prompt" and given(row.get("prompt")) else fitting(row)
    if column in row and not formats:
        return f"{column} is empty"
    advice = f"set `format: {formats[0]}`" if formats else f"formats: {', '.join(FORMATS)}"
    return f"no {column} among the columns {', '.join(sorted(map(str, row)))[:200]}: {advice}"


def fitting(row: dict) -> list[str]:
    """Formats for one of whose columns of the prompt the row has a value."""
    return [
        name
        for name, format in FORMATS.items()
        if format.beside and any(given(row.get(column)) for column in format.prompt)
    ]


def _trl(row: dict) -> dict:
    prompt, chosen, rejected = row.get("prompt"), row.get("chosen"), row.get("rejected")
    found = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    if are_texts(found) and not given(prompt):
        raise BadRow(no_prompt(row))
    return found


def are_texts(row: dict) -> bool:
    """Whether both answers are strings."""
    return all(isinstance(row.get(side), str) for side in SIDES)


def refuse_other_texts(row: dict, format: str = "trl") -> None:
    """Refuse strings that are another format's than ``format``.

    Raises:
        BadRow: says which format reads them.
    """
    prompt = row.get("prompt")
    for name in dict.fromkeys(("prompt", *SIDES, *FORMATS[format].prompt)):
        value = row.get(name)
        if format != "messages-as-text" and isinstance(value, str) and MESSAGES_TEXT.match(value):
            read = name in ("prompt", *SIDES)
            advice = "set `format: messages-as-text`" if read else "expected what the user says"
            raise BadRow(f"{name} holds messages as text: {advice}", value)
    if format != "hh" and are_texts(row):
        both = all(TRANSCRIPT.match(row[side]) for side in SIDES)
        if both or isinstance(prompt, str) and TRANSCRIPT.match(prompt):
            raise BadRow(
                "a transcript (Human: ... Assistant: ...): set `format: hh`", row["chosen"]
            )


def _hh(row: dict) -> dict:
    prompt, answers = row.get("prompt"), {side: row.get(side) for side in SIDES}
    for side, text in answers.items():
        if isinstance(text, str) and text.lstrip().startswith("Human:"):
            answers[side] = _turns(text, side)
        elif isinstance(text, str) and given(prompt):
            answers[side] = [{"role": "assistant", "content": text.strip()}]
        elif text is not None:
            raise BadRow(f"{side} is no transcript (Human: ... Assistant: ...)", text)
    if isinstance(prompt, str) and prompt.lstrip().startswith("Human:"):
        prompt = _turns(re.sub(r"\s*Assistant:\s*\Z", "", prompt), "prompt")
    return {"prompt": prompt if given(prompt) else None, **answers}


def _turns(text: str, column: str) -> list[dict]:
    """Messages of a transcript, without the white space around them."""
    _, *parts = _TURN.split("\n\n" + text.lstrip())
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _sharegpt(row: dict) -> dict:
    names = ("conversations", "conversation", "prompt", "messages")
    turns = next((row[name] for name in names if given(row.get(name))), None)
    found = {"prompt": turns, **{side: row.get(side) for side in SIDES}}
    for name, value in found.items():
        if isinstance(value, str) and name in SIDES and not isinstance(turns, str):
            value = [{"role": "assistant", "content": value}]
        found[name] = from_value(value)
    return {**found, "system": system_of(row)}


def from_value(value: object) -> object:
    """Messages of from and value as a list of role and content; anything else as it is."""
    if isinstance(value, dict):
        return from_value([value])
    if not isinstance(value, list):
        return value
    return [_from_value(message) for message in value]


def _from_value(message: object) -> object:
    if not isinstance(message, dict) or "value" not in message:
        return message
    who = message.get("from")
    if not isinstance(who, str):
        return message
    found = {"role": _ROLES.get(who.lower(), who), "content": message["value"]}
    return found | {key: of for key, of in message.items() if key not in ("from", "value")}


def _orca(row: dict) -> dict:
    _, question = _one(row, FORMATS["orca"].prompt)
    return {"prompt": question, **{s: row.get(s) for s in SIDES}, "system": system_of(row)}


def _alpaca(row: dict) -> dict:
    parts = [row.get(name) for name in ("instruction", "input")]
    for name, part in zip(("instruction", "input"), parts, strict=True):
        if given(part) and not isinstance(part, str):
            raise BadRow(f"{name} is not a string", part)
    text = "\n".join(part for part in parts if isinstance(part, str) and part.strip())
    if not text:
        raise BadRow(no_prompt(row, "instruction"))
    history = row.get("history") if given(row.get("history")) else []
    prompt = []
    for turn in history:
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise BadRow("history is not a list of pairs (instruction, answer)", turn)
        prompt += [{"role": r, "content": t} for r, t in zip(("user", "assistant"), turn)]  # noqa: B905
    prompt.append({"role": "user", "content": text})
    answers = {side: row.get(side) for side in SIDES}
    for side, answer in answers.items():
        if isinstance(answer, str):
            answers[side] = [{"role": "assistant", "content": answer}]
    return {"prompt": prompt, **answers, "system": system_of(row)}


def _messages_as_text(row: dict) -> dict:
    found = {name: _parsed(row.get(name), name) for name in ("prompt", *SIDES)}
    return {name: from_value(value) for name, value in found.items()}


def _parsed(value: object, column: str) -> object:
    """JSON text, or Python's repr, of messages; a plain prompt stays a string."""
    if not isinstance(value, str) or column == "prompt" and value.lstrip()[:1] not in ("[", "{"):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        if isinstance(found, dict | list):
            return [found] if isinstance(found, dict) else found
    raise BadRow(f"{column} is no list of messages as JSON or Python text", value)


def _repeated_prompt(row: dict) -> dict:
    prompt = row.get("prompt")
    if not given(prompt):
        raise BadRow(no_prompt(row))
    if not isinstance(prompt, str):
        raise BadRow("prompt is not a string", prompt)
    found = {"prompt": prompt}
    for side in SIDES:
        text = row.get(side)
        if not isinstance(text, str):
            raise BadRow(f"{side} is not a string" if text is not None else f"no {side}", text)
        if not text.lstrip().startswith(prompt.strip()):
            raise BadRow(f"{side} does not begin with the prompt", text)
        found[side] = text.lstrip().removeprefix(prompt.strip()).lstrip()
    return found


def system_of(row: dict) -> str | None:
    """The system text of a row's column for it.

    Raises:
        BadRow: two columns for it differ, or it is no string.
    """
    name, text = _one(row, _SYSTEM)
    if text is not None and not isinstance(text, str):
        raise BadRow(f"{name} is not a string", text)
    return text


def _one(row: dict, names: tuple[str, ...]) -> tuple[str, object]:
    """The column among ``names`` that is given, and its value; (names[0], None) if none is."""
    found = [(name, row[name]) for name in names if given(row.get(name))]
    if any(value != found[0][1] for _, value in found):
        raise BadRow(f"{' and '.join(name for name, _ in found)} differ, and one is expected")
    return found[0] if found else (names[0], None)


_SYSTEM = ("system", "system_prompt", "system_message")
FORMATS = {
    "trl": Format(_trl, ("prompt",), (), "strings or messages of role and content"),
    "hh": Format(_hh, ("prompt",), (), "transcripts of `Human: ...` and `Assistant: ...`"),
    "sharegpt": Format(
        _sharegpt,
        ("conversations", "conversation"),
        _SYSTEM,
        "messages of from and value",
        ("conversations", "conversation", "prompt"),
    ),
    "alpaca": Format(
        _alpaca,
        ("instruction",),
        ("input", "history", *_SYSTEM),
        "instruction, input, history",
        ("prompt",),
    ),
    "orca": Format(_orca, ("question", "input", "prompt"), _SYSTEM, "system and question"),
    "messages-as-text": Format(
        _messages_as_text, ("prompt",), (), "messages as JSON text or as Python's repr"
    ),
    "repeated-prompt": Format(
        _repeated_prompt, ("prompt",), (), "strings, and both answers begin with the prompt"
    ),
}
