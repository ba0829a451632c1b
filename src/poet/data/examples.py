"""Rows of chats or of plain strings -> token ids, limited and truncated: what the library gives.

The workflow's pairs are chats (:mod:`poet.data.pairs`); here strings are taken as they are, as base
models have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from os.path import commonprefix
from pathlib import Path

from poet.data.containers import BadRow
from poet.data.encoding import encode_both, encode_texts
from poet.data.ends import Stray, defect, early_eos, ended
from poet.data.formats import are_texts, fitting, no_prompt, refuse_other_texts
from poet.data.layout import TRL, Layout
from poet.data.pairs import collect, read_pair, read_rows, refuse_bad
from poet.data.templates import Chat
from poet.data.tokenization import IDS, limit_lengths, pair_hash
from poet.files import publish
from poet.methods import SIDES
from poet.methods.truncation import truncate_pair

BATCH = 1000  # rows tokenized at a time


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


def token_ids(chat: Chat, examples: Sequence[dict]) -> list[tuple | BadRow]:
    """Token ids of prompt, chosen and rejected of every example, or what is wrong with them.

    Raises:
        UserError: the chat template refuses the messages.
    """
    found: dict[int, tuple | BadRow] = {}
    plain = [i for i, example in enumerate(examples) if "texts" in example]
    if plain:
        prompts, *sides = zip(*(examples[i]["texts"] for i in plain), strict=True)
        sides = [[ended(chat.tokenizer, text) for text in side] for side in sides]
        (first, chosen), (_, rejected) = (encode_texts(chat, [*prompts], s) for s in sides)
        stray = partial(early_eos, chat.tokenizer)
        for i, ids in zip(plain, zip(first, chosen, rejected, strict=True), strict=True):
            pair = dict(zip(SIDES, examples[i]["texts"][1:], strict=True))
            found[i] = defect(stray, pair, ids) or ids
    chats = [i for i, example in enumerate(examples) if "texts" not in example]
    if chats:
        stray = Stray(chat).in_messages
        rows = [examples[i] for i in chats]
        for i, ids in zip(chats, encode_both(chat, rows), strict=True):
            found[i] = defect(stray, examples[i], ids) or ids
    return [found[i] for i in range(len(examples))]


def truncated_columns(
    tokens: Sequence[tuple], truncation: dict, limits: tuple[int, int] | None
) -> dict[str, list]:
    """Token ids of pairs, limited (max_length, max_prompt_length) and truncated, as columns.

    ``truncation`` is a choice as in the configuration. The columns are prompt_ids,
    chosen_ids, rejected_ids and pair_hash.
    """
    out = {name: [] for name in (*IDS, "pair_hash")}
    for ids in tokens:
        if limits:
            ids = limit_lengths(*ids, *limits, "keep_start")
        key = pair_hash(*ids)
        row = (ids[0], *truncate_pair(*ids[1:], key=key, **truncation), key)
        for name, value in zip(out, row, strict=True):
            out[name].append(value)
    return out


def write_equal_length(
    source: str | Path, target: str | Path, tokenizer, truncation: dict, layout: Layout,
    bad_rows: str,
) -> dict[str, int]:  # fmt: skip
    """:func:`equal_length` from a file to parquet -> how many rows were dropped for which reason.

    Columns: prompt_ids, chosen_ids, rejected_ids, pair_hash; prompt_id and dataset where rows have
    them.

    Raises:
        UserError: as :func:`poet.data.pairs.collect`, also for what is found wrong with the
            tokens; the chat template refuses the messages.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    examples, dropped = collect(read_rows(source), str(source), bad_rows, layout, read_example)
    names = [n for n in ("prompt_id", "dataset") if any(n in example for example in examples)]
    schema = [(name, pa.list_(pa.int32())) for name in IDS]
    schema = pa.schema(schema + [(name, pa.string()) for name in ("pair_hash", *names)])
    chat = Chat(tokenizer, "keep_start", {})
    with publish(target) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        bad = []
        for start in range(0, len(examples), BATCH):
            batch = examples[start : start + BATCH]
            tokens = token_ids(chat, batch)
            bad += [
                (f"pair {start + number}", found)
                for number, found in enumerate(tokens, start=1)
                if isinstance(found, BadRow)
            ]
            good = [i for i, found in enumerate(tokens) if not isinstance(found, BadRow)]
            columns = truncated_columns([tokens[i] for i in good], truncation, None)
            columns |= {name: [batch[i].get(name) for i in good] for name in names}
            writer.write_table(pa.table(columns, schema=schema))
        dropped += refuse_bad(bad, len(examples) - len(bad), str(source), bad_rows)
    return dict(dropped)
