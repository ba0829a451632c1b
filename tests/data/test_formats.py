"""Every layout in every container is the same pairs; what a layout would lose is refused."""

import gzip
import json
import re

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from poet.data.containers import BadRow
from poet.data.formats import FORMATS
from poet.data.layout import Layout
from poet.data.pairs import collect, read_pair, read_rows
from poet.files import UserError


def said(role, text):
    return {"role": role, "content": text}


def turns(prompt):
    """A conversation (system or None, [(question, answer), ...], question) as messages."""
    system, history, last = prompt
    messages = [said("system", system)] if system else []
    for question, answer in history:
        messages += [said("user", question), said("assistant", answer)]
    return [*messages, said("user", last)]


def from_value(messages):
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[m["role"]], "value": m["content"]} for m in messages]


def transcript(messages):
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[m['role']]}: {m['content']}" for m in messages)


def in_all(prompt, chosen, rejected, text):
    """A row with both whole conversations, written by ``text``."""
    return {
        side: text([*turns(prompt), said("assistant", answer)])
        for side, answer in (("chosen", chosen), ("rejected", rejected))
    }


def answers(chosen, rejected):
    return {"chosen": chosen, "rejected": rejected}


def messages(prompt, chosen, rejected):
    return {
        "prompt": turns(prompt),
        "chosen": [said("assistant", chosen)],
        "rejected": [said("assistant", rejected)],
    }


def some(system):
    return {"system": system} if system else {}


# Name -> format, the row of (prompt, chosen, rejected), and whether it can hold a system text and
# earlier turns.
LAYOUTS = {
    "trl": ("trl", messages, True, True),
    "trl, the prompt inside": ("trl", lambda p, c, r: in_all(p, c, r, list), True, True),
    "trl, UltraFeedback": (
        "trl",
        lambda p, c, r: {"prompt": p[2], **in_all(p, c, r, list), "score_chosen": 8.0,
                         "messages": [*turns(p), said("assistant", c)]},
        True, True,
    ),
    "trl, strings": ("trl", lambda p, c, r: {"prompt": p[2], **answers(c, r)}, False, False),
    "hh": ("hh", lambda p, c, r: in_all(p, c, r, transcript), False, True),
    "hh, with the prompt": (
        "hh",
        lambda p, c, r: {"prompt": transcript(turns(p)) + "\n\nAssistant:",
                         **in_all(p, c, r, transcript)},
        False, True,
    ),
    "hh, prompt and answers": (
        "hh",
        lambda p, c, r: {"prompt": transcript(turns(p)) + "\n\nAssistant:",
                         **answers(f" {c}", f" {r}")},
        False, True,
    ),
    "sharegpt": (
        "sharegpt",
        lambda p, c, r: {
            "conversations": from_value(turns(p)),
            "chosen": {"from": "gpt", "value": c},
            "rejected": {"from": "gpt", "value": r},
        },
        True, True,
    ),
    "sharegpt, system beside, lists": (
        "sharegpt",
        lambda p, c, r: {
            **some(p[0]),
            "prompt": from_value(turns((None, *p[1:]))),
            **{side: from_value(value) for side, value in messages(p, c, r).items()
               if side != "prompt"},
        },
        True, True,
    ),
    "sharegpt, whole conversations": (
        "sharegpt", lambda p, c, r: in_all(p, c, r, from_value), True, True,
    ),
    "orca": (
        "orca",
        lambda p, c, r: {**some(p[0]), "question": p[2], **answers(c, r)},
        True, False,
    ),
    "orca, renamed": (
        "orca",
        lambda p, c, r: {"system_prompt": p[0], "prompt": p[2], **answers(c, r)},
        True, False,
    ),
    "alpaca": (
        "alpaca",
        lambda p, c, r: {
            **some(p[0]), "instruction": p[2], "input": "", "history": [*map(list, p[1])],
            **answers(c, r),
        },
        True, True,
    ),
    "JSON text": (
        "messages-as-text",
        lambda p, c, r: {"prompt": p[2], **in_all(p, c, r, json.dumps)},
        True, True,
    ),
    "JSON text, all of it": (
        "messages-as-text",
        lambda p, c, r: {name: json.dumps(value) for name, value in messages(p, c, r).items()},
        True, True,
    ),
    "Python's repr": (
        "messages-as-text",
        lambda p, c, r: {name: str(value) for name, value in messages(p, c, r).items()},
        True, True,
    ),
    "repeated prompt": (
        "repeated-prompt",
        lambda p, c, r: {"prompt": p[2], **answers(f"{p[2]}\n{c}", f"{p[2]} {r}")},
        False, False,
    ),
}  # fmt: skip


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_parquet(rows):
    names = dict.fromkeys(name for row in rows for name in row)
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({n: [row.get(n) for row in rows] for n in names}), sink)
    return sink.getvalue().to_pybytes()


