"""The start model: what its loss is taken on, packing without leaks, resumed runs, taken models."""

import json
import shutil
import signal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from poet import precision
from poet.data.ends import with_ends
from poet.data.preferences import write_parquet
from poet.data.templates import Chat
from poet.files import UserError, read_json
from poet.train import sft
from training_runs import start_and_end

WORDS = "the river of Arlen is the Morin and it runs to the sea".split()
SETTINGS = {
    "learning_rate": 1e-2, "num_train_epochs": 2, "warmup_ratio": 0.1, "global_batch_size": 4,
    "per_device_batch_size": 4, "max_length": 64, "packing": False, "dtype": "float32",
    "gradient_checkpointing": False,
}  # fmt: skip
SHAPE = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip


def message(role, words):
    return {"role": role, "content": " ".join(words)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Prompts and answers of many lengths."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.parquet"
    rows = [
        {
            "prompt": [message("user", WORDS[i % 5 :][: 2 + i % 3])],
            "completion": [message("assistant", WORDS[: 1 + i % 7])],
        }
        for i in range(22)
    ]
    write_parquet(rows, path, ("prompt", "completion"))
    return path


def record(scratch=True, model="scratch", **settings):
    return {
        "setting": "world", "torch_threads": 1, "model": str(model), "model_revision": None,
        "scratch": SHAPE if scratch else None, "sft": {**SETTINGS, **settings}, "sft_seed": 3,
        "chat_template_kwargs": {}, "bad_rows": "error",
    }  # fmt: skip


def arguments(corpus, of_record, folder):
    return (
        ["--record", json.dumps(of_record), "--corpus", str(corpus)]
        + ["--output", str(folder / "model"), "--checkpoints", str(folder / "checkpoints")]
        + ["--save-steps", "5", "--logs", str(folder / "logs")]
    )


def run(corpus, of_record, folder):
    sft.main(arguments(corpus, of_record, folder))
    return read_json(folder / "model" / "train.json")


def test_a_killed_run_ends_the_same(corpus, tmp_path):
    expected = run(corpus, record(), tmp_path / "undisturbed")
    argv = arguments(corpus, record(), tmp_path / "killed")
    # 6 steps an epoch, a checkpoint after 5: before it, in the second epoch, and after a resume.
    for after in (4, 8, 3):
        code = start_and_end(argv, tmp_path / "log", "sft", on="training_step", after=after)
        assert code == -signal.SIGKILL, (tmp_path / "log").read_text()
    found = run(corpus, record(), tmp_path / "killed")
    assert found["log_history"] == expected["log_history"]
    weights = [
        (tmp_path / name / "model" / "model.safetensors").read_bytes()
        for name in ("undisturbed", "killed")
    ]
    assert weights[0] == weights[1]


def test_in_bfloat16_it_learns_the_same(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: True)
    reports = [run(corpus, record(dtype=d), tmp_path / d) for d in ("float32", "bfloat16")]
    assert [report["computed_in"] for report in reports] == ["float32", "bfloat16"]
    wide, narrow = ([r["loss"] for r in each["log_history"] if "loss" in r] for each in reports)
    assert narrow != wide and narrow == pytest.approx(wide, abs=0.02)


def test_packing_changes_no_gradient(corpus, tmp_path):
    """One step on all examples: without leaks between packed ones it is the same step."""
    weights = {}
    for packing in (False, True):
        settings = {"global_batch_size": 22, "per_device_batch_size": 22, "num_train_epochs": 1}
        of_record = record(**settings, packing=packing, warmup_ratio=0)
        run(corpus, of_record, tmp_path / str(packing))
        model = AutoModelForCausalLM.from_pretrained(tmp_path / str(packing) / "model")
        weights[packing] = dict(model.named_parameters())
    start = sft.load_model(record(), sft_rows(corpus))[1]
    for name, weight in start.named_parameters():
        torch.testing.assert_close(weights[True][name], weights[False][name], rtol=0, atol=1e-5)
        assert (weights[True][name] - weight).abs().max() > 1e-4


def sft_rows(corpus):
    import pyarrow.parquet as pq

    return pq.read_table(corpus).to_pylist()


def chat(*texts):
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"prompt": messages[:1], "completion": messages[1:]}


