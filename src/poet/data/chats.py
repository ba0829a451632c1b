"""A chat data set for supervised fine-tuning: conversations as prompt and completion.

Reads TRL's conversational formats, ``messages`` or ``prompt`` and ``completion`` (messages, or
strings for one turn each), and ShareGPT's ``conversations``, from a local file or a data set's
folder. A column ``system`` is the first message where there is none. The prompt ends before the
first answer; all that follows is the completion, whose answers are what is learned.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from poet.data.containers import BadRow
from poet.data.formats import from_value, given, system_of
from poet.data.messages import OPTIONS, messages_of, read_options
from poet.data.pairs import read_rows, refuse_bad, with_system
from poet.data.preferences import write_parquet
from poet.files import UserError, cli, load_record, write_json


def read_chat(row: dict) -> dict:
    """A row of any of the module's formats -> prompt and completion (message lists).

    Messages after the last answer are left out. ``chat_template_kwargs`` and ``tools`` are there if
    the row has them.

    Raises:
        BadRow: saying what is wrong.
    """
    whole = [n for n in ("messages", "conversations", "conversation") if given(row.get(n))]
    if whole:
        messages = messages_of(from_value(row[whole[0]]), whole[0])
    else:
        parts = []
        for column, role in (("prompt", "user"), ("completion", "assistant")):
            value = row.get(column)
            if value is None:
                raise BadRow(f"no messages and no {column}", f"columns {', '.join(map(str, row))}")
            if isinstance(value, str):
                value = [{"role": role, "content": value}]
            parts += messages_of(value, column)
        messages = parts
    if system := system_of(row):
        messages = with_system(system, messages)
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise BadRow("no message is the assistant's")
    if not any(message["role"] == "user" for message in messages[: answers[0]]):
        raise BadRow("no user's message stands before the first answer")
    if any(not m["content"].strip() for m in messages if m["role"] != "system"):
        raise BadRow("a message is empty")
    first, last = answers[0], answers[-1]
    prompt, completion = messages[:first], messages[first : last + 1]
    return {"prompt": prompt, "completion": completion, **read_options(row)}


def collect(rows: Iterable, source: str, bad_rows: str) -> tuple[list[dict], dict[str, int]]:
    """Conversations in the rows' order, and how many rows were dropped for which reason.

    Raises:
        UserError: no rows; bad rows, unless ``bad_rows`` is "drop" and something is left.
    """
    chats, bad = [], []
    for place, row in rows:
        try:
            if isinstance(row, BadRow):
                raise row
            chats.append(read_chat(row))
        except BadRow as problem:
            bad.append((place, problem))
    if not chats and not bad:
        raise UserError(f"{source} is empty. Expected one conversation per row.")
    return chats, dict(sorted(refuse_bad(bad, len(chats), source, bad_rows).items()))


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", required=True, help="resolved record: JSON or its file")
    parser.add_argument("--folder", help="folder of the hub's data set; else the record's file")
    parser.add_argument("--output", required=True, help="corpus as parquet")
    parser.add_argument("--summary", required=True, help="JSON: what was read and dropped")
    args = parser.parse_args(argv)
    settings = load_record(args.record)["chats"]
    source = settings["dataset"]
    if args.folder:
        from poet.data.repositories import load_rows

        rows = enumerate(load_rows(args.folder, settings["split"]), start=1)
        rows = ((f"row {number}", row) for number, row in rows)
    else:
        rows = read_rows(source)
    chats, dropped = collect(rows, source, settings["bad_rows"])
    columns = dict.fromkeys(("prompt", "completion"), "messages")
    write_parquet(chats, args.output, {**columns, **dict.fromkeys(OPTIONS, "json")})
    write_json({"source": source, "chats": len(chats), "dropped": dropped}, args.summary)


if __name__ == "__main__":
    cli(main)