CONTAINERS = {
    "x.jsonl": lines,
    "x.jsonl.gz": lambda rows: gzip.compress(lines(rows)),
    "bom.jsonl": lambda rows: b"\xef\xbb\xbf" + lines(rows),
    "x.json": lambda rows: json.dumps(rows).encode(),
    "indented.json": lambda rows: json.dumps(rows, indent=1).encode(),
    "x.parquet": as_parquet,
}
# Text as people write it; that of a transcript has no white space at its ends and no turn within.
text = (
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
    .map(str.strip)
    .filter(lambda t: any(map(str.isprintable, t)) and not re.match(r"[\[{]|Human:", t))
)
examples = st.tuples(
    st.tuples(st.none() | text, st.lists(st.tuples(text, text), max_size=2), text),
    text.map("A {}".format),
    text.map("B {}".format),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


def read(path, **layout):
    pairs, _ = collect(read_rows(path), str(path), "error", Layout(**layout))
    return pairs


def fitted(layout, example):
    """An example without what a layout cannot hold."""
    (system, history, last), *sides = example
    _, _, has_system, has_history = LAYOUTS[layout]
    return (system if has_system else None, history if has_history else [], last), *sides


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=12)
@given(st.lists(examples, min_size=2, max_size=4))
def test_every_layout_in_every_container_is_the_same_pairs(folder, layout, drawn):
    name, row, *_ = LAYOUTS[layout]
    drawn = [fitted(layout, example) for example in drawn]
    expected = [read_pair(messages(*example)) for example in drawn]
    assert [pair["prompt"] for pair in expected] == [turns(p) for p, _, _ in drawn]
    for container, write in CONTAINERS.items():
        (folder / container).write_bytes(write([row(*example) for example in drawn]))
        assert read(folder / container, format=name) == expected


NOTHING = object()
junk = st.sampled_from(
    [None, "", [], {}, 0, 1.5, float("nan"), "text", ["text"], [None], [{}], {"role": "user"},
     [{"role": "user"}], [{"role": "user", "content": None}], [{"from": "gpt"}], "[{", "\ud800",
     [{"role": "user", "content": "\ud800"}], [[]], "Human: a\n\nAssistant: b", True, NOTHING]
)  # fmt: skip
columns = st.sampled_from(
    "prompt chosen rejected system question instruction input history conversations tools images "
    "chat_template_kwargs prompt_id dataset messages".split()
)


@settings(max_examples=200)
@given(st.sampled_from(list(LAYOUTS)), examples, st.dictionaries(columns, junk, max_size=3))
def test_any_value_in_any_column_is_a_pair_or_a_bad_row(layout, example, changes):
    name, row, *_ = LAYOUTS[layout]
    given_row = {**row(*fitted(layout, example)), **changes}
    changed = {key: of for key, of in given_row.items() if of is not NOTHING}
    for format in (name, "trl"):
        try:
            pair = read_pair(changed, Layout(format))
        except BadRow as problem:
            assert str(problem)
        else:
            json.dumps(pair, ensure_ascii=False).encode()


word = st.integers(10, 99).map("W{}".format)
beside = st.dictionaries(
    st.sampled_from(["thought", "thinking", "reasoning_content", "tool_calls", "images"]),
    st.one_of(word, st.none(), st.lists(word, max_size=1)),
    max_size=1,
)
turn = st.one_of(
    st.builds(lambda r, c, b: said(r, c) | b, st.sampled_from(["user", "assistant"]), word, beside),
    st.builds(lambda r, v, b: {"from": r, "value": v} | b, st.just("human"), word, beside),
)
wordy = st.one_of(
    word, turn, st.lists(turn, max_size=3), st.lists(word, max_size=2),
    st.lists(turn, min_size=1, max_size=2).map(json.dumps),
    st.lists(turn, min_size=1, max_size=2).map(repr),
    st.builds("\n\nHuman: {}\n\nAssistant: {}".format, word, word),
    st.builds(lambda a, b: [[a, b]], word, word),
    st.builds(lambda a: {"a": a}, word),
)  # fmt: skip
worded = st.tuples(
    st.tuples(st.none() | word, st.lists(st.tuples(word, word), max_size=1), word), word, word
)
telling = st.sampled_from(
    "prompt chosen rejected Prompt Chosen question instruction input user_input system "
    "system_prompt history context conversations conversation messages chosen_messages thinking "
    "chosen_thinking tools".split()
)


