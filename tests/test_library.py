"""equal_length on every preference format of TRL's, and the recipe for its plain DPOTrainer."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from chat_tokenizers import SHIPPED, byte_level
from poet import equal_length, with_reference
from poet.data import truncation
from poet.data.containers import BadRow
from poet.data.examples import split_texts, write_equal_length
from poet.data.layout import TRL
from poet.files import UserError
from poet.methods.truncation import truncate_pair
from poet.train.arguments import common_arguments
from poet.train.trainer import PreferenceTrainer

TEXTS = ["the river", "the Morin runs to the sea", "Arlen", "is it?", "a b c d e f g h i j"]
PAIRS = [(TEXTS[i % 5], TEXTS[(i + 1) % 5], TEXTS[(i + 3) % 5]) for i in range(8)]


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


FORMATS = {
    "messages": lambda p, c, r: {
        "prompt": [user(p)], "chosen": [assistant(c)], "rejected": [assistant(r)],
    },
    "messages, the prompt inside": lambda p, c, r: {
        "chosen": [user(p), assistant(c)], "rejected": [user(p), assistant(r)],
    },
    "messages, the prompt inside and as a string": lambda p, c, r: {
        "prompt": p, "chosen": [user(p), assistant(c)], "rejected": [user(p), assistant(r)],
    },
    "strings": lambda p, c, r: {"prompt": p, "chosen": f" {c}", "rejected": f" {r}"},
    "strings, the prompt inside": lambda p, c, r: {"chosen": f"{p} {c}", "rejected": f"{p} {r}"},
}  # fmt: skip


def data_of(form):
    return Dataset.from_list([FORMATS[form](*pair) for pair in PAIRS])


def arguments(folder, **kwargs):
    """One step on all pairs at a time, so that their order does not matter."""
    sizes = {"global_batch_size": 8, "per_device_batch_size": 8}
    common = {**common_arguments(sizes), "logging_steps": 1}
    return DPOConfig(str(folder), num_train_epochs=3, learning_rate=1e-3, **common, **kwargs)


def trl(start, form, folder, **kwargs):
    """TRL's own trainer on the raw rows."""
    data = data_of(form)
    if "inside and as" in form:
        data = data.remove_columns("prompt")  # TRL 1.16 stops at it, though it knows the format
    return DPOTrainer(
        model=str(start[0]),
        ref_model=AutoModelForCausalLM.from_pretrained(start[0]),
        args=arguments(folder, beta=0.1, **kwargs),
        train_dataset=data,
        processing_class=start[1],
    )


@pytest.mark.parametrize("form", FORMATS)
def test_tokens_are_trls_cut_to_the_shorter_response(start, form, tmp_path):
    data = data_of(form).add_column("score", [0.5] * len(PAIRS))
    found = equal_length(data, start[1])
    columns = {"prompt_ids", "chosen_ids", "rejected_ids", "pair_hash", "score"}
    assert set(found.column_names) == columns
    for mine, theirs in zip(found, trl(start, form, tmp_path).train_dataset, strict=True):
        k = min(len(theirs["chosen_ids"]), len(theirs["rejected_ids"]))
        assert mine["prompt_ids"] == theirs["prompt_ids"]
        assert mine["chosen_ids"] == theirs["chosen_ids"][:k]
        assert mine["rejected_ids"] == theirs["rejected_ids"][:k]


