"""Chat data sets: every format, and what is wrong with a row."""

import json

import pyarrow.parquet as pq
import pytest

from poet.data import chats
from poet.data.containers import BadRow
from poet.files import UserError, read_json


def said(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


SYSTEM = {"role": "system", "content": ""}


@pytest.mark.parametrize(
    ("row", "prompt", "completion"),
    [
        ({"messages": said("a", "b")}, said("a"), said("a", "b")[1:]),
        ({"messages": said("a", "b", "c", "d", "e")}, said("a"), said("a", "b", "c", "d")[1:]),
        ({"messages": [SYSTEM, *said("a", "b")]}, [SYSTEM, *said("a")], said("a", "b")[1:]),
        ({"prompt": "a", "completion": "b"}, said("a"), said("a", "b")[1:]),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
         said("a"), said("a", "b")[1:]),
        ({"messages": said("a", "b"), "system": "s"},
         [{"role": "system", "content": "s"}, *said("a")], said("a", "b")[1:]),
        (
            {"prompt": said("a", "b", "c"), "completion": said("a", "b")[1:]},
            said("a"), [*said("a", "b", "c")[1:], *said("a", "b")[1:]],
        ),
    ],
)  # fmt: skip
def test_formats(row, prompt, completion):
    assert chats.read_chat(row) == {"prompt": prompt, "completion": completion}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"messages": [SYSTEM | {"content": "s"}, *said("a", "b")], "system": "t"},
            "the column system and the prompt's system message differ",
        ),
        ({"messages": said("a", "b"), "tools": "[{"}, "tools is not valid JSON"),
        ({"messages": said("a", "b\ud800")}, "content is not valid Unicode"),
        ({"text": "a"}, "no messages and no prompt"),
        ({"prompt": "a"}, "no messages and no completion"),
        ({"messages": said("a")}, "no message is the assistant's"),
        ({"messages": said("a", "b")[1:]}, "no user's message stands before the first answer"),
        ({"messages": said("a", " ")}, "a message is empty"),
        ({"messages": "a"}, "messages is neither a string nor a list of messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "tool calls are not supported"),
        ({"prompt": "a", "completion": "b", "images": ["x"]}, "images, videos and audio are not"),
        ({"prompt": json.dumps(said("a")), "completion": "b"}, "prompt is text of messages"),
        ({"prompt": "\n\nHuman: a\n\nAssistant:", "completion": "b"}, "prompt is text of messages"),
    ],
)
def test_bad_rows_say_why(row, reason):
    with pytest.raises(BadRow, match=reason):
        chats.read_chat(row)


@pytest.mark.parametrize(
    ("row", "extra"),
    [
        ({"prompt": "a", "completion": "b"}, {"history": [["c", "d"]], "Input": "e"}),
        ({"messages": said("a", "b")}, {"prompt": "c"}),
        ({"messages": said("a", "b")}, {"conversations": [{"from": "human", "value": "c"}]}),
    ],
)
def test_a_column_that_would_be_lost_is_refused_unless_it_is_to_be_ignored(tmp_path, row, extra):
    names = ", ".join(extra)
    rows = [row, {**row, **extra}]
    with pytest.raises(
        UserError, match=rf"1 of 2 rows.*\n  line 2: {names} would be lost .*\[{names}\]"
    ):
        run(tmp_path, rows, bad_rows="drop")
    corpus, _ = run(tmp_path, rows, ignored_columns=[*extra])
    assert corpus[0] == corpus[1]
    same = {**row, **dict.fromkeys(extra, "a"), "source": "web", "score": 1}
    assert chats.read_chat(same) == chats.read_chat(row)


def run(tmp_path, rows, **settings):
    source = tmp_path / "chats.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = {"chats": {"dataset": str(source), "split": "train", "bad_rows": "error", **settings}}
    output, summary = tmp_path / "corpus.parquet", tmp_path / "summary.json"
    flags = ["--record", json.dumps(record), "--output", str(output), "--summary", str(summary)]
    chats.main(flags)
    return pq.read_table(output).to_pylist(), read_json(summary)


def test_reasoning_and_what_is_for_the_template_are_kept(tmp_path):
    thought = {"role": "assistant", "content": "b", "reasoning_content": "hm"}
    rows = [
        {"messages": [*said("a"), thought], "chat_template_kwargs": {"quick": True}},
        {"messages": said("c", "d"), "tools": '[{"name": "f"}]'},
    ]
    corpus, _ = run(tmp_path, rows)
    assert corpus[0]["completion"] == [thought]
    assert corpus[1]["completion"] == [{**said("c", "d")[1], "reasoning_content": None}]
    assert [row["chat_template_kwargs"] for row in corpus] == ['{"quick": true}', None]
    assert [row["tools"] for row in corpus] == [None, '[{"name": "f"}]']


def test_a_file_becomes_a_corpus(tmp_path):
    rows = [{"messages": said("a", "b")}, {"messages": said("a")}, {"messages": said("c", "d")}]
    corpus, summary = run(tmp_path, rows, bad_rows="drop")
    options = {"chat_template_kwargs": None, "tools": None}
    assert corpus == [{**chats.read_chat(rows[n]), **options} for n in (0, 2)]
    assert (summary["chats"], summary["dropped"]) == (2, {"no message is the assistant's": 1})
    with pytest.raises(UserError, match="1 of 3 rows cannot be used.\n  line 2: no message is the"):
        run(tmp_path, rows)
    with pytest.raises(UserError, match="is empty. Expected one conversation per row"):
        run(tmp_path, [])