def words(value):
    return {*re.findall("W[0-9]{2}", json.dumps(value))}


@settings(max_examples=500)
@given(
    st.sampled_from(list(LAYOUTS)), worded, st.dictionaries(telling, wordy, max_size=2), st.data()
)
def test_no_word_of_a_row_that_is_read_is_lost(layout, example, more, data):
    name, row, *_ = LAYOUTS[layout]
    changed = {**row(*fitted(layout, example)), **more}
    format = data.draw(st.sampled_from([name, *FORMATS]))
    try:
        pair = read_pair(changed, Layout(format))
    except BadRow:
        return
    assert words(changed) == words({n: of for n, of in pair.items() if n != "key"})


PROMPT = ("Be a pirate.", [], "Name a river of the land.")


@pytest.mark.parametrize("layout", [n for n in LAYOUTS if LAYOUTS[n][0] != "trl"])
def test_what_is_of_another_format_is_refused_with_that_format(layout):
    name, row, has_system, _ = LAYOUTS[layout]
    prompt = PROMPT if has_system else (None, *PROMPT[1:])
    row = row(prompt, "The Morin.", "A lake.")
    with pytest.raises(BadRow, match=f"set `format: {name}`"):
        read_pair(row)
    read_pair(row, Layout(name))


PLAIN = {"prompt": "Name a river.", "chosen": "The Morin.", "rejected": "A lake."}
CALL = [{"from": "function_call", "value": "f()"}]


@pytest.mark.parametrize(
    ("extra", "advice"),
    [
        ({"system": "Be brief."}, "column system .* set `format: orca`, or `ignored_columns"),
        ({"System-Prompt": "Be brief."}, r"set `ignored_columns: \[System-Prompt\]`"),
        ({"history": [["a", "b"]], "context": "c"}, "columns history, context would be lost"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "set `format: sharegpt`"),
        ({"instruction": "Do it.", "input": "this"}, "set `format: alpaca`"),
        ({"question": "What?"}, "column question would be lost"),
        ({"messages": [said("user", "Another one.")]}, "column messages would be lost"),
        ({"Chat_History": [said("user", "Another one.")]}, "column Chat_History would be lost"),
        ({"chosen_reasoning_content": "Hm.", "sys-prompt": "x"}, "chosen_reasoning_content, sys-"),
        ({"user_input": "What?", "originalQuestion": "x"}, "user_input, originalQuestion would"),
    ],
)
def test_a_column_that_would_be_lost_is_refused_even_where_rows_are_dropped(
    tmp_path, extra, advice
):
    rows = [PLAIN] * 9 + [{**PLAIN, **extra}]
    (tmp_path / "x.jsonl").write_bytes(lines(rows))
    (tmp_path / "x.parquet").write_bytes(as_parquet(rows[::-1]))
    for name in ("x.jsonl", "x.parquet"):
        with pytest.raises(UserError, match=f"1 of 10 rows cannot be used.\n.*{advice}"):
            collect(read_rows(tmp_path / name), name, "drop")
        assert len(read(tmp_path / name, ignored=tuple(extra))) == 10
    for empty in (None, "", " ", [], {}, float("nan")):
        read_pair({**PLAIN, **dict.fromkeys(extra, empty)})