def test_strategy_and_length_limit(start):
    tokenizer, data = start[1], data_of("messages")
    whole = equal_length(data, tokenizer, strategy="none")
    half = equal_length(data, tokenizer, strategy="own", keep=0.5)
    short = equal_length(data, tokenizer, max_length=16)
    for full, own, cut in zip(whole, half, short, strict=True):
        for name in ("chosen_ids", "rejected_ids"):
            assert own[name] == full[name][: -(-len(full[name]) // 2)]
        prompt = full["prompt_ids"] if len(full["prompt_ids"]) < 16 else full["prompt_ids"][-8:]
        room = min(16 - len(prompt), len(full["chosen_ids"]), len(full["rejected_ids"]))
        assert cut["prompt_ids"] == prompt
        assert cut["chosen_ids"] == full["chosen_ids"][:room]
    drawn = equal_length(data, tokenizer, strategy="random", seed=3)
    for full, cut in zip(whole, drawn, strict=True):
        expected = truncate_pair(
            full["chosen_ids"], full["rejected_ids"], "random", full["pair_hash"], seed=3
        )
        assert (cut["chosen_ids"], cut["rejected_ids"]) == expected
    with pytest.raises(ValueError, match="truncation own has no parameter seed; it has keep"):
        equal_length(data, tokenizer, strategy="own", seed=3)
    with pytest.raises(ValueError, match="unknown truncation strategy 'pot'"):
        equal_length(data, tokenizer, strategy="pot")


def losses(trainer):
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_the_recipe_for_plain_trl_is_the_shipped_trainer(start, tmp_path):
    """docs/library.md: DPOConfig(ld_alpha=0.0) on the raw rows."""
    model = AutoModelForCausalLM.from_pretrained(start[0])
    data = with_reference(equal_length(data_of("messages"), start[1]), model, start[1])
    mine = PreferenceTrainer(
        model=model,
        args=arguments(tmp_path),
        objective="dpo",
        parameters={"beta": 0.1},
        train_dataset=data,
        processing_class=start[1],
    )
    theirs = trl(start, "messages", tmp_path, ld_alpha=0.0)
    found = losses(mine)
    assert found == pytest.approx(losses(theirs), rel=1e-5)
    assert len(found) == 3 and found[0] > found[1] > found[2]
    weights = dict(theirs.model.named_parameters())
    for name, weight in mine.model.named_parameters():
        torch.testing.assert_close(weight, weights[name], rtol=1e-3, atol=1e-4)


def test_import_stays_light():
    code = "import sys, poet; print('torch' in sys.modules, 'datasets' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False False\n"
    with pytest.raises(ImportError, match="cannot import name 'equal_lenght'"):
        from poet import equal_lenght  # noqa: F401


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_files_of_raw_pairs(start, tmp_path, ending):
    source, target = tmp_path / f"pairs.{ending}", tmp_path / "equal.parquet"
    data = data_of("messages")
    if ending == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in data))
    else:
        data.to_parquet(source)
    flags = ["--pairs", str(source), "--tokenizer", str(start[0]), "--output", str(target)]
    truncation.main(flags)
    assert Dataset.from_parquet(str(target)).to_list() == equal_length(data, start[1]).to_list()
    with pytest.raises(UserError, match=r"--pairs needs --tokenizer"):
        truncation.main(["--pairs", str(source), "--output", str(target)])
    target.unlink()
    rows = [{**row, "chosen": None} if n == 2 else row for n, row in enumerate(data)]
    source = tmp_path / "array.json"
    source.write_text(json.dumps(rows))
    flags[1] = str(source)
    with pytest.raises(UserError, match="1 of 8 rows cannot be used.\n  item 3: no chosen"):
        truncation.main(flags)
    assert not target.exists()
    truncation.main([*flags, "--bad-rows", "drop"])
    assert len(Dataset.from_parquet(str(target))) == 7
    source.write_text(json.dumps([*data, FORMATS["messages"]("a", "b<|end|>", "c")]))
    with pytest.raises(
        UserError, match="1 of 9 rows cannot be used.\n  pair 9: chosen has the text"
    ):
        truncation.main(flags)
    truncation.main([*flags, "--bad-rows", "drop"])
    assert Dataset.from_parquet(str(target)).to_list() == equal_length(data, start[1]).to_list()


def test_plain_strings_that_differ_in_space_are_the_same_from_a_file(start, tmp_path):
    """No template trims them."""
    data = Dataset.from_list([FORMATS["strings"](p, c, f"{c} ") for p, c, _ in PAIRS])
    data.to_json(tmp_path / "x.jsonl")
    path = tmp_path / "equal.parquet"
    write_equal_length(tmp_path / "x.jsonl", path, start[1], {"strategy": "poet"}, TRL, "error")
    assert Dataset.from_parquet(str(path)).to_list() == equal_length(data, start[1]).to_list()


