"""equal_length on every preference format of TRL's, and the recipe for its plain DPOTrainer."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from poet import equal_length, with_reference
from poet.data import truncation
from poet.files import UserError
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
    common = {**common_arguments(8, 8), "logging_steps": 1}
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
        with pytest.raises(UserError, match="has a pair that cannot be used: .*\n  prompt: .*a"):
            equal_length(Dataset.from_list([row]), start[1])
    ended = [strings("a", "b<|end|>", "d")]  # a plain response may have its end
    (row,) = equal_length(Dataset.from_list(ended), start[1], strategy="none")
    assert row["chosen_ids"].count(start[1].eos_token_id) == 1


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
