"""What no chat template may do: depend on the day, or leave it to the model to open its turn."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from poet.data.templates import PROBE, PROBE_ANSWER, Chat, refuse_losses
from poet.files import UserError


def check_template(tokenizer, template_kwargs: dict) -> None:
    """Refuse a tokenizer that writes the day's date, or lets the model open its turn with words.

    The templates of transformers get a fixed date; a tokenizer may have code of its own.

    Raises:
        UserError: see above, and :func:`poet.data.templates.apply_template`.
    """
    chat, days = Chat(tokenizer, "keep_start", template_kwargs), []
    for zone in ("POET12", "POET-14"):  # 26 hours apart: never the same date
        with _time_zone(zone):
            days += chat.text([PROBE], add_generation_prompt=True)
    name = tokenizer.name_or_path or "memory"
    if days[0] != days[1]:
        raise UserError(
            f"the tokenizer in {name} writes another prompt on another day, so training and "
            "generation would see different ones.\n"
            f"  on one day:     {days[0][:200]!r}\n  on another day: {days[1][:200]!r}\n"
            "Give it a chat template that takes the date from chat_template_kwargs."
        )
    refuse_losses([PROBE], days[:1])
    _check_opened(chat, days[0])


def _check_opened(chat: Chat, asked: str) -> None:
    """Refuse a template without a generation prompt where a turn begins with words.

    The model would write them itself, and they would be judged as a part of its answers.
    """
    closed, whole = chat.text([PROBE, PROBE + PROBE_ANSWER])
    if asked != closed or not whole.startswith(asked):
        return
    begins = whole.removeprefix(asked).partition(PROBE_ANSWER[0]["content"])[0]
    words = begins
    for token in chat.tokenizer.added_tokens_decoder.values():
        words = words.replace(token.content, "") if token.special else words
    if words.strip():
        raise UserError(
            f"the chat template in {chat.tokenizer.name_or_path or 'memory'} has no generation "
            f"prompt, so answers would begin with {begins!r}; expected that where "
            "add_generation_prompt is set. Add it to the template."
        )


@contextmanager
def _time_zone(name: str) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()