# What is read


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("Is it? Yes.", "Is it? No.", ("Is it?", " Yes.", " No.")),
        ("Is it? Now.", "Is it? No.", ("Is it?", " Now.", " No.")),
        ("Q:\nA one", "Q:\nA two", ("Q:\nA", " one", " two")),
        ("Why?\n\nSo.", "Why?\n\nNo.", ("Why?\n\n", "So.", "No.")),
        ("The sky is blue", "The sky is blueish", ("The sky is", " blue", " blueish")),
        ("It is blue", "It is blue and vast", ("It is", " blue", " blue and vast")),
        ("one\ntwo", "one two", ("one", "\ntwo", " two")),
    ],
)
def test_an_implicit_prompt_ends_with_a_word(chosen, rejected, expected):
    assert split_texts(chosen, rejected) == expected
    assert expected[0] + expected[1] == chosen and expected[0] + expected[2] == rejected


words = st.sampled_from(["a", "ab", "abc", "b", " ", "  ", "\n", ".", "\u3000"])
some_words = st.lists(words, max_size=6).map("".join)


@given(some_words, some_words, some_words)
def test_no_word_of_an_implicit_prompt_is_split(shared, chosen, rejected):
    try:
        prompt, *sides = split_texts(shared + chosen, shared + rejected)
    except BadRow:
        return
    assert [prompt + side for side in sides] == [shared + chosen, shared + rejected]
    assert prompt.strip() and all(side.strip() for side in sides)
    assert prompt[-1].isspace() or all(side[0].isspace() for side in sides)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"chosen": "Paris ", "rejected": "London"}, "do not begin with the same word"),
        ({"chosen": "The sky", "rejected": "The sky"}, "chosen equals rejected"),
        ({"chosen": "The ", "rejected": "The sky"}, "chosen is all that both begin with"),
        ({"prompt": "Why?", "chosen": None, "rejected": "b"}, "no chosen"),
        ({"prompt": "Why?", "chosen": "", "rejected": "b"}, "chosen is empty"),
        ({"prompt": "Why?", "chosen": "b", "rejected": "b"}, "chosen equals rejected"),
        ({"prompt": "Is it so?", "chosen": "Is it so? Yes", "rejected": "Is it so? No"},
         "both begin with the prompt: set `format: repeated-prompt`"),
        ({"question": "Why?", "chosen": "a", "rejected": "b"}, "set `format: orca`"),
        ({"prompt": "Why?", "system": "Be kind.", "chosen": "a", "rejected": "b"},
         "column system would be lost"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
         "set `format: hh`"),
        ({"chosen": [user("a"), assistant("b")],
          "rejected": [user("a"), assistant("b"), user("c"), assistant("d")]},
         "rejected has more than one message after the prompt"),
        ({"prompt": [user("a")], "chosen": [{"from": "gpt", "value": "b"}],
          "rejected": [{"from": "gpt", "value": "c"}]}, "set `format: sharegpt`"),
        ({"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")],
          "tools": "[{"}, "tools is not valid JSON"),
    ],
)  # fmt: skip
def test_what_is_no_pair_is_refused_with_its_row(start, row, said):
    with pytest.raises(UserError, match="row 1 of the data set") as error:
        equal_length(Dataset.from_list([row]), start[1])
    assert said in str(error.value)


def test_bad_rows_are_left_out_with_a_warning(start):
    data = data_of("strings")
    rows = [*data, {"prompt": "Why?", "chosen": "b", "rejected": "b"}, *data]
    with pytest.raises(UserError, match="row 9 of the data set: chosen equals rejected"):
        equal_length(Dataset.from_list(rows), start[1])
    with pytest.warns(UserWarning, match="left out 1 of 17 rows: chosen equals rejected .1."):
        found = equal_length(Dataset.from_list(rows), start[1], bad_rows="drop")
    assert found.to_list() == equal_length(data, start[1]).to_list() * 2


