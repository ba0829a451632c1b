"""Users' pairs: every shape read, every kind of bad input named, prompts never in both splits."""

import gzip
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from chat_tokenizers import NEED_PARTS, SHIPPED, byte_level
from poet.data import preferences
from poet.data.containers import BadRow
from poet.data.pairs import collect, read_pair, read_rows
from poet.data.preferences import check
from poet.files import UserError, read_json, read_jsonl

DATA = {
    "kind": "file",
    "test_fraction": 0.25,
    "max_pairs": None,
    "max_prompts": 100,
    "bad_rows": "error",
    "seed": 0,
}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def row(prompt="Why?", chosen="Because.", rejected="No idea."):
    """One row of TRL's conversational format."""
    responses = {"chosen": [assistant(chosen)], "rejected": [assistant(rejected)]}
    return {"prompt": [user(prompt)], **responses}


GOOD = [row(), row("How?", "So.", "Like this.")]
MANY = [row(f"Question {n}?", f"Answer {n}.", "No idea.") for n in range(40)]


def write(path, rows):
    """Rows, given as objects or as raw lines, as JSON lines."""
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def read(path, bad_rows="error"):
    """A file's pairs, and how many rows were left out for which reason."""
    return collect(read_rows(path), str(path), bad_rows)


def message(path, **arguments) -> str:
    with pytest.raises(UserError) as error:
        read(path, **arguments)
    text = str(error.value)
    assert str(path) in text and text.count("\n") < 12 and max(map(len, text.splitlines())) < 300
    return text


def run(folder, rows=None, **changes):
    """The program's four files, read back: pairs, corpus, prompts, summary."""
    folder.mkdir(exist_ok=True)
    if rows is not None:
        changes["path"] = str(write(folder / "in.jsonl", rows))
    record = {"data": {**DATA, **changes}}
    outputs = {
        "pairs": folder / "pairs.parquet",
        "corpus": folder / "corpus.parquet",
        "prompts": folder / "prompts.jsonl",
        "summary": folder / "summary.json",
    }
    flags = [part for name, path in outputs.items() for part in (f"--{name}", str(path))]
    preferences.main(["--record", json.dumps(record), *flags])
    return (
        parquet.read_table(outputs["pairs"]).to_pylist(),
        parquet.read_table(outputs["corpus"]).to_pylist(),
        read_jsonl(outputs["prompts"]),
        read_json(outputs["summary"]),
    )


# Shapes

SINGLE = {"prompt": [user("Why?")], "chosen": [assistant("A")], "rejected": [assistant("B")]}
TURNS = [{"role": "system", "content": "Be brief."}, user("Hi"), assistant("Hello"), user("Why?")]
WHOLE = {"chosen": [*TURNS, assistant("A")], "rejected": [*TURNS, assistant("B")]}


@pytest.mark.parametrize(
    ("given_row", "expected"),
    [
        (SINGLE, SINGLE),
        ({"prompt": "Why?", "chosen": "A", "rejected": "B"}, SINGLE),
        ({**SINGLE, "prompt": "Why?"}, SINGLE),
        (
            {"chosen": [user("Why?"), assistant("A")], "rejected": [user("Why?"), assistant("B")]},
            SINGLE,
        ),
        (  # HuggingFaceH4/ultrafeedback_binarized
            {
                "prompt": "Why? ",
                "prompt_id": "x",
                "chosen": [user("Why?"), assistant("A")],
                "rejected": [user("Why?"), assistant("B")],
                "messages": [],
                "score_chosen": 9.0,
            },
            SINGLE,
        ),
        (WHOLE, {**SINGLE, "prompt": TURNS}),
        ({**SINGLE, "prompt": TURNS}, {**SINGLE, "prompt": TURNS}),
        ({**WHOLE, "prompt": TURNS}, {**SINGLE, "prompt": TURNS}),
        ({**SINGLE, "tools": None, "images": []}, SINGLE),
        ({**SINGLE, "chosen": [{**assistant("A"), "tool_calls": None, "name": "x"}]}, SINGLE),
    ],
    ids=[
        "conversational", "strings", "string prompt", "implicit", "ultrafeedback", "turns",
        "explicit turns", "prompt repeated", "empty tools", "further keys",
    ],
)  # fmt: skip
def test_shapes(given_row, expected):
    found = read_pair(given_row)
    assert {side: found[side] for side in expected} == expected


def test_implicit_prompt_as_trl_extracts_it():
    from trl import extract_prompt

    assert {side: read_pair(WHOLE)[side] for side in SINGLE} == extract_prompt(WHOLE)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_endings_read_the_same(tmp_path, ending):
    path = tmp_path / f"pairs{ending}"
    if ending == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(GOOD), path)
    else:
        text = "\n".join(map(json.dumps, GOOD))
        (gzip.open if ending.endswith("gz") else open)(path, "wt").write(text)
    assert [r for _, r in read_rows(path)] == GOOD


