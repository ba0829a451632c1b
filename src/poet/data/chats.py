"""A chat data set for supervised fine-tuning: conversations as prompt and completion.

Reads TRL's conversational formats, ``messages`` or ``prompt`` and ``completion`` (messages, or
strings for one turn each), and ShareGPT's ``conversations``, from a local file or a data set's
folder. A column ``system`` is the first message where there is none. The prompt ends before the
first answer; all that follows is the completion, whose answers are what is learned.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from functools import partial

from poet.data.containers import BadRow
from poet.data.formats import TRANSCRIPT, from_value, given, is_messages_text, system_of
from poet.data.layout import WrongFormat, is_content, lost_columns
from poet.data.messages import is_blank, messages_of, read_options
from poet.data.pairs import read_each, read_rows, refuse_bad, with_system
from poet.data.preferences import write_parquet
from poet.files import cli, load_record, write_json
from poet.hub.folders import load_rows


def read_chat(row: dict, ignored: Collection[str] = ()) -> dict:
    """A row of any of the module's formats -> prompt and completion (message lists).

    Columns to be ``ignored`` are taken as not there. Messages after the last answer are left out.
    ``chat_template_kwargs`` and ``tools`` are there if the row has them.

    Raises:
        BadRow: saying what is wrong.
        WrongFormat: a column with a part of a conversation is not read.
    """
    row = {name: value for name, value in row.items() if name not in ignored}
    whole = [n for n in ("messages", "conversations", "conversation") if given(row.get(n))]
    if whole:
        messages = messages_of(from_value(row[whole[0]]), whole[0])
    else:
        messages = []
        for column, role in (("prompt", "user"), ("completion", "assistant")):
            value = row.get(column)
            if value is None:
                raise BadRow(f"no messages and no {column}", f"columns {', '.join(map(str, row))}")
            if isinstance(value, str):
                if is_messages_text(value) or TRANSCRIPT.match(value):
                    raise BadRow(f"{column} is text of messages, expected a list of them", value)
                value = [{"role": role, "content": value}]
            messages += messages_of(value, column)
    if system := system_of(row):
        messages = with_system(system, messages)
    read = whole[:1] or ("prompt", "completion")
    others = [n for n in row if n not in read and (is_content(n) or n in ("prompt", "completion"))]
    if lost := ", ".join(lost_columns(row, others, messages)):
        raise WrongFormat(
            f"{lost} would be lost beside {' and '.join(read)}: put what matters into the "
            f"messages, or set `ignored_columns: [{lost}]`"
        )
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise BadRow("no message is the assistant's")
    if not any(message["role"] == "user" for message in messages[: answers[0]]):
        raise BadRow("no user's message stands before the first answer")
    if any(is_blank(m["content"]) for m in messages if m["role"] != "system"):
        raise BadRow("a message is empty")
    first, last = answers[0], answers[-1]
    prompt, completion = messages[:first], messages[first : last + 1]
    return {"prompt": prompt, "completion": completion, **read_options(row)}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", required=True, help="resolved record: JSON or its file")
    parser.add_argument("--folder", help="folder of the hub's data set; else the record's file")
    parser.add_argument("--output", required=True, help="corpus as parquet")
    parser.add_argument("--summary", required=True, help="JSON: what was read and dropped")
    args = parser.parse_args(argv)
    settings = load_record(args.record)["chats"]
    source = settings["dataset"]
    rows = load_rows(args.folder, settings["split"]) if args.folder else read_rows(source)
    ignored = settings.get("ignored_columns") or ()
    chats, bad = read_each(rows, source, "conversation", partial(read_chat, ignored=ignored))
    dropped = dict(sorted(refuse_bad(bad, len(chats), source, settings["bad_rows"]).items()))
    write_parquet(chats, args.output, ("prompt", "completion"))
    write_json({"source": source, "chats": len(chats), "dropped": dropped}, args.summary)


if __name__ == "__main__":
    cli(main)
