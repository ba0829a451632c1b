"""Annotations lose no row, and scalar annotators are what their formulas say; all offline."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet.evaluate.annotate import annotate, main, open_judge, pair_up
from poet.evaluate.annotators.reward_model import reward_model
from poet.evaluate.annotators.scalar import bradley_terry
from poet.files import UserError, read_json, write_json, write_jsonl
from poet.provenance import version
from poet.world import simulate as world
from poet.world.language import ATTRIBUTES, TOWNS


def count_judge(prompts, rows):
    """Preference: the difference of how often the letter a occurs, squashed into [1, 2]."""
    gaps = [row["output_2"].count("a") - row["output_1"].count("a") for row in rows]
    return [{"preference": 1.5 + math.atan(gap) / math.pi, "gap": gap} for gap in gaps]


def make_prompts(n: int) -> list[dict]:
    return [
        {
            "index": i,
            "dataset": "d",
            "instruction": f"say {i}",
            "prompt": [{"role": "user", "content": f"say {i}"}],
            "reference": "a" * (i % 4),
        }
        for i in range(n)
    ]


def make_generations(prompts: list[dict], shift: int = 1) -> list[dict]:
    return [
        {
            "index": p["index"],
            "dataset": "d",
            "instruction": p["instruction"],
            "output": "a" * ((p["index"] * shift) % 5) + "b",
            "generator": "m",
            "n_tokens": 3,
            "finish_reason": "stop",
        }
        for p in prompts
    ]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_rows_keep_the_prompts_order_and_what_they_said():
    prompts = make_prompts(20)
    # As many seeds as one process gets; their rows come in another order.
    methods = [
        pair_up(prompts, make_generations(prompts, shift)[::-1], "g", "world_reference")
        for shift in (1, 2, 3)
    ]
    annotated = annotate("fake", count_judge, prompts, methods)
    for shift, rows in zip((1, 2, 3), annotated, strict=True):
        assert [row["index"] for row in rows] == list(range(20))
        for i, row in enumerate(rows):
            gap = (i * shift) % 5 - i % 4
            assert row["gap"] == gap
            assert row["preference"] == pytest.approx(1.5 + math.atan(gap) / math.pi)
            assert row["annotator"] == "fake" and row["generator_1"] == "world_reference"
            assert row["output_1"] == prompts[i]["reference"] and row["output_2"].endswith("b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "no generation for prompt 4"),
        (lambda rows: [*rows, rows[0]], "two generations for prompt 0"),
        (lambda rows: [*rows, {**rows[0], "index": 9}], r"unknown prompts \[9\]"),
        (lambda rows: [{**rows[0], "instruction": "other"}, *rows[1:]], "'other'"),
        (lambda rows: [{"index": 0}], "no instruction, output, generator"),
    ],
)
def test_what_does_not_fit_the_prompts_is_named(change, message):
    prompts = make_prompts(5)
    with pytest.raises(UserError, match=message):
        pair_up(prompts, change(make_generations(prompts)), "g.json", "ref")


@pytest.mark.parametrize("value", [math.nan, 2.5, None, "1"])
def test_a_preference_that_is_none_is_an_error(value):
    prompts = make_prompts(2)
    pairs = pair_up(prompts, make_generations(prompts), "g", "ref")
    with pytest.raises(UserError, match=r"expected a number in \[1, 2\]"):
        annotate("bad", lambda p, rows: [{"preference": value}] * len(rows), prompts, [pairs])


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_bradley_terry_is_a_sigmoid_and_symmetric(first, second):
    from scipy.special import expit

    assert bradley_terry(first, second) == pytest.approx(1 + expit(second - first), abs=1e-12)
    assert bradley_terry(first, second) + bradley_terry(second, first) == pytest.approx(3)


def test_the_program_with_the_oracle(tmp_path):
    asked_for = [(town, tuple(ATTRIBUTES)[:2]) for town in tuple(TOWNS)[:6]]
    prompts, _ = world.simulate_prompts(asked_for, "early", 0)
    write_jsonl(prompts, tmp_path / "prompts.jsonl")
    generations = [
        {**row, "output": prompts[row["index"]]["reference"] + " Rubbish."}
        for row in make_generations(prompts)
    ]
    write_json(generations, tmp_path / "g.json")
    main([
        "--record", json.dumps({"reference_name": "world_reference"}), "--annotator", "oracle",
        "--settings", '{"kind": "oracle"}', "--prompts", str(tmp_path / "prompts.jsonl"),
        "--generations", str(tmp_path / "g.json"), "--output", str(tmp_path / "a.json"),
        "--usage", str(tmp_path / "usage.json"),
    ])  # fmt: skip
    for prompt, row in zip(prompts, read_json(tmp_path / "a.json"), strict=True):
        texts = prompt["instruction"], prompt["reference"], prompt["reference"] + " Rubbish."
        assert row["preference"] == world.oracle_preference(*texts)
        assert row["reward_1"] == world.reward(*texts[:2])
        assert row["reward_2"] == world.reward(texts[0], texts[2]) <= row["reward_1"]
        assert "reward_cut" not in row
    assert read_json(tmp_path / "usage.json") == {
        "annotator": "oracle", "kind": "oracle", "judge_models": [], "n_annotations": 6,
        "n_calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "price": 0,
        "provenance": version(),
    }  # fmt: skip


@pytest.fixture(scope="module")
def tiny_reward_model(tmp_path_factory) -> str:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<s>", "</s>", "say", "a", "b", "c", "user", "assistant"]
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=10, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, num_labels=1, pad_token_id=0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("rm")
    model = LlamaForSequenceClassification(config)
    torch.nn.init.normal_(model.score.weight, std=1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_reward_model_in_batches_gives_the_logits_of_single_conversations(
    tiny_reward_model, monkeypatch
):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    prompts = make_prompts(7)
    outputs = ["a " * (1 + 5 * i % 11) + "c" for i in range(7)]
    rows = [
        {"instruction": prompt["instruction"], "output_1": "c", "output_2": output}
        for prompt, output in zip(prompts, outputs, strict=True)
    ]
    monkeypatch.setattr("poet.evaluate.annotators.reward_model.BATCH_SIZE", 3)
    judged = reward_model("rm", {}, tiny_reward_model)(prompts, rows)
    found = [row["reward_2"] for row in judged]
    assert not any(row["reward_cut"] for row in judged)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_reward_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_reward_model)
    for prompt, output, reward in zip(prompts, outputs, found, strict=True):
        text = f"user {prompt['instruction']} assistant {output} "
        with torch.inference_mode():
            logit = model(**tokenizer(text, return_tensors="pt")).logits[0, 0].item()
        assert reward == pytest.approx(logit, abs=1e-5)
    assert len(set(found)) == 7
    for row in judged:
        sigmoid = 1 / (1 + math.exp(row["reward_1"] - row["reward_2"]))
        assert row["preference"] == pytest.approx(1 + sigmoid)


@pytest.mark.parametrize(
    ("model_max_length", "limit"), [(None, 64), (12, 12), (200, 64)], ids=["unknown", "12", "200"]
)
def test_long_conversations_are_cut_where_training_cut_them(
    tiny_reward_model, tmp_path, capsys, model_max_length, limit
):
    """At what the tokenizer says, at most at the model's 64 positions; and it is told."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(tiny_reward_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_reward_model)
    assert tokenizer.model_max_length > 10**20
    if model_max_length:
        tokenizer.model_max_length = model_max_length
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    prompts = make_prompts(3)  # "user say 0 assistant": 4 tokens
    generations = make_generations(prompts)
    outputs = ["a b " * 50, " ".join(["c"] * (limit - 4)), " ".join(["c"] * (limit - 3))]
    for row, output in zip(generations, outputs, strict=True):
        row["output"] = output
    judge = reward_model("rm", {"name": str(tmp_path)}, None)
    rows = annotate("rm", judge, prompts, [pair_up(prompts, generations, "g", "ref")])[0]
    assert f"rm: 2 of 6 conversations are longer than {limit} tokens" in capsys.readouterr().err
    assert [row["reward_cut"] for row in rows] == [True, False, True]
    for prompt, output, row in zip(prompts, outputs, rows, strict=True):
        ids = tokenizer(f"user {prompt['instruction']} assistant {output}", truncation=False)
        with torch.inference_mode():
            logit = model(torch.tensor([ids["input_ids"][:limit]])).logits.item()
        assert row["reward_2"] == pytest.approx(logit, abs=1e-5)