# Bad input

CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
PICTURE = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ({"prompt": [user("Why?")], "chosen": [assistant("A")]}, "no rejected"),
        ({**SINGLE, "rejected": None}, "no rejected"),
        (row(chosen=""), "chosen is empty"),
        (row(rejected=" \n"), "rejected is empty"),
        (row(rejected="\u200b \ufeff\x00"), "rejected is empty"),
        (row(prompt="\u200d\u2060"), "prompt is empty"),
        ({**SINGLE, "chosen": []}, "chosen is empty"),
        (row(chosen="Same.", rejected="Same."), "chosen equals rejected"),
        ({"chosen": [*TURNS, assistant("A")], "rejected": [*TURNS, assistant("A")]},
         "chosen equals rejected"),
        ('{"prompt": [{"role": "user", "cont', "not valid JSON"),
        ("\udcff".encode("utf-8", "surrogatepass").decode("latin1"), "not valid JSON"),
        ("[1, 2]", "not a JSON object; found 'list'"),
        ("[" * 100_000, "not valid JSON"),
        ({**SINGLE, "chosen": 7}, "chosen is neither a string nor a list of messages; found '7'"),
        ({**SINGLE, "chosen": ["A"]}, "chosen is neither a string nor a list of messages"),
        ({**SINGLE, "prompt": {"a": 1}}, "prompt is neither a string nor a list of messages"),
        ({**SINGLE, "chosen": [{"role": "assistant", "content": 3}]}, "content is not a string"),
        ({**SINGLE, "chosen": [{"role": "assistant"}]}, "content is not a string"),
        ({**SINGLE, "chosen": "A"},
         "chosen is a string, which needs a prompt that is a string: set `format: sharegpt`"),
        ({"prompt": 7, "chosen": "A", "rejected": "B"}, "a prompt that is a string; found '7'"),
        ('{"prompt": "Why?", "chosen": "A", "rejected": "B", "chosen": "C"}',
         "a key stands twice in a JSON object; found 'chosen'"),
        ({**SINGLE, "tools": '[{"name": "f", "name": "g"}]'}, "a key stands twice"),
        ({"chosen": "Hi A", "rejected": "Hi B"}, "no prompt among the columns chosen, rejected"),
        ({"prompt": float("nan"), "chosen": "A", "rejected": "B"}, "prompt is empty"),
        ({**SINGLE, "prompt": [{"role": "human", "content": "Why?"}]},
         "role is not system, user or assistant; found 'human'"),
        ({**SINGLE, "chosen": [user("A")]}, "chosen: last message is not the assistant's"),
        ({"chosen": [user("a"), assistant("A")], "rejected": [user("b"), assistant("B")]},
         "chosen has more than one message after the prompt; found 'user, assistant'"),
        ({**SINGLE, "prompt": "How?", "chosen": [user("Why?"), assistant("A")],
          "rejected": [user("Why?"), assistant("B")]},
         "prompt is no user turn that chosen and rejected share; found 'How?'"),
        ({**SINGLE, "prompt": []}, "prompt is empty"),
        ({**SINGLE, "prompt": ""}, "prompt is empty"),
        ({"chosen": [assistant("A")], "rejected": [assistant("B")]}, "no prompt among the columns"),
        ({**SINGLE, "prompt": [user("a"), assistant("b")]}, "last message is not the user's"),
        ({**SINGLE, "prompt": [user("a"), assistant(""), user("b")]},
         "prompt has an empty message"),
        ({**SINGLE, "chosen": [CALL]}, "chosen: tool calls are not supported"),
        ({**SINGLE, "prompt": [user("a"), {"role": "tool", "content": "4"}]},
         "prompt: tool calls are not supported"),
        ({**SINGLE, "tools": "[{"}, "tools is not valid JSON; found '[{'"),
        *(({**SINGLE, "tools": tools}, "tools is no list of objects")
          for tools in (["f"], True, 7, "7", {"name": "f"}, '[["f"]]')),
        ({**SINGLE, "chat_template_kwargs": [1]}, "chat_template_kwargs is no object; found '[1]'"),
        ({**SINGLE, "chat_template_kwargs": {"tokenize": True}}, "not the template's to know"),
        ({**SINGLE, "chat_template_kwargs": {"a": "\ud800"}}, "chat_template_kwargs is not valid"),
        ({**SINGLE, "dataset": "\ud800"}, "dataset is not valid Unicode"),
        ({**SINGLE, "prompt_id": "\ud800"}, "prompt_id is not valid Unicode"),
        ({**SINGLE, "images": ["a.png"]}, "images: images, videos and audio are not supported"),
        ({**SINGLE, "chosen": [{**assistant("A"), "images": ["a"]}]}, "chosen: images and other"),
        *(({**SINGLE, "chosen": [{**assistant("A"), key: ["Hm."]}]},
           f"chosen: {key} of a message would be lost; thoughts are read as reasoning_content")
          for key in ("thought", "Chain_of_Thought", "reasoning_text", "documents", "context")),
        # Of several the first, however Python's hashes fall.
        ({**SINGLE, "chosen": [assistant("A") | {f"thought_{n}": "Hm." for n in range(9)}]},
         "chosen: thought_0 of a message would be lost"),
        ({**SINGLE, "chosen": [{**assistant("A"), "reasoning": 3}]}, "reasoning is not a string"),
        ({**SINGLE, "chosen": [{**assistant("A"), "reasoning": "a", "thinking": "b"}]},
         "a message has thinking and reasoning; expected one of them"),
        ({**SINGLE, "chosen": [{"content": "A"}]},
         "chosen: a message without role; expected role and content; found 'keys content'"),
        ({**SINGLE, "prompt": [PICTURE]}, "images and other content parts are not supported"),
        (row(chosen="\ud800"), "content is not valid Unicode"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_and_can_be_dropped(tmp_path, bad, expected):
    path = write(tmp_path / "pairs.jsonl", [GOOD[0], bad, GOOD[1]])
    text = message(path)
    assert "1 of 3 rows" in text and "line 2" in text and "bad_rows: drop" in text
    assert expected in text
    pairs, dropped = read(path, bad_rows="drop")
    assert [pair["prompt"] for pair in pairs] == [good["prompt"] for good in GOOD]
    (reason,) = dropped
    assert dropped[reason] == 1 and reason.split(";")[0] in text


def test_what_else_is_said_of_a_message_is_no_part_of_it():
    said = {"name": "Bo", "weight": 0.5, "finish_reason": "stop", "thinking_tokens": 7, "id": "x",
            "context": None, "thought": ""}  # fmt: skip
    assert read_pair({**SINGLE, "chosen": [{**assistant("A"), **said}]}) == read_pair(
        {**SINGLE, "chosen": [assistant("A")]}
    )


def test_first_bad_rows_are_listed_and_all_are_counted(tmp_path):
    rows = [*GOOD, *[row(chosen="")] * 7, "{", row("Then?")]
    text = message(write(tmp_path / "pairs.jsonl", rows))
    assert "8 of 11 rows" in text and "line 3:" in text and "line 7:" in text
    assert "line 8:" not in text and "and 3 more" in text
    _, dropped = read(tmp_path / "pairs.jsonl", "drop")
    assert dropped == {"chosen is empty": 7, "not valid JSON": 1}


def test_line_numbers_count_blank_lines(tmp_path):
    path = write(tmp_path / "pairs.jsonl", [GOOD[0], "", "{"])
    assert "line 3: not valid JSON; found '{'" in message(path)


@pytest.mark.parametrize("bad_rows", ["error", "drop"])
def test_a_column_that_no_row_has(tmp_path, bad_rows):
    path = write(tmp_path / "pairs.jsonl", [{"prompt": "a", "winner": "b", "rejected": "c"}] * 3)
    text = message(path, bad_rows=bad_rows)
    assert "no column 'chosen'" in text and "prompt, rejected, winner" in text
    path = tmp_path / "pairs.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["a"], "rejected": ["c"]}), path)
    assert "no column 'chosen'" in message(path, bad_rows=bad_rows)


@pytest.mark.parametrize("bad_rows", ["error", "drop"])
def test_nothing_usable(tmp_path, bad_rows):
    path = write(tmp_path / "pairs.jsonl", ["{"] * 3)
    assert "3 of 3 rows" in message(path, bad_rows=bad_rows)
    path = write(tmp_path / "strings.jsonl", [{"chosen": "Hi A", "rejected": "Hi B"}] * 3)
    assert "no prompt among the columns chosen, rejected" in message(path, bad_rows=bad_rows)


def test_answers_that_differ_in_white_space_only(tmp_path):
    """Where all do, the file is none of pairs; where some do, they are counted."""
    spaced = [row(f"Question {n}?", "So.", f"So.{space}") for n, space in enumerate(" \n\t")]
    assert "in every row" in message(write(tmp_path / "pairs.jsonl", spaced))
    *_, summary = run(tmp_path, [*MANY, *spaced])
    assert summary["differ_in_white_space_only"] == 3


@pytest.mark.parametrize(
    "rendered",
    [
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", "<s>[INST] {} [/INST]",
        "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n", "<|user|>\n{}</s>\n",
        "\nHuman: {}\nAssistant:", "### Human: {}### Assistant: ", "USER: {} ASSISTANT:",
        "### Instruction:\n{}\n\n### Response:\n",
    ],
)  # fmt: skip
def test_prompts_that_a_template_has_rendered(tmp_path, rendered):
    """Where all are so; one that quotes a template is a prompt like others."""
    rows = [row(rendered.format(f"Question {n}?"), "So.", "No.") for n in range(12)]
    said = message(write(tmp_path / "pairs.jsonl", rows))
    assert "every prompt is text that a chat template has rendered already; found" in said
    assert "Question 0?" in said
    assert run(tmp_path, [*MANY, *rows[:2]])[-1]["pairs"] == len(MANY) + 2


@pytest.mark.parametrize("name", sorted(SHIPPED.keys() - NEED_PARTS))
def test_prompts_and_answers_that_a_shipped_template_has_rendered(tmp_path, name):
    tokenizer = byte_level(SHIPPED[name], "<bos>", "</s>")
    prompts = [f"Question {n}?" for n in range(6)]
    rendered = [
        tokenizer.apply_chat_template([user(p)], tokenize=False, add_generation_prompt=True)
        for p in prompts
    ]
    path = write(tmp_path / "pairs.jsonl", [row(text) for text in rendered])
    assert "every prompt is text that a chat template has rendered already" in message(path)
    whole = tokenizer.apply_chat_template([user("a"), assistant("Xyzzy")], tokenize=False)
    end = whole.partition("Xyzzy")[2]
    if end:
        ended = [row(p, f"So.{end}", f"No.{end}") for p in prompts]
        said = message(write(tmp_path / "pairs.jsonl", ended))
        assert "every answer is text that a chat template has rendered already" in said
        assert len(read(write(tmp_path / "pairs.jsonl", [*ended, row()]))[0]) == 7


@pytest.mark.parametrize("begins", ["<|im_start|>assistant\n", "Assistant: ", "\nAI:"])
def test_answers_that_begin_as_a_turn(tmp_path, begins):
    rows = [row(f"Question {n}?", f"{begins}So.", f"{begins}No.") for n in range(6)]
    assert "every answer is text" in message(write(tmp_path / "pairs.jsonl", rows))
    assert len(read(write(tmp_path / "pairs.jsonl", [*rows, row()]))[0]) == 7


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_file(tmp_path, content):
    (tmp_path / "pairs.jsonl").write_text(content)
    assert "is empty" in message(tmp_path / "pairs.jsonl")


def test_empty_parquet(tmp_path):
    table = pyarrow.table({name: pyarrow.array([], "string") for name in SINGLE})
    parquet.write_table(table, tmp_path / "pairs.parquet")
    assert "is empty" in message(tmp_path / "pairs.parquet")


def test_parquet_rows_are_named(tmp_path):
    parquet.write_table(
        pyarrow.Table.from_pylist([*GOOD, row(chosen="")]), tmp_path / "pairs.parquet"
    )
    assert "row 3: chosen is empty" in message(tmp_path / "pairs.parquet")


def test_one_prompt_cannot_be_split(tmp_path):
    with pytest.raises(UserError, match="one prompt only"):
        run(tmp_path, [row("Why?"), row(" Why? ", "x", "y")])


# The check before any job


def test_a_passed_check_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    path, cache = write(tmp_path / "pairs.jsonl", MANY), tmp_path / "cache" / "checks.json"
    reads = []
    real = preferences.read_rows
    monkeypatch.setattr(preferences, "read_rows", lambda path: reads.append(path) or real(path))
    data = {**DATA, "path": str(path)}
    first = check(data, cache)
    assert (first["rows"], first["pairs"], first["prompts"], first["dropped"]) == (40, 40, 40, {})
    assert check(data, cache) == first and len(reads) == 1
    check({**data, "bad_rows": "drop"}, cache)
    check({**data, "test_fraction": 0.5}, cache)
    assert len(reads) == 3
    status = path.stat()
    write(path, [*MANY, row("Then?")])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # another size, the same time
    assert check(data, cache)["rows"] == 41 and len(reads) == 4
    os.utime(path, ns=(0, 0))
    check(data, cache)
    assert len(reads) == 5
    other = write(tmp_path / "other.jsonl", [*MANY, row("What?")])
    os.utime(other, ns=(0, 0))
    assert other.stat().st_size == path.stat().st_size
    other.rename(path)  # the same size and time in the place of the file that was checked
    check(data, cache)
    assert len(reads) == 6
    cache.write_text("{")
    assert check(data, cache)["rows"] == 41 and len(reads) == 7
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        check(data, cache)


def test_a_path_that_cannot_be_looked_at():
    with pytest.raises(UserError, match="x/pairs.jsonl: .*File name too long"):
        check({**DATA, "path": f"{'x' * 300}/pairs.jsonl"})


def test_a_failed_check_is_not_remembered(tmp_path):
    path, cache = write(tmp_path / "pairs.jsonl", [*MANY, "{"]), tmp_path / "checks.json"
    for _ in range(2):
        with pytest.raises(UserError, match="line 41"):
            check({**DATA, "path": str(path)}, cache)
    assert not cache.exists()


def test_too_few_evaluation_prompts_are_said_with_what_to_set(tmp_path):
    """300 rows of 15 prompts: 13 % of the prompts are two, and no score is made of two."""
    rows = [row(f"Question {n % 15}?", f"good {n}", f"bad {n}") for n in range(300)]
    data = {**DATA, "path": str(write(tmp_path / "pairs.jsonl", rows)), "test_fraction": 0.13}
    with pytest.raises(UserError, match="expected at least 5") as error:
        check(data)
    text = str(error.value)
    assert "300 pairs of 15 prompts" in text and "test_fraction 0.13" in text
    fraction = float(re.search(r"test_fraction to (\S+)", text)[1])
    assert check({**data, "test_fraction": fraction})["evaluation_prompts"] >= 5
    with pytest.raises(UserError, match="4 evaluation prompts|expected at least 5"):
        check({**data, "test_fraction": round(fraction - 0.01, 2)})
    with pytest.raises(UserError, match="Set max_prompts to 5 or more"):
        check({**data, "test_fraction": fraction, "max_prompts": 4})


def test_prompts_that_read_the_same_count_once(tmp_path):
    """alpaca-eval joins on the instruction, so that of equal ones a single one is evaluated."""
    system = [{"role": "system", "content": text} for text in ("Be kind.", "Be brief.")]
    flat = [user(f"System: {s['content']}\n\nUser: {w}") for s in system for w in WORDS[:3]]
    prompts = [[s, user(w)] for s in system for w in WORDS[:3]] + [[one] for one in flat]
    rows = [{**row(), "prompt": prompt} for prompt in prompts]
    data = {**DATA, "path": str(write(tmp_path / "pairs.jsonl", rows)), "test_fraction": 0.9}
    assert check(data)["evaluation_prompts"] <= 6 < check(data)["prompts"]
    write(tmp_path / "pairs.jsonl", [r for r in rows if WORDS[0] in str(r)])
    with pytest.raises(UserError, match="[12] evaluation prompts would be left"):
        check(data)


def test_check_is_light():
    program = (
        "import sys, poet.data.preferences\n"
        "print({'torch', 'pandas', 'datasets', 'transformers', 'pyarrow'} & set(sys.modules))"
    )
    found = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert found.strip() == "set()"


# The split

WORDS = ["sea", "wood", "town", "hill", "lake", "road", "rain", "snow"]
rows_of_many_prompts = st.lists(
    st.builds(
        row,
        prompt=st.sampled_from(WORDS),
        chosen=st.sampled_from(["yes", "certainly", "of course"]),
        rejected=st.sampled_from(["no", "never", "not at all"]),
    ),
    min_size=2,
    max_size=30,
).filter(lambda rows: len({r["prompt"][0]["content"] for r in rows}) > 1)


def load(rows, **changes):
    """The pairs that the program would split, without files."""
    numbered = [(f"line {n}", r) for n, r in enumerate(rows, start=1)]
    data = {**DATA, **changes}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preferences, "_sources", lambda data, folder: {"train": ("test", numbered)})
        pairs, _ = preferences.load(data)
    return preferences.subsample(pairs, data["max_pairs"]), preferences.evaluation_prompts(
        pairs, data["max_prompts"], data["seed"], "test"
    )