def test_a_column_that_would_be_lost_is_refused_even_where_rows_are_dropped(start):
    rows = [{**row, "system": "Be kind." if n else ""} for n, row in enumerate(data_of("strings"))]
    for bad_rows, said in (("error", "row 2 of the data set"), ("drop", "the data set: 7 of 8")):
        with pytest.raises(UserError, match=f"{said}.*\n?.*column system would be lost"):
            equal_length(Dataset.from_list(rows), start[1], bad_rows=bad_rows)
    given_up = equal_length(Dataset.from_list(rows), start[1], ignored_columns=["system"])
    assert given_up.column_names[0] == "system" and len(given_up) == len(PAIRS)


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "said"),
    [
        ("[INST] {}? [/INST]", "b", "c", "every prompt is text that a chat template has rendered"),
        ("{}?", "Assistant: b", "Assistant: c", "every answer is text that a chat template has"),
        ("{}?", "b", "b ", "in every row chosen and rejected differ in the white space"),
        ("{}?", "{}? b", "{}? c", "in every row chosen and rejected begin with the prompt"),
    ],
)
@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_what_is_wrong_with_all_rows_is_refused_from_files_and_data_sets(
    start, tmp_path, ending, prompt, chosen, rejected, said
):
    form = FORMATS["messages"]
    rows = [form(*(text.format(n) for text in (prompt, chosen, rejected))) for n in range(4)]
    path = tmp_path / f"x{ending}"
    data = Dataset.from_list(rows)
    data.to_json(path) if ending == ".jsonl" else data.to_parquet(path)
    for bad_rows in ("error", "drop"):
        with pytest.raises(UserError, match=said):
            equal_length(data, start[1], bad_rows=bad_rows)
        with pytest.raises(UserError, match=said):
            write_equal_length(path, tmp_path / "y", start[1], {"strategy": "poet"}, TRL, bad_rows)
    mixed = Dataset.from_list([*rows, form("Why?", "So.", "No.")])
    assert len(equal_length(mixed, start[1])) == 5


def test_strings_and_chats_may_be_mixed(start):
    rows = [{"prompt": "x", "chosen": " a b", "rejected": " c"}]
    (alone,) = equal_length(Dataset.from_list(rows), start[1])
    stream = IterableDataset.from_generator(lambda: iter([*data_of("messages"), *rows]))
    *chats, last = equal_length(stream, start[1])
    assert last == alone and chats == equal_length(data_of("messages"), start[1]).to_list()


def test_streams_splits_and_processes_give_the_same(start):
    data = data_of("messages").add_column("score", [0.5] * len(PAIRS))
    expected = equal_length(data, start[1]).to_list()
    stream = IterableDataset.from_generator(lambda: iter(data))
    assert stream.column_names is None
    assert list(equal_length(stream, start[1])) == expected
    splits = equal_length(DatasetDict({"train": data, "test": data.select([0])}), start[1])
    assert splits["train"].to_list() == expected and splits["test"].to_list() == expected[:1]
    assert equal_length(data, start[1], num_proc=2).to_list() == expected
    with pytest.raises(UserError, match="row 9 of the data set: no chosen"):
        broken = Dataset.from_list([*data, {**data[0], "chosen": None}])
        equal_length(broken, start[1], num_proc=2)
    for arguments in ({"num_proc": 2}, {"bad_rows": "drop"}):
        with pytest.raises(UserError, match="need a Dataset, found an IterableDataset"):
            equal_length(stream, start[1], **arguments)
    with pytest.raises(UserError, match="with_reference needs a Dataset, found IterableDataset"):
        with_reference(stream, None, start[1])
    with pytest.raises(
        UserError, match="no column chosen_ids, pair_hash, prompt_ids, rejected_ids"
    ):
        with_reference(data, None, start[1])


@pytest.mark.parametrize("kind", ["numpy", "torch", "pandas", "arrow"])
def test_rows_that_a_data_set_gives_as_arrays_are_the_same(start, kind):
    data, expected = data_of("messages"), equal_length(data_of("messages"), start[1])
    assert equal_length(data.with_format(kind), start[1]).to_list() == expected.to_list()
    model = AutoModelForCausalLM.from_pretrained(start[0])
    found = with_reference(expected.with_format(kind), model, start[1])
    assert found.to_list() == with_reference(found, model, start[1]).to_list()