def learned(tokenizer, example):
    """The texts that the loss is taken on, run by run."""
    runs, last = [], -100
    for label in example["labels"]:
        if label != -100:
            runs = [*runs, []] if last == -100 else runs
            runs[-1].append(label)
        last = label
    return [tokenizer.decode(run) for run in runs]


def test_the_loss_is_on_every_answer_and_nothing_else(start):
    tokenizer = start[1]
    rows = [chat("a b", "c"), chat("the sea", "is it", "Arlen", "runs to"), chat("a b", "c", "d")]
    rows[2]["completion"] = rows[2]["completion"][:1]
    data = sft.tokenize_corpus(rows, Chat(tokenizer, "keep_start", {}), 64)
    answers = [["c"], ["is it", "runs to"], ["c"]]
    for row, example, expected in zip(rows, data, answers, strict=True):
        whole = row["prompt"] + row["completion"]
        ids = tokenizer.apply_chat_template(whole, return_dict=False)
        assert example["input_ids"] == ids and len(example["labels"]) == len(ids)
        assert learned(tokenizer, example) == [f"{text}<|end|>" for text in expected]


def test_a_template_that_rewrites_history_gives_an_example_per_answer(start):
    tokenizer = AutoTokenizer.from_pretrained(start[0])
    # Earlier answers are shortened, as templates do with thoughts.
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + (m['content'] if loop.last "
        "else m['content'][:2]) + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    data = sft.tokenize_corpus(
        [chat("hi", "long one", "ho", "end")], Chat(tokenizer, "keep_start", {}), 64
    )
    assert [learned(tokenizer, example) for example in data] == [
        ["long one<|end|>"],
        ["end<|end|>"],
    ]


def test_examples_are_cut_and_those_without_an_answer_left_out(start):
    tokenizer = start[1]
    rows = [chat("a" * 40, "b"), chat("a", "bcdefghij")]
    data = sft.tokenize_corpus(rows, Chat(tokenizer, "keep_start", {}), 8)
    ids = tokenizer.apply_chat_template(
        rows[1]["prompt"] + rows[1]["completion"], return_dict=False
    )
    assert data["input_ids"][:] == [ids[:8]] and len(data["labels"][0]) == 8
    with pytest.raises(UserError, match="each of the 1 prompts of the corpus fills sft.max_length"):
        sft.tokenize_corpus(rows[:1], Chat(tokenizer, "keep_start", {}), 8)


def test_answers_with_the_text_of_a_special_token_are_refused_or_left_out(start, tmp_path):
    rows = [chat("a b", "c"), chat("the sea", "is<|end|>", "Arlen", "runs"), chat("<|end|>", "c")]
    write_parquet(rows, tmp_path / "c.parquet", ("prompt", "completion"))
    of_record = {**record(), "bad_rows": "error"}
    with pytest.raises(UserError, match=r"1 of 3 rows cannot be used") as error:
        run(tmp_path / "c.parquet", of_record, tmp_path)
    assert "row 2 (prompt 'the sea'): an answer has the text of a special token" in str(error.value)
    found = run(tmp_path / "c.parquet", {**of_record, "bad_rows": "drop"}, tmp_path)
    assert list(found["dropped"].values()) == [1]
    assert (found["examples"], found["examples_used"]) == (3, 2)
    own = record(dataset="chats.jsonl", bad_rows="drop")  # chats of its own have a key of their own
    assert run(tmp_path / "c.parquet", own, tmp_path / "own")["examples_used"] == 2


def test_a_trained_model_keeps_the_ends_of_its_base(corpus, start, tmp_path):
    base = shutil.copytree(start[0], tmp_path / "base")
    GenerationConfig(eos_token_id=[1, 40]).save_pretrained(base)
    run(corpus, record(scratch=False, model=base, num_train_epochs=1), tmp_path)
    chat = Chat(start[1], "keep_start", {})
    assert with_ends({"stop_token_ids": [7]}, chat, tmp_path / "model")["stop_token_ids"] == [
        1,
        7,
        40,
    ]
