"""Chat messages, and what a row says to the chat template beside them, checked one by one."""

from __future__ import annotations

import json
import unicodedata

from poet.data.containers import BadRow, parse_json
from poet.data.formats import given
from poet.data.layout import is_part

# What a model thought before it answered, under the names that chat templates know.
REASONING = ("reasoning_content", "thinking", "reasoning")
OPTIONS = {"chat_template_kwargs": dict, "tools": list}
_CALLS = ("tool_calls", "function_call", "tool_call_id")
_PARTS = ("images", "image", "videos", "audio")
_ROLES = ("system", "user", "assistant")
_OURS = {  # arguments of apply_chat_template that are not the template's
    "conversation", "messages", "tools", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors",
    "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs",
}  # fmt: skip


def messages_of(value: object, column: str) -> list[dict]:
    """Chat messages, checked one by one; ``column`` is what the value stands in.

    Raises:
        BadRow: saying what is wrong.
    """
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        one = isinstance(value, dict) and isinstance(value.get("value", value.get("content")), str)
        hint = ": set `format: sharegpt`" if one else ""
        raise BadRow(f"{column} is neither a string nor a list of messages{hint}", value)
    return [_message(message, column) for message in value]


def _message(message: dict, column: str) -> dict:
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        _refuse_role(message, column)
    if len(message) > 2:
        _refuse_further(message, column)
    if isinstance(content, list):
        raise BadRow(f"{column}: images and other content parts are not supported", content)
    if not isinstance(content, str):
        raise BadRow(f"{column}: content is not a string", str(content))
    check_unicode(content, column, "content")
    found = {"role": role, "content": content}
    return found | _thoughts(message, column) if len(message) > 2 else found


def _thoughts(message: dict, column: str) -> dict:
    found = {key: message[key] for key in REASONING if given(message.get(key))}
    if len(found) > 1:
        raise BadRow(f"{column}: a message has {' and '.join(found)}; expected one of them")
    for key, text in found.items():
        if not isinstance(text, str):
            raise BadRow(f"{column}: {key} is not a string", text)
        check_unicode(text, column, key)
    return found


def _refuse_role(message: dict, column: str) -> None:
    role = message.get("role", message.get("from"))
    if role in ("tool", "function", "observation", "function_call"):
        raise BadRow(f"{column}: tool calls are not supported", message)
    keys = ", ".join(map(str, message))
    if {"from", "value"} <= message.keys():
        raise BadRow(
            f"{column}: messages of from and value, expected role and content: "
            "set `format: sharegpt`", f"keys {keys}",
        )  # fmt: skip
    if message.get("role") is None:
        raise BadRow(f"{column}: a message without role; expected role and content", f"keys {keys}")
    raise BadRow(f"{column}: role is not system, user or assistant", role)


def _refuse_further(message: dict, column: str) -> None:
    """Refuse keys that hold a part of the message; others (a name, a weight) are none of it."""
    if any(given(message.get(key)) for key in _CALLS):
        raise BadRow(f"{column}: tool calls are not supported", message)
    if any(given(message.get(key)) for key in _PARTS):
        raise BadRow(f"{column}: images and other content parts are not supported", message)
    for key in message:
        known = key in ("role", "content", *REASONING) or isinstance(message[key], int | float)
        if not known and given(message[key]) and is_part(key):
            names = ", ".join(REASONING)
            raise BadRow(
                f"{column}: {key} of a message would be lost; thoughts are read as {names}",
                message[key],
            )


def is_blank(text: str) -> bool:
    """Whether nothing of a text is seen: white space, zero-width and control characters."""
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)


def check_unicode(text: str, *place: str) -> None:
    """Refuse lone surrogates, which no file can hold.

    Raises:
        BadRow: naming the ``place``.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRow(f"{': '.join(place)} is not valid Unicode", ascii(text)) from None


def read_options(row: dict) -> dict:
    """``chat_template_kwargs`` and ``tools`` of a row, where there are any.

    Both may be JSON text, as data sets store what differs from row to row. A keyword that is null
    is not there: parquet cannot tell these apart.

    Raises:
        BadRow: not JSON, or not of the type in OPTIONS.
    """
    found = {}
    for name, kind in OPTIONS.items():
        value = row.get(name)
        if value is None or not given(value):
            continue
        if isinstance(value, str):
            try:
                value = parse_json(value)
            except (ValueError, RecursionError):
                raise BadRow(f"{name} is not valid JSON", value) from None
        if isinstance(value, dict):
            value = {key: of for key, of in value.items() if of is not None}
        if not given(value):
            continue
        fits = isinstance(value, kind) and (kind is dict or all(type(of) is dict for of in value))
        if not fits:
            raise BadRow(f"{name} is no {'object' if kind is dict else 'list of objects'}", value)
        if kind is dict and not _OURS.isdisjoint(value):
            raise BadRow(f"{name} holds what is not the template's to know", ", ".join(value))
        try:
            check_unicode(json.dumps(value, ensure_ascii=False), name)
        except (TypeError, ValueError):
            raise BadRow(f"{name} is no JSON", value) from None
        found[name] = value
    return found