def split_of(pairs):
    return {(pair["prompt"][-1]["content"], pair["split"]) for pair in pairs}


@settings(max_examples=60, deadline=None)
@given(rows_of_many_prompts, st.integers(0, 3), st.floats(0.05, 0.9), st.randoms())
def test_no_prompt_in_both_splits_whatever_the_order(rows, seed, fraction, draw):
    pairs, prompts = load(rows, seed=seed, test_fraction=fraction)
    assert len(pairs) == len(rows)
    assert len(split_of(pairs)) == len({word for word, _ in split_of(pairs)})
    assert {split for _, split in split_of(pairs)} == {"train", "test"}
    assert {p["instruction"] for p in prompts} == {w for w, s in split_of(pairs) if s == "test"}
    shuffled = draw.sample(rows, len(rows))
    assert load(shuffled, seed=seed, test_fraction=fraction) == (pairs, prompts)


@settings(max_examples=60, deadline=None)
@given(rows_of_many_prompts, st.integers(2, 30), st.randoms())
def test_max_pairs_changes_no_split_and_no_evaluation_prompt(rows, max_pairs, draw):
    everything, prompts = load(rows)
    some, same_prompts = load(draw.sample(rows, len(rows)), max_pairs=max_pairs)
    assert len(some) <= max_pairs and split_of(some) <= split_of(everything)
    assert {split for _, split in split_of(some)} == {"train", "test"}
    if max_pairs >= len(rows):
        assert some == everything
    assert same_prompts == prompts