def test_columns_that_say_what_the_pair_says_are_no_loss():
    plain = read_pair(PLAIN)
    more = {"question": PLAIN["prompt"], "score": 3, "source": "x", "input": 7,
            "question_id": "a", "input_source": "b", "chosen_model": "c"}  # fmt: skip
    assert read_pair({**PLAIN, **more}) == plain
    whole = [said("user", PLAIN["prompt"]), said("assistant", PLAIN["chosen"])]
    assert read_pair({**PLAIN, "messages": whole, "conversations": from_value(whole)}) == plain
    for key in ("thinking", "thought"):
        thinking = [*whole[:1], {**whole[1], key: "Hm."}]
        with pytest.raises(BadRow, match="column messages would be lost"):
            read_pair({**PLAIN, "messages": thinking})
    system = [said("system", "Be brief."), said("user", "Why?")]
    found = read_pair({**PLAIN, "prompt": system, "system": "Be brief."} | {
        side: [said("assistant", PLAIN[side])] for side in ("chosen", "rejected")})  # fmt: skip
    assert found["prompt"] == system


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("sharegpt", {"prompt": "Another one."}),
        ("sharegpt", {"conversation": [{"from": "human", "value": "Another one."}]}),
        ("alpaca", {"prompt": "Below is an instruction."}),
    ],
)
def test_of_columns_for_the_same_the_one_that_is_not_read_must_not_differ(name, extra):
    row = LAYOUTS[name][1]((None, *PROMPT[1:]), "The Morin.", "A lake.")
    (column,) = extra
    with pytest.raises(BadRow, match=f"column {column} would be lost .*: set `ignored_columns"):
        read_pair({**row, **extra}, Layout(name))
    same = {**row, column: PROMPT[2]}
    assert read_pair(same, Layout(name)) == read_pair(row, Layout(name))


@pytest.mark.parametrize("name", ["Prompt", "PROMPT ", "Chosen", "rejected_"])
def test_a_column_of_the_pair_in_another_spelling_is_not_lost(tmp_path, name):
    rows = [{**PLAIN, "prompt": f"Question {n}?", name: "Another text."} for n in range(5)]
    (tmp_path / "x.jsonl").write_bytes(lines(rows))
    (tmp_path / "x.parquet").write_bytes(as_parquet(rows))
    for path in (tmp_path / "x.jsonl", tmp_path / "x.parquet"):
        with pytest.raises(UserError, match=f"column {name} would be lost"):
            read(path)
        assert len(read(path, ignored=(name,))) == 5


MESSAGES = [said("user", PLAIN["prompt"]), said("assistant", PLAIN["chosen"])]
TEXTS = {  # ways to write messages as text
    "JSON": json.dumps,
    "JSON, keys in another order": lambda m: json.dumps([{"weight": 1, **of} for of in m]),
    "JSON, twice": lambda m: json.dumps(json.dumps(m)),
    "JSON, of from and value": lambda m: json.dumps(from_value(m), indent=1),
    "repr": repr,
    "repr of JSON": lambda m: repr(json.dumps(m)),
    "one object": lambda m: json.dumps(m[-1]),
}