def test_what_is_no_data_set_or_tokenizer_is_refused_by_name(start):
    data = data_of("strings")
    for rows in (data.to_list(), data.to_pandas(), {"train": data}, None):
        with pytest.raises(UserError, match=f"needs a data set, found {type(rows).__name__}"):
            equal_length(rows, start[1])
    with pytest.raises(UserError, match="needs a tokenizer, found str; a processor has one"):
        equal_length(data, str(start[0]))
    with pytest.raises(UserError, match="names sytem, which no row has.\n  found: .*, prompt"):
        equal_length(data, start[1], ignored_columns=["sytem"])
    other = data.rename_column("chosen", "Chosen")
    stream = IterableDataset.from_generator(lambda: iter(other))
    for rows, bad_rows in ((other, "error"), (other, "drop"), (stream, "error")):
        with pytest.raises(UserError, match="no column 'chosen'.\n  found: .*Chosen, prompt"):
            equal_length(rows, start[1], bad_rows=bad_rows)
    with pytest.raises(ValueError, match="ignored_columns is 'system', expected a list"):
        equal_length(data, start[1], ignored_columns="system")


def test_pairs_that_the_reference_model_cannot_take_are_refused(start):
    model = AutoModelForCausalLM.from_pretrained(start[0])
    limit = model.config.max_position_embeddings
    long = Dataset.from_list([FORMATS["strings"]("a", "b " * limit, "c d " * limit)])
    with pytest.raises(UserError, match=f"has {limit} positions.*\n.*max_length=.... cuts: "):
        with_reference(equal_length(long, start[1]), model, start[1])
    data = equal_length(data_of("strings"), start[1])
    model.resize_token_embeddings(20)
    with pytest.raises(UserError, match="with_reference, .*_ids: found the token .* has 20 rows"):
        with_reference(data, model, start[1])


def test_another_format_is_the_same_as_its_messages(start):
    rows = [{"question": p, "chosen": c, "rejected": r} for p, c, r in PAIRS]
    found = equal_length(Dataset.from_list(rows), start[1], format="orca")
    assert found.to_list() == equal_length(data_of("messages"), start[1]).to_list()


TEMPLATE = (
    "{% if quick %}now {% endif %}{% if tools %}{{ tools[0].function.name }}: {% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.reasoning_content or '' }}{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_tools_template_variables_and_reasoning_as_in_trl(start, tmp_path):
    """As JSON text, which TRL takes for tools, and as objects."""
    tokenizer = copy.deepcopy(start[1])
    tokenizer.chat_template = TEMPLATE
    tools = [{"type": "function", "function": {"name": "the river"}}]
    rows = [{**row, "tools": json.dumps(tools)} for row in data_of("messages")]
    for row in rows:
        row["chosen"][0]["reasoning_content"] = "Hm. "
        row["rejected"][0]["reasoning_content"] = "No. "
    found = equal_length(Dataset.from_list(rows), tokenizer)
    args = arguments(tmp_path, beta=0.1)
    theirs = DPOTrainer(
        model=str(start[0]), args=args, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    ).train_dataset  # fmt: skip
    for mine, other in zip(found, theirs, strict=True):
        k = min(len(other["chosen_ids"]), len(other["rejected_ids"]))
        assert mine["prompt_ids"] == other["prompt_ids"]
        assert mine["chosen_ids"] == other["chosen_ids"][:k]
    assert tokenizer.decode(found[0]["prompt_ids"]).startswith("the river: <user>")
    assert tokenizer.decode(found[0]["chosen_ids"]).startswith("Hm.")
    quick = [{**row, "chat_template_kwargs": {"quick": n % 2 == 0}} for n, row in enumerate(rows)]
    for n, row in enumerate(equal_length(Dataset.from_list(quick), tokenizer)):
        assert tokenizer.decode(row["prompt_ids"]).startswith("now ") is (n % 2 == 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_length": 1}, "max_length is 1 and max_prompt_length 0"),
        ({"max_length": 8, "max_prompt_length": 8}, "expected 0 < max_prompt_length < max_length"),
        ({"max_prompt_length": 8}, "max_prompt_length needs max_length"),
        ({"format": "hhh"}, "format is 'hhh', expected one of trl, hh"),
        ({"bad_rows": "skip"}, "bad_rows is 'skip', expected one of error, drop"),
        ({"keep": 0}, "keep is 0"),
    ],
)
def test_arguments_out_of_range(start, arguments, said):
    with pytest.raises(ValueError, match=said):
        equal_length(data_of("messages"), start[1], **arguments)


