"""Layouts of preference data that people have, each mapped to TRL's; see docs/own-data.md.

A reader takes a raw row and gives prompt, chosen and rejected as TRL has them (strings or lists of
messages) and, where there is one, the ``system`` text. The checks of :mod:`poet.data.pairs` follow,
the same for all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import NamedTuple

from poet.data.containers import BadRow, parse_json
from poet.methods import SIDES

TRANSCRIPT = re.compile(r"\s*Human:.*?(?:\r?\n){2}Assistant:", re.DOTALL)
_TURN = re.compile(r"(?:\r?\n){2}(Human|Assistant):")
_OBJECT = re.compile(r"""\s*["']?\s*\[?\s*\{""")
# What only numpy writes so: an object with the keys of a message.
_AS_NUMPY = re.compile(
    r"""\s*(?:array\()?\[?\s*\{(?:(?=.*["']role["']\s*:)(?=.*["']content["']\s*:)"""
    r"""|(?=.*["']from["']\s*:)(?=.*["']value["']\s*:))""",
    re.DOTALL,
)
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}
_SPEAKERS = {"system", "user", "assistant", "tool", "function", *_ROLES}


class Format(NamedTuple):
    read: Callable[[dict], dict]
    summary: str
    prompt: tuple[str, ...] = ("prompt",)  # columns that hold the prompt, one of them
    beside: tuple[str, ...] = ()  # and what else of it
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
    found = {name: row.get(name) for name in ("prompt", *SIDES)}
    if are_texts(found) and not given(found["prompt"]):
        raise BadRow(no_prompt(row))
    return found


def are_texts(row: dict) -> bool:
    """Whether both answers are strings."""
    return all(isinstance(row.get(side), str) for side in SIDES)


def refuse_other_texts(row: dict, format: str = "trl") -> None:
    """Refuse strings that are another format's than that of the row.

    Raises:
        BadRow: says which format reads them.
    """
    prompt = FORMATS[format].prompt
    more = [name for name in FORMATS[format].beside if name not in _SYSTEM]
    for name in dict.fromkeys((*prompt, *more, *SIDES)):
        value = row.get(name)
        as_text = format != "messages-as-text" and isinstance(value, str)
        if as_text and is_messages_text(value):
            others = format in ("alpaca", "orca")  # whose prompts stand elsewhere
            advice = "write them as lists" if others else "set `format: messages-as-text`"
            raise BadRow(f"{name} holds messages as text: {advice}", value)
    if format != "hh" and are_texts(row):
        prompts = [row[name] for name in prompt if isinstance(row.get(name), str)]
        both = all(TRANSCRIPT.match(row[side]) for side in SIDES)
        if both or any(map(TRANSCRIPT.match, prompts)):
            raise BadRow(
                "a transcript (Human: ... Assistant: ...): set `format: hh`", row["chosen"]
            )


def _hh(row: dict) -> dict:
    prompt, answers = row.get("prompt"), {side: row.get(side) for side in SIDES}
    for side, text in answers.items():
        if isinstance(text, str) and text.lstrip().startswith("Human:"):
            answers[side] = _turns(text)
        elif isinstance(text, str) and given(prompt):
            answers[side] = [{"role": "assistant", "content": text.strip()}]
        elif text is not None:
            raise BadRow(f"{side} is no transcript (Human: ... Assistant: ...)", text)
    if isinstance(prompt, str) and prompt.lstrip().startswith("Human:"):
        prompt = _turns(re.sub(r"\s*Assistant:\s*\Z", "", prompt))
    return {"prompt": prompt if given(prompt) else None, **answers}


def _turns(text: str) -> list[dict]:
    """Messages of a transcript, without the white space around them."""
    _, *parts = _TURN.split("\n\n" + text.lstrip())
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _sharegpt(row: dict) -> dict:
    names = (*_CONVERSATIONS, "messages")
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
    for turn in history if isinstance(history, list | tuple) else [history]:
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
    names = (*FORMATS["messages-as-text"].prompt, *SIDES)
    parsed = {name: _parsed(row.get(name), name) for name in names}
    return _sharegpt({**row, "messages": None, **parsed})


def _parsed(value: object, column: str) -> object:
    """JSON text, or Python's repr, of messages; a plain prompt stays a string."""
    if not isinstance(value, str) or column not in SIDES and not is_messages_text(value):
        return value
    found = _decoded(value)
    if not isinstance(found, dict | list):
        raise BadRow(f"{column} is no list of messages as JSON or Python text", value)
    return found


def _decoded(text: str) -> object:
    """What JSON text or Python's repr holds, also of text within text; None if it is neither."""
    for parse in (parse_json, ast.literal_eval):
        try:
            found = parse(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        return _decoded(found) if isinstance(found, str) else found
    return None


def is_messages_text(text: str) -> bool:
    """Whether a text holds a message or a list of them, as JSON or as Python or numpy write it."""
    return bool(messages_in(text) or _AS_NUMPY.match(text) and _decoded(text) is None)


def messages_in(text: str) -> list[dict]:
    """The messages that JSON text or Python's repr holds; [] if it holds none, or anything else."""
    found = _decoded(text) if _OBJECT.match(text) else None
    messages = found if isinstance(found, list) else [found]
    return messages if all(map(_is_message, messages)) else []


def _is_message(value: object) -> bool:
    if not isinstance(value, dict) or not {"content", "value"} & value.keys():
        return False
    return str(value.get("role", value.get("from"))).lower() in _SPEAKERS


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
        BadRow: two columns for it differ, or it is no string, or one of messages.
    """
    name, text = _one(row, _SYSTEM)
    if text is not None and not isinstance(text, str):
        raise BadRow(f"{name} is not a string", text)
    if text is not None and is_messages_text(text):
        raise BadRow(f"{name} holds messages as text, expected what they say", text)
    return text


def _one(row: dict, names: tuple[str, ...]) -> tuple[str, object]:
    """The column among ``names`` that is given, and its value; (names[0], None) if none is."""
    found = [(name, row[name]) for name in names if given(row.get(name))]
    if any(value != found[0][1] for _, value in found):
        raise BadRow(f"{' and '.join(name for name, _ in found)} differ, and one is expected")
    return found[0] if found else (names[0], None)


_SYSTEM = ("system", "system_prompt", "system_message")
_CONVERSATIONS = ("conversations", "conversation", "prompt")
FORMATS = {
    "trl": Format(_trl, "strings or messages of role and content"),
    "hh": Format(_hh, "transcripts of `Human: ...` and `Assistant: ...`"),
    "sharegpt": Format(
        _sharegpt, "messages of from and value", _CONVERSATIONS[:2], _SYSTEM, _CONVERSATIONS
    ),
    "alpaca": Format(
        _alpaca,
        "instruction, input, history",
        ("instruction",),
        ("input", "history", *_SYSTEM),
        ("prompt",),
    ),
    "orca": Format(_orca, "system and question", ("question", "input", "prompt"), _SYSTEM),
    "messages-as-text": Format(
        _messages_as_text,
        "messages as JSON text or as Python's repr",
        _CONVERSATIONS,
        _SYSTEM,
        _CONVERSATIONS,
    ),
    "repeated-prompt": Format(_repeated_prompt, "strings, and both answers begin with the prompt"),
}