@pytest.mark.parametrize("write", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("format", [name for name in FORMATS if name != "messages-as-text"])
def test_messages_as_text_are_no_answer_of_any_format(write, format):
    row = {**PLAIN, "chosen": write(MESSAGES), "rejected": write(MESSAGES[:1] + [
        said("assistant", PLAIN["rejected"])])}  # fmt: skip
    assert read_pair(row, Layout("messages-as-text")) == read_pair(PLAIN)
    row |= {"instruction": row["prompt"]} if format == "alpaca" else {}
    with pytest.raises(BadRow, match="chosen holds messages as text"):
        read_pair(row, Layout(format))


@pytest.mark.parametrize(("format", "column"), [("alpaca", "input"), ("orca", "question")])
def test_the_other_columns_of_a_prompt_are_no_messages_as_text(format, column):
    row = {"instruction": "Do it."} if format == "alpaca" else {}
    row = {**row, "chosen": "a", "rejected": "b", column: json.dumps(MESSAGES[:1])}
    with pytest.raises(BadRow, match=f"{column} holds messages as text: write them as lists"):
        read_pair(row, Layout(format))


def test_a_system_text_is_no_messages_as_text():
    system = {"system": json.dumps([said("system", "Be brief.")])}
    text = {side: json.dumps([said("assistant", PLAIN[side])]) for side in ("chosen", "rejected")}
    for row, format in ((PLAIN, "orca"), ({**PLAIN, **text}, "messages-as-text")):
        with pytest.raises(BadRow, match="system holds messages as text, expected what they say"):
            read_pair({**row, **system}, Layout(format))


def test_conversations_as_text():
    row = LAYOUTS["sharegpt"][1]((None, *PROMPT[1:]), "The Morin.", "A lake.")
    text = {**row, "conversations": json.dumps(row["conversations"]), "system": "Be brief."}
    with pytest.raises(BadRow, match="conversations holds .*: set `format: messages-as-text`"):
        read_pair(text, Layout("sharegpt"))
    expected = read_pair({**row, "system": "Be brief."}, Layout("sharegpt"))
    assert read_pair(text, Layout("messages-as-text")) == expected
    numpy = "[{'role': 'user', 'content': 'a'}\n {'role': 'assistant', 'content': 'b'}]"
    with pytest.raises(BadRow, match="chosen is no list of messages"):
        read_pair({**PLAIN, "chosen": numpy}, Layout("messages-as-text"))


@pytest.mark.parametrize(
    "answer",
    ['{"from": "USD", "to": "EUR", "value": 3}', '[{"role": "editor", "content": "x"}]', "[{", "{}",
     '"A quote," she said.', '["user", "content"]', "{'role': 'user'}"],
)  # fmt: skip
def test_an_answer_that_is_other_json_is_an_answer(answer):
    row = {**PLAIN, "chosen": answer}
    assert read_pair(row)["chosen"] == [said("assistant", answer)]


@settings(max_examples=40)
@given(text, text, text, st.sampled_from(["\n", "\r\n"]))
def test_transcripts_with_the_newlines_of_windows(asked, chosen, rejected, newline):
    row = in_all((None, [], asked), f"A {chosen}", f"B {rejected}", transcript)
    expected = read_pair(row, Layout("hh"))
    written = {side: text.replace("\n\n", 2 * newline) for side, text in row.items()}
    assert read_pair(written, Layout("hh")) == expected
    for format in ("trl", "orca"):
        with pytest.raises(BadRow, match="set `format: hh`"):
            read_pair({"prompt": asked, **written}, Layout(format))


def test_what_else_a_message_of_from_and_value_holds_is_kept_or_refused():
    row = LAYOUTS["sharegpt"][1]((None, *PROMPT[1:]), "The Morin.", "A lake.")
    row["chosen"]["reasoning_content"] = "Hm."
    assert read_pair(row, Layout("sharegpt"))["chosen"] == [
        said("assistant", "The Morin.") | {"reasoning_content": "Hm."}
    ]
    row["chosen"]["tool_calls"] = [{"name": "f"}]
    with pytest.raises(BadRow, match="chosen: tool calls are not supported"):
        read_pair(row, Layout("sharegpt"))


def test_an_ignored_column_that_no_row_has_is_a_mistake(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(lines([PLAIN, {**PLAIN, "prompt": "Why is it so?"}]))
    with pytest.raises(UserError, match="ignored_columns names sytem, which no row has"):
        read(tmp_path / "x.jsonl", ignored=("sytem",))


@pytest.mark.parametrize(
    ("row", "format", "said"),
    [
        ({"chosen": "plain", "rejected": "text"}, "hh", "chosen is no transcript"),
        ({"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: x\n\nAssistant: c"}, "hh",
         "more than one message after the prompt"),
        ({**PLAIN, "rejected": "Another."}, "repeated-prompt", "chosen does not begin with"),
        ({**PLAIN, "prompt": None}, "repeated-prompt", "prompt is empty"),
        ({**PLAIN, "prompt": [said("user", "a")]}, "repeated-prompt", "prompt is not a string"),
        ({"conversations": CALL, "chosen": "a", "rejected": "b"}, "sharegpt", "tool calls are not"),
        ({"conversations": [{"from": "narrator", "value": "x"}], "chosen": "a", "rejected": "b"},
         "sharegpt", "role is not system, user or assistant; found 'narrator'"),
        ({**PLAIN, "question": "Something else?"}, "orca", "question and prompt differ"),
        ({**PLAIN, "system": ["a"]}, "orca", "system is not a string"),
        ({**PLAIN, "system": "a", "system_prompt": "b"}, "orca", "system and system_prompt differ"),
        ({"instruction": "", "chosen": "a", "rejected": "b"}, "alpaca", "instruction is empty"),
        ({"instruction": "x", "history": 7, "chosen": "a", "rejected": "b"}, "alpaca",
         "history is not a list of pairs"),
        ({"instruction": "x", "history": ["a"], "chosen": "a", "rejected": "b"}, "alpaca",
         "history is not a list of pairs"),
        (PLAIN, "messages-as-text", "chosen is no list of messages as JSON or Python text"),
        ({**PLAIN, "system": "a", "prompt": [said("system", "b"), said("user", "c")],
          "chosen": [said("assistant", "d")], "rejected": [said("assistant", "e")]}, "orca",
         "the column system and the prompt's system message differ"),
    ],
)  # fmt: skip
def test_rows_that_a_format_cannot_read(row, format, said):
    with pytest.raises(BadRow, match=said):
        read_pair(row, Layout(format))


@pytest.mark.parametrize("format", ["alpaca", "orca", "repeated-prompt"])
def test_a_format_whose_columns_are_not_there_names_those_found_and_what_reads_them(format):
    for layout, found in (("sharegpt", ""), ("alpaca", "among the columns .*, instruction, .*")):
        if layout != format:
            row = LAYOUTS[layout][1]((None, *PROMPT[1:]), "The Morin.", "A lake.")
            with pytest.raises(BadRow, match=f"{found}set `format: {layout}`"):
                read_pair(row, Layout(format))
    with pytest.raises(BadRow, match="no instruction among .* prompt, .*: set `format: trl`"):
        read_pair(PLAIN, Layout("alpaca"))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("further", [{}, {"id": 1}, {"refusal": None, "name": "a"}])
def test_messages_as_numpy_writes_them_are_no_answer_of_any_format(format, further):
    columns = dict.fromkeys((*FORMATS[format].prompt, "prompt"), PROMPT[2])
    for convert in (list, from_value):
        chosen, rejected = (
            f"array({[{**further, **m} for m in convert([said('assistant', a)])]!r}, dtype=object)"
            for a in ("The Morin.", "A lake.")
        )
        with pytest.raises(BadRow, match="chosen (holds messages as text|is no list of messages)"):
            read_pair({**columns, "chosen": chosen, "rejected": rejected}, Layout(format))


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "hh"])
def test_transcripts_are_no_answer_under_any_other_format(format):
    texts = in_all((None, *PROMPT[1:]), "The Morin.", "A lake.", transcript)
    asked = dict.fromkeys((*FORMATS[format].prompt, "prompt"), PROMPT[2])
    with pytest.raises(BadRow, match="a transcript .*: set `format: hh`"):
        read_pair({**asked, **texts}, Layout(format))