def test_split_is_near_the_fraction_and_stable_when_rows_are_added():
    ids = {f"prompt {n}" for n in range(4000)}
    test = preferences.test_prompts(ids, 0.1, seed=0)
    assert abs(len(test) - 400) < 4 * (4000 * 0.1 * 0.9) ** 0.5
    fewer = {f"prompt {n}" for n in range(1000)}
    assert preferences.test_prompts(fewer, 0.1, seed=0) == test & fewer
    other = preferences.test_prompts(ids, 0.1, seed=1)
    assert len(test & other) < 100


def test_equal_prompts_with_different_ids_stay_together():
    rows = [{**row(WORDS[n % 4], f"a {n}"), "prompt_id": n} for n in range(40)]
    pairs, _ = load(rows)
    assert len(split_of(pairs)) == 4 and len({pair["prompt_id"] for pair in pairs}) == 4


def named_by(rows):
    """Where the prompts' names come from, and the number of names."""
    pairs, _ = collect(((f"line {n}", r) for n, r in enumerate(rows)), "test", "error")
    said = preferences.name_prompts(pairs, split=False)
    return said, len({pair["prompt_id"] for pair in pairs})


NAN = float("nan")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (range(40), "the rows' own"),
        ([f"id {n % 20}" for n in range(40)], "the rows' own"),
        ([n % 4 for n in range(40)], "hash of the prompt: one id names several prompts"),
        (["batch"] * 40, "hash of the prompt: one id names several prompts"),
        ([NAN] * 40, "hash of the prompt: no row has an id"),
        ([""] * 40, "hash of the prompt: no row has an id"),
        ([None, "nan", " ", NAN] * 10, "hash of the prompt: no row has an id"),
        ([NAN if n % 2 else n for n in range(40)], "hash of the prompt: some rows have no id"),
    ],
)
def test_own_ids_are_used_where_they_and_the_prompts_are_one_to_one(ids, said):
    prompts = 20 if "id 0" in list(ids) else 40
    rows = [{**row(f"Prompt {n % prompts}"), "prompt_id": of} for n, of in enumerate(ids)]
    assert named_by(rows) == (said, prompts)