def test_reward_model_refuses_what_it_cannot_read(tiny_reward_model, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoTokenizer.from_pretrained(tiny_reward_model).save_pretrained(tmp_path)
    two = AutoModelForSequenceClassification.from_pretrained(
        tiny_reward_model, num_labels=2, ignore_mismatched_sizes=True
    )
    two.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has 2 outputs"):
        reward_model("rm", {"name": str(tmp_path)}, None)


def test_the_program_with_a_reward_model_scores_all_seeds(tiny_reward_model, tmp_path):
    prompts = make_prompts(6)
    write_jsonl(prompts, tmp_path / "prompts.jsonl")
    for seed in (1, 2):
        write_json(make_generations(prompts, seed), tmp_path / f"g{seed}.json")
    record = json.dumps({"reference_name": "chosen", "torch_threads": 1})
    main([
        "--record", record, "--annotator", "rm", "--settings", '{"kind": "reward_model"}',
        "--usage", str(tmp_path / "usage.json"), "--model", tiny_reward_model,
        "--prompts", str(tmp_path / "prompts.jsonl"),
        "--generations", *(str(tmp_path / f"g{s}.json") for s in (1, 2)),
        "--output", *(str(tmp_path / f"a{s}.json") for s in (1, 2)),
    ])  # fmt: skip
    for seed in (1, 2):
        rows = read_json(tmp_path / f"a{seed}.json")
        assert [row["index"] for row in rows] == list(range(6))
        for row in rows:
            expected = bradley_terry(row["reward_1"], row["reward_2"])
            assert row["preference"] == pytest.approx(expected) and row["reward_cut"] is False


def judging(tmp_path, prompts, generations, record="{}", kind="oracle", *flags):
    write_jsonl(prompts, tmp_path / "prompts.jsonl")
    write_json(generations, tmp_path / "g.json")
    main([
        *flags, "--record", record, "--annotator", "mine", "--settings", json.dumps({"kind": kind}),
        "--prompts", str(tmp_path / "prompts.jsonl"), "--generations", str(tmp_path / "g.json"),
        "--output", str(tmp_path / "a.json"), "--usage", str(tmp_path / "usage.json"),
    ])  # fmt: skip
    return read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        (lambda rows: [], {}, "prompts.jsonl holds no prompts"),
        (lambda rows: [], {"flags": ("--benchmark", "arena")}, "prompts.jsonl holds no prompts"),
        (lambda rows: [{"index": 0}], {}, "row 0: no instruction, prompt, dataset, reference"),
        (lambda rows: rows, {"record": "{}"}, "nor the record has a reference_name"),
        (lambda rows: rows, {"flags": ("--benchmark", "safety")},
         "mine is of kind oracle; expected api or local_judge"),
        (lambda rows: rows, {"flags": ("--benchmark", "arena")}, "of kind oracle; expected api"),
        (lambda rows: rows, {"kind": "program"}, "mine is of kind program; expected api or"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_named(tmp_path, change, given, message):
    prompts = make_prompts(2)
    record = given.get("record", '{"reference_name": "r"}')
    with pytest.raises(UserError, match=message):
        judging(tmp_path, change(prompts), make_generations(prompts), record,
                given.get("kind", "oracle"), *given.get("flags", ()))  # fmt: skip


def test_a_judge_of_single_answers_is_asked_about_no_pairs(tmp_path):
    with pytest.raises(UserError, match="safety's prompt template has no place {output_1}"):
        with open_judge("mine", {"kind": "api", "judge": "safety"}, None):
            pass