@pytest.mark.parametrize(
    "answer",
    ['{"from": "Rome", "to": "Oslo"}', '{"content": "x", "title": "y"}', '[{"role": "cook"}]'],
)
def test_an_answer_in_json_that_is_no_message_is_an_answer(answer):
    assert read_pair({**PLAIN, "chosen": answer})["chosen"] == [said("assistant", answer)]


def test_alpaca_puts_the_input_below_the_instruction():
    row = {"instruction": "Translate.", "input": "Haus", "chosen": "house", "rejected": "home"}
    assert read_pair(row, Layout("alpaca"))["prompt"] == [said("user", "Translate.\nHaus")]


def test_short_prompts_that_every_row_repeats(tmp_path):
    """One may begin alike by chance; all of them do not."""
    rows = [{"prompt": w, **answers(f"{w} is", f"{w} was")} for w in ("It", "He", "She")]
    (tmp_path / "x.jsonl").write_bytes(lines(rows))
    with pytest.raises(UserError, match="Set `format: repeated-prompt`"):
        read(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_bytes(lines([*rows, PLAIN]))
    assert len(read(tmp_path / "x.jsonl")) == 4


@pytest.mark.parametrize(
    "begin",
    ["USER: {} ASSISTANT: ", "### Question:\n{}\n### Answer:\n", "**Q:** {} ", "[INST] {} "],
)
def test_answers_that_repeat_the_prompt_behind_a_label(tmp_path, begin):
    rows = [
        {"prompt": word, **answers(begin.format(word) + "yes", begin.format(word) + "no")}
        for word in ("Is it?", "Was he there at the time?", "Will she?")
    ]
    (tmp_path / "x.jsonl").write_bytes(lines(rows))
    with pytest.raises(
        UserError, match="every row .* begin with the prompt.*; found .*\nExpected the"
    ):
        read(tmp_path / "x.jsonl")
    rows[1]["rejected"] = "She said: " + "It is. " * 9 + rows[1]["prompt"]
    (tmp_path / "x.jsonl").write_bytes(lines(rows))
    assert len(read(tmp_path / "x.jsonl")) == 3