def test_ids_that_differ_within_a_prompt_are_not_used():
    rows = [{**row(f"Prompt {n % 20}", f"a {n}"), "prompt_id": n} for n in range(40)]
    assert named_by(rows) == ("hash of the prompt: one prompt has several ids", 20)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, "a", "b", "", 3])), min_size=1))
def test_no_two_prompts_share_a_name_whatever_the_ids(rows):
    pairs = [read_pair({**row(f"Prompt {n}"), "prompt_id": of}) for n, of in rows]
    preferences.name_prompts(pairs, split=False)
    names = {(pair["key"], pair["prompt_id"]) for pair in pairs}
    assert len(names) == len(dict(names)) == len({name for _, name in names})


# What is written


def many_rows(n=200, n_prompts=50):
    draw = random.Random(0)
    return [
        row(f"Question {n % n_prompts}", f"good {draw.random()}", f"bad {draw.random()} at length")
        for n in range(n)
    ]


def test_files(tmp_path):
    rows = many_rows()
    pairs, corpus, prompts, summary = run(tmp_path, rows)
    options = {"chat_template_kwargs", "tools"}
    names = {"prompt_id", "split", "key", "instruction"}
    assert set(pairs[0]) == {"prompt", "chosen", "rejected", *names, *options}
    for pair in pairs:
        assert pair["key"] == pair["prompt_id"]  # no row has an id of its own
        assert pair["instruction"] == pair["prompt"][0]["content"]
    assert Counter(json.dumps(r["chosen"]) for r in rows) == Counter(
        json.dumps(p["chosen"]) for p in pairs
    )
    train = [pair for pair in pairs if pair["split"] == "train"]
    test = [pair for pair in pairs if pair["split"] == "test"]
    assert summary["train"]["pairs"] == len(train) and summary["test"]["pairs"] == len(test)
    assert summary["train"]["prompts"] + summary["test"]["prompts"] == 50
    assert summary["rows"] == summary["pairs"] == 200 and summary["dropped"] == {}
    assert set(corpus[0]) == {"prompt", "completion", *options}
    assert {e["completion"][0]["content"] for e in corpus} == {
        pair[side][0]["content"] for pair in train for side in ("chosen", "rejected")
    }
    assert [p["index"] for p in prompts] == list(range(len(prompts)))
    assert {p["instruction"] for p in prompts} == {p["prompt"][0]["content"] for p in test}
    assert all(p["dataset"] == "in.jsonl" for p in prompts)
    assert summary["lengths"]["chosen_words"] == {"mean": 2.0, "median": 2}
    assert summary["lengths"]["rejected_words"] == {"mean": 4.0, "median": 4}
    assert summary["lengths"]["median_shorter_by_longer"] == 0.5
    assert summary["lengths"]["share_chosen_longer"] == 0.0


