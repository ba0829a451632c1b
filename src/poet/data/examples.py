"""Rows of a library's data set: chats as the workflow reads them, or plain strings as they are."""

from __future__ import annotations

from os.path import commonprefix

from poet.data.containers import BadRow
from poet.data.formats import SIDES, are_texts, fitting, no_prompt, refuse_other_texts
from poet.data.layout import TRL, Layout
from poet.data.pairs import read_pair


def read_example(row: dict, layout: Layout = TRL) -> dict:
    """As :func:`read_pair`; where the row is of plain strings, also with these as ``texts``.

    Without a prompt, plain strings are split where they cease to be the same.

    Raises:
        BadRow: saying what is wrong.
    """
    row = layout.kept(row)
    if layout.format != "trl" or not are_texts(row) or isinstance(row.get("prompt"), list):
        return read_pair(row, layout)
    if row.get("prompt") is None:
        refuse_other_texts(row)
        if fitting(row):
            raise BadRow(no_prompt(row))
        names = ("prompt", *SIDES)
        row = {**row, **dict(zip(names, split_texts(*(row[s] for s in SIDES)), strict=True))}
    return {**read_pair(row), "texts": tuple(row[name] for name in ("prompt", *SIDES))}


def split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The words that both texts begin with, and what follows them in each.

    No word is split. A space goes to the responses, any other white space to the prompt, as in TRL.

    >>> split_texts("Is it blue? It is.", "Is it blue? I think so.")
    ('Is it blue?', ' It is.', ' I think so.')

    Raises:
        BadRow: they share no word, or nothing else.
    """
    n = len(commonprefix([chosen, rejected]))
    ends = all(text[n : n + 1].isspace() for text in (chosen, rejected))
    while n and not ends and not chosen[n - 1].isspace():
        n -= 1
    if n and chosen[n - 1] == " ":
        n -= 1
    prompt, *answers = chosen[:n], chosen[n:], rejected[n:]
    if not prompt.strip():
        raise BadRow("no prompt, and chosen and rejected do not begin with the same word", chosen)
    for side, answer in zip(SIDES, answers, strict=True):
        if not answer.strip():
            raise BadRow(f"no prompt, and {side} is all that both begin with", chosen)
    return prompt, *answers