def test_a_long_prompt_keeps_its_last_tokens(start):
    whole = equal_length(data_of("messages"), start[1], strategy="none")
    for full, cut in zip(
        whole, equal_length(data_of("messages"), start[1], max_length=12, max_prompt_length=3),
        strict=True,
    ):  # fmt: skip
        prompt = full["prompt_ids"]
        assert cut["prompt_ids"] == (prompt if len(prompt) < 12 else prompt[-3:])


BARE = "{{ mood | default('') }}{% for m in messages %}{{ m.content }}|{% endfor %}"


def test_variables_of_rows_and_of_the_call_reach_the_template(start):
    """As in TRL, whose rows may have them in a column."""
    tokenizer = copy.deepcopy(start[1])
    tokenizer.chat_template = BARE
    rows = [{**FORMATS["messages"]("a", "b", "c"), "chat_template_kwargs": kwargs}
            for kwargs in ({"mood": "sad"}, None)]  # fmt: skip
    found = equal_length(Dataset.from_list(rows), tokenizer, chat_template_kwargs={"mood": "glad"})
    texts = [tokenizer.decode(ids) for ids in found["prompt_ids"]]
    assert texts == ["sada|", "glada|"]


def test_pairs_whose_tokens_would_not_be_their_answers_are_refused(start):
    messages, strings = FORMATS["messages"], FORMATS["strings"]
    for row in (
        messages("a", "b<|end|>c", "d"), messages("a", "d", "b<|end|>"), messages("a", "b", "b"),
        strings("a", "b<|end|>c", "d"),
    ):  # fmt: skip
        with pytest.raises(
            UserError, match="row 1 of the data set: .*(special token|the same tokens|equals)"
        ):
            equal_length(Dataset.from_list([row]), start[1])
    good = data_of("strings")
    rows = [*good, strings("a", "b<|end|>c", "d")]
    with pytest.warns(UserWarning, match="left out 1 of 9 rows: chosen has the text of a special"):
        found = equal_length(Dataset.from_list(rows), start[1], bad_rows="drop")
    assert found.to_list() == equal_length(good, start[1]).to_list()
    for end in ("", "\n", " \n\n"):  # a plain response may have its end
        ended = [strings("a", f"b<|end|>{end}", "d")]
        (row,) = equal_length(Dataset.from_list(ended), start[1], strategy="none")
        assert row["chosen_ids"].count(start[1].eos_token_id) == 1
        assert row["chosen_ids"][-1] == start[1].eos_token_id


def test_a_plain_response_with_its_turns_end_and_eos_is_the_chat_messages():
    """Where a turn's end is not EOS: both stand at the end of either, once."""
    ends = ["<start_of_turn>", "<end_of_turn>"]
    tokenizer = byte_level(SHIPPED["gemma"], "<bos>", "<eos>", ends)
    row = {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c d")]}
    prompt = tokenizer.apply_chat_template(
        row["prompt"], tokenize=False, add_generation_prompt=True
    )
    for end in ("<end_of_turn>", "<end_of_turn><eos>", "<end_of_turn><eos>\n"):
        texts = {"prompt": prompt, "chosen": f"b{end}", "rejected": f"c d{end}"}
        chat, plain = (equal_length(Dataset.from_list([r]), tokenizer) for r in (row, texts))
        assert plain.to_list() == chat.to_list()


def test_plain_strings_need_no_chat_template(start):
    tokenizer = copy.deepcopy(start[1])
    tokenizer.chat_template = None
    assert equal_length(data_of("strings"), tokenizer).num_rows == len(PAIRS)


@pytest.mark.parametrize("form", ["messages", "strings"])
def test_a_tokenizer_without_eos_is_refused(start, form):
    tokenizer = copy.deepcopy(start[1])
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="has no EOS token; expected one"):
        equal_length(data_of(form), tokenizer)