def test_same_bytes_for_any_order_of_rows(tmp_path):
    rows = many_rows()
    run(tmp_path / "a", rows, max_pairs=60)
    run(tmp_path / "b", random.Random(1).sample(rows, len(rows)), max_pairs=60)
    for name in ("pairs.parquet", "corpus.parquet", "prompts.jsonl", "summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_max_pairs_and_max_prompts(tmp_path):
    pairs, corpus, prompts, summary = run(tmp_path, many_rows(), max_pairs=60, max_prompts=5)
    assert len(pairs) == 60 and summary["left_out_by_max_pairs"] == 140 and len(prompts) == 5
    assert len(corpus) == 2 * summary["train"]["pairs"] == summary["corpus_examples"]
    assert summary["evaluation_prompts"] == 5 < summary["test_prompts_before_max_pairs"]


def test_dropped_rows_are_reported(tmp_path):
    rows = [*many_rows(), "{", row(chosen=""), row(rejected="")]
    with pytest.raises(UserError, match="line 201"):
        run(tmp_path, rows)
    *_, summary = run(tmp_path, rows, bad_rows="drop")
    assert summary["rows"] == 203 and summary["pairs"] == 200
    assert summary["dropped"] == {"chosen is empty": 1, "not valid JSON": 1, "rejected is empty": 1}


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
THOUGHT = {"role": "assistant", "content": "Because.", "reasoning_content": "Hm."}


def test_what_is_for_the_template_reaches_all_three_files(tmp_path):
    """Reasoning, tools and template variables, given as objects or as JSON text."""
    options = [
        {"chat_template_kwargs": {"enable_thinking": False}, "tools": [TOOL]},
        {"chat_template_kwargs": '{"enable_thinking": false}', "tools": json.dumps([TOOL])},
        {"chat_template_kwargs": "{}", "tools": "[]"},
        {"chat_template_kwargs": {"enable_thinking": None}, "tools": "null"},
    ]
    rows = [{**r, "chosen": [THOUGHT], **options[n % 4]} for n, r in enumerate(MANY)]
    pairs, corpus, prompts, summary = run(tmp_path, rows, test_fraction=0.5)
    given_to = {r["prompt"][0]["content"]: n % 4 < 2 for n, r in enumerate(rows)}
    written = {"chat_template_kwargs": {"enable_thinking": False}, "tools": [TOOL]}
    for found in (*pairs, *corpus):
        for name, value in written.items():
            text = found[name] and json.loads(found[name])
            assert text == (value if given_to[found["prompt"][0]["content"]] else None)
    for prompt in prompts:
        given_here = {name: prompt[name] for name in written if name in prompt}
        assert given_here == (written if given_to[prompt["instruction"]] else {})
    assert {pair["chosen"][0]["reasoning_content"] for pair in pairs} == {"Hm."}
    assert {pair["rejected"][0]["reasoning_content"] for pair in pairs} == {None}
    assert any(e["completion"][0]["reasoning_content"] == "Hm." for e in corpus)
    assert summary["given_to_the_template"] == {"chat_template_kwargs": 20, "tools": 20}


def test_the_same_prompt_with_other_tools_is_one_prompt_and_another_pair():
    rows = [{**row("Why?"), "tools": tools} for tools in ([TOOL], None)]
    with_tools, without = map(read_pair, rows)
    assert with_tools["key"] == without["key"] and "tools" not in without
    examples = preferences.corpus([{**p, "split": "train"} for p in (with_tools, without)])
    assert len(examples) == 4


def test_answers_that_differ_in_their_reasoning_are_a_pair():
    other = {**THOUGHT, "reasoning_content": "Well.", "thinking": None}
    pair = read_pair({**row(), "chosen": [THOUGHT], "rejected": [other]})
    assert pair["chosen"] == [THOUGHT] and pair["rejected"][0]["reasoning_content"] == "Well."
    with pytest.raises(BadRow, match="chosen equals rejected"):
        read_pair({**row(), "chosen": [THOUGHT], "rejected": [THOUGHT]})


def test_corpus_has_each_response_once(tmp_path):
    rows = [row(f"Question {n % 10}", "good", f"bad {n}") for n in range(40)]
    _, corpus, _, summary = run(tmp_path, rows)
    n = summary["train"]["prompts"]
    assert len(corpus) == n + 4 * n


def test_reference_is_the_response_that_wins_most():
    rows = [
        row("sea", "best", "worse"), row("sea", "best", "worst"), row("sea", "worse", "worst"),
        *[row("sea", "loser", "winner"), row("sea", "winner", "loser")] * 5,
        row("wood"),
    ]  # fmt: skip
    for seed in range(10):
        _, prompts = load(rows, seed=seed)
        found = {prompt["instruction"]: prompt["reference"] for prompt in prompts}
        if "sea" in found:
            break
    assert found["sea"] == "best"


def test_instructions_are_unique_and_prompts_intact():
    systems = [{"role": "system", "content": text} for text in ("", "Be brief.", "Be kind.")]
    prompts = [[*head, user(w)] for w in WORDS for head in ([], *([s] for s in systems))]
    prompts += [[user("Hi"), assistant("Hello"), user(word)] for word in WORDS]
    prompts += [[user(f"User: Hi\n\nAssistant: Hello\n\nUser: {word}")] for word in WORDS]
    rows = [{**row(), "prompt": prompt} for prompt in prompts]
    pairs, found = load(rows, test_fraction=0.8)
    instructions = [prompt["instruction"] for prompt in found]
    assert len(set(instructions)) == len(instructions)
    assert all(prompt["prompt"] in prompts for prompt in found)
    by_prompt = {json.dumps(p["prompt"]): p["instruction"] for p in found}
    turns = [text for p, text in by_prompt.items() if json.loads(p)[0]["content"] == "Hi"]
    assert turns and all(t.startswith("User: Hi\n\nAssistant: Hello\n\nUser: ") for t in turns)
    # An empty system message says nothing: it makes no prompt of its own.
    assert len({pair["prompt_id"] for pair in pairs}) == len(prompts) - len(WORDS)


# The hub


def hub_splits(monkeypatch, splits):
    rows = {
        split: [(f"row {n}", row) for n, row in enumerate(of, 1)] for split, of in splits.items()
    }
    monkeypatch.setattr(preferences, "load_rows", lambda folder, split: rows[split])
    return {"kind": "hub", "dataset": "owner/name", "revision": "f" * 40}


def test_hub_splits_are_kept_and_shared_prompts_leave_the_training_split(tmp_path, monkeypatch):
    # Ids counted per split must not be taken for the same prompt.
    train = [{**row(f"train {n}"), "prompt_id": n} for n in range(20)]
    test = [{**row(f"test {n}"), "prompt_id": n} for n in range(5)]
    hub = hub_splits(monkeypatch, {"train_prefs": [*train, row(" test  3")], "test_prefs": test})
    splits = {"train": "train_prefs", "test": "test_prefs"}
    pairs, _, prompts, summary = run(tmp_path, **hub, splits=splits)
    assert summary["dropped"] == {"prompt also in the test split": 1} and summary["rows"] == 26
    assert summary["source"] == "owner/name" and summary["prompt_id"].startswith(
        "hash of the prompt: splits"
    )
    assert {(p["prompt"][0]["content"].split()[0], p["split"]) for p in pairs} == {
        ("train", "train"),
        ("test", "test"),
    }
    assert len(pairs) == 25 and len(prompts) == 5


def test_hub_data_with_one_split_are_split_by_prompt(tmp_path, monkeypatch):
    hub = hub_splits(monkeypatch, {"train": many_rows()})
    *_, summary = run(tmp_path, **hub, splits={"train": "train"})
    assert summary["train"]["prompts"] + summary["test"]["prompts"] == 50


def test_too_few_evaluation_prompts_of_the_hub(tmp_path, monkeypatch):
    test = [row(f"test {n}") for n in range(4)]
    hub = hub_splits(monkeypatch, {"train": many_rows(), "test": test})
    with pytest.raises(UserError, match="4 evaluation prompts would be left.*\n.*\nGive more"):
        run(tmp_path, **hub, splits={"train": "train", "test": "test"})


def test_bad_hub_rows_are_named(tmp_path, monkeypatch):
    hub = hub_splits(monkeypatch, {"train": [*many_rows(), row(chosen="")]})
    with pytest.raises(UserError, match="owner/name, split train: 1 of 201 .*\n.*row 201: chosen"):
        run(tmp_path, **hub, splits={"train": "train"})


# Real data


def test_real_pairs(shared, tmp_path):
    path = shared / "data/alpacaeval2/pairs.jsonl.gz"
    start = time.perf_counter()
    found = check({**DATA, "path": str(path)}, tmp_path / "checks.json")
    assert (found["rows"], found["pairs"], found["prompts"]) == (16_830, 16_830, 805)
    assert found["dropped"] == {}
    assert time.perf_counter() - start < 15
    start = time.perf_counter()
    check({**DATA, "path": str(path)}, tmp_path / "checks.json")
    assert time.perf_counter() - start < 0.2

    pairs, corpus, prompts, summary = run(tmp_path, path=str(path), test_fraction=0.1)
    assert summary["rows"] == len(pairs) == 16_830 and summary["prompt_id"] == "the rows' own"
    test = {pair["prompt_id"] for pair in pairs if pair["split"] == "test"}
    train = {pair["prompt_id"] for pair in pairs if pair["split"] == "train"}
    assert not test & train and len(test | train) == 805
    assert abs(len(test) - 80.5) < 4 * (805 * 0.1 * 0.9) ** 0.5
    assert len(prompts) == len({prompt["instruction"] for prompt in prompts}) == len(test)
    sides = ("prompt", "chosen", "rejected")
    given_rows = (given_row for _, given_row in preferences.read_rows(path))
    source = Counter(json.dumps([given_row[side] for side in sides]) for given_row in given_rows)
    assert source == Counter(json.dumps([pair[side] for side in sides]) for pair in pairs)
    responses = {
        json.dumps([pair["prompt"], pair[side]])
        for pair in pairs
        if pair["split"] == "train"
        for side in ("chosen", "rejected")
    }
    assert len(corpus) == len(responses)
