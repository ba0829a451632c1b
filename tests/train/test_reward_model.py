"""The reward model learns a toy preference, scores alike in any batch and loses no pair."""

import json
import random
import signal

import pyarrow
import pytest
import torch
from pyarrow import parquet
from transformers import AutoTokenizer

from poet import precision
from poet.data.preferences import write_parquet
from poet.evaluate.annotators import reward_model as annotator
from poet.files import UserError, read_json
from poet.train import reward_model
from training_runs import start_and_end

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
GOOD, BAD = ["green", "calm", "warm", "kind"], ["grey", "loud", "cold", "rude"]
TOPICS = ["sea", "wood", "town", "hill", "lake", "road"]
SETTINGS = {
    "learning_rate": 3e-3,
    "num_train_epochs": 1,
    "global_batch_size": 8,
    "per_device_batch_size": 4,
    "max_length": 48,
    "seed": 0,
}


def make_base(folder, template=TEMPLATE, pad_token="<pad>"):
    """A tiny Llama with random weights and a BPE tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>", "<user>", "<assistant>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [" ".join(GOOD + BAD + TOPICS)] * 20
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="</s>", pad_token=pad_token, chat_template=template
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_pairs(path, n_train=240, n_test=80, longest=8):
    """Responses of several words; the better one has more good words."""
    draw = random.Random(0)

    def response(words):
        n = draw.randint(3, longest)
        return [{"role": "assistant", "content": " ".join(draw.choices(words, k=n))}]

    rows = []
    for i in range(n_train + n_test):
        prompt = [{"role": "user", "content": f"{draw.choice(TOPICS)} {i}"}]
        pair = {"chosen": response(GOOD * 3 + BAD), "rejected": response(GOOD + BAD * 3)}
        split = "train" if i < n_train else "test"
        rows.append({"prompt": prompt, **pair, "prompt_id": str(i), "split": split})
    write_parquet(rows, path, ("prompt", "chosen", "rejected"), ("prompt_id", "split"))
    return path


def arguments(base, pairs, output, **settings):
    record = {"setting": "own", "torch_threads": 1, "chat_template_kwargs": {}}
    record["reward_model"] = {**SETTINGS, **settings}
    return (
        ["--record", json.dumps(record), "--pairs", str(pairs), "--base", str(base)]
        + ["--output", str(output), "--report-to", "--logs", "unused", "--save-steps", "5"]
        + ["--checkpoints", str(output.with_suffix(".checkpoints"))]
    )


def run(base, pairs, output, **settings):
    reward_model.main(arguments(base, pairs, output, **settings))
    return read_json(output / "train.json")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward_model")
    base, pairs = make_base(folder / "base"), make_pairs(folder / "pairs.parquet")
    report = run(base, pairs, folder / "model", num_train_epochs=2)
    return {"folder": folder, "base": base, "pairs": pairs, "report": report}


def load(folder):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def test_learns_a_preference_that_holds_on_unseen_prompts(trained):
    report = trained["report"]
    found = report["test_accuracy"]
    assert found["n"] == 80 and found["accuracy"] > 0.8 and found["ci_low"] > 0.5
    assert sum(of["n"] for of in found["by_length"].values()) == 80
    assert found["length_alone"]["n"] == 80
    losses = [entry["loss"] for entry in report["log_history"] if "loss" in entry]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("n_words", [1, 200])
def test_lengths_are_of_responses_whatever_their_prompts(trained, tmp_path, n_words):
    tokenizer = AutoTokenizer.from_pretrained(trained["base"])
    prompt = [{"role": "user", "content": " ".join(["sea"] * n_words)}]
    texts = ["kind warm calm", "grey loud " * 20]
    both = [[{"role": "assistant", "content": text}] for text in texts]
    rows = [
        {"prompt": prompt, "chosen": both[0], "rejected": both[1], "prompt_id": "0", "split": split}
        for split in ("train", "test")
    ]
    write_parquet(rows, tmp_path / "p", ("prompt", "chosen", "rejected"), ("prompt_id", "split"))
    found, counts = reward_model.load_pairs(tmp_path / "p", tokenizer, 30, {})
    lengths = tuple(len(tokenizer.tokenize(text)) + 1 for text in texts)  # </s>
    assert found["test"]["lengths"] == found["train"]["lengths"] == [lengths]
    assert counts["test"]["responses_cut"] == (1 if n_words == 1 else 2)
    assert found["test"]["prompts"] == ["0"]


def test_saved_folder_is_a_classifier_that_anyone_can_load(trained):
    folder = trained["folder"] / "model"
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "tokenizer.json", "train.json"} <= names
    assert not list(folder.glob("*.bin"))
    model, tokenizer = load(folder)
    assert model.config.num_labels == 1 and model.dtype == torch.float32
    assert model.config.pad_token_id == tokenizer.pad_token_id is not None
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.model_max_length == SETTINGS["max_length"]
    assert trained["report"]["record"]["reward_model"]["learning_rate"] == 3e-3


@pytest.mark.parametrize("pad_token", ["<pad>", None], ids=["own pad token", "pad is eos"])
def test_reward_is_the_same_alone_and_in_any_batch(tmp_path, pad_token):
    base = make_base(tmp_path / "base", pad_token=pad_token)
    pairs = make_pairs(tmp_path / "pairs.parquet", n_train=8, n_test=8)
    run(base, pairs, tmp_path / "model")
    model, tokenizer = load(tmp_path / "model")
    conversations = [
        [{"role": "user", "content": "sea"}, {"role": "assistant", "content": " ".join(GOOD * n)}]
        for n in (3, 1, 5, 2)
    ]
    sequences, _ = reward_model.encode(tokenizer, conversations, 48, {})
    assert sequences[1][-1] == tokenizer.eos_token_id
    batched = reward_model.score(model, sequences, 4, "batch")
    alone = [model(torch.tensor([ids])).logits.item() for ids in sequences]
    tokenizer.padding_side = "left"
    padded = tokenizer.pad({"input_ids": sequences}, return_tensors="pt")
    assert batched == pytest.approx(alone, abs=1e-5)
    assert model(**padded).logits.squeeze(-1).tolist() == pytest.approx(alone, abs=1e-5)


def test_long_responses_are_cut_and_counted_not_dropped(trained, tmp_path):
    pairs = make_pairs(tmp_path / "pairs.parquet", n_train=16, n_test=8, longest=30)
    report = run(trained["base"], pairs, tmp_path / "model", max_length=16)
    _, tokenizer = load(tmp_path / "model")
    rows = parquet.read_table(pairs).to_pylist()
    for split, n in (("train", 16), ("test", 8)):
        texts = [
            tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=False)
            for row in rows
            if row["split"] == split
            for side in ("chosen", "rejected")
        ]
        n_long = sum(len(tokenizer(text, truncation=False)["input_ids"]) > 16 for text in texts)
        assert report["data"][split]["pairs"] == n
        assert report["data"][split]["responses_cut"] == n_long > 0
    assert report["test_accuracy"]["n"] == 8
    assert [entry["step"] for entry in report["log_history"]] == [2]


def test_in_bfloat16_it_learns_and_judges_the_same(trained, tmp_path, monkeypatch):
    """Training, its test pairs and the annotator; a CPU without bfloat16 emulates it here."""
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: True)
    # At ten times the rate two float32 trainings part too, once their start weights are rounded.
    same = {"num_train_epochs": 2, "learning_rate": 3e-4}
    wide = run(trained["base"], trained["pairs"], tmp_path / "wide", **same)
    report = run(trained["base"], trained["pairs"], tmp_path / "model", **same, dtype="bfloat16")
    assert (wide["computed_in"], report["computed_in"]) == ("float32", "bfloat16")
    losses = [
        [entry["loss"] for entry in each["log_history"] if "loss" in entry]
        for each in (wide, report)
    ]
    assert losses[1] != losses[0] and losses[1] == pytest.approx(losses[0], abs=5e-3)
    accuracies = [each["test_accuracy"]["accuracy"] for each in (wide, report)]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.03)
    assert load(tmp_path / "model")[0].dtype == torch.float32  # what is published
    prompts = [{"prompt": [{"role": "user", "content": topic}]} for topic in TOPICS]
    outputs = [" ".join((GOOD + BAD)[i : i + 3]) for i in range(len(TOPICS))]
    rewards = {}
    for native in (True, False):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device, native=native: native)
        judge = annotator.reward_model("own", {}, str(tmp_path / "model"))
        rewards[native] = judge.rewards(prompts, outputs)[0]
    spread = max(rewards[False]) - min(rewards[False])
    assert rewards[True] != rewards[False]
    assert rewards[True] == pytest.approx(rewards[False], abs=spread / 20)


def test_same_seed_same_bytes(trained, tmp_path):
    pairs = make_pairs(tmp_path / "pairs.parquet", n_train=16, n_test=8)
    first, second = (
        {
            name: (tmp_path / model / name).read_bytes()
            for model in [run(trained["base"], pairs, tmp_path / model) and model]
            for name in ("model.safetensors", "config.json", "train.json")
        }
        for model in ("a", "b")
    )
    assert first == second


def test_a_killed_run_ends_the_same(trained, tmp_path):
    pairs = make_pairs(tmp_path / "pairs.parquet", n_train=36, n_test=8)
    given = trained["base"], pairs
    expected = run(*given, tmp_path / "a", num_train_epochs=2)
    argv = arguments(*given, tmp_path / "b", num_train_epochs=2)
    # 5 steps an epoch of 9 micro-batches, a checkpoint after the first epoch.
    for after in (6, 13, 4):
        code = start_and_end(
            argv, tmp_path / "log", "reward_model", on="training_step", after=after
        )
        assert code == -signal.SIGKILL, (tmp_path / "log").read_text()
    found = run(*given, tmp_path / "b", num_train_epochs=2)
    assert found["log_history"] == expected["log_history"]
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert a == b


def test_refusals(trained, tmp_path):
    output = tmp_path / "model"
    with pytest.raises(UserError, match="has 64 positions.*\n.*max_length: 100"):
        run(trained["base"], trained["pairs"], output, max_length=100)
    with pytest.raises(UserError, match="global_batch_size 6 is not a multiple"):
        run(trained["base"], trained["pairs"], output, global_batch_size=6)
    with pytest.raises(UserError, match="no test pairs"):
        run(trained["base"], make_pairs(tmp_path / "p.parquet", 8, 0), output)
    plain = make_base(tmp_path / "plain", template=None)
    with pytest.raises(UserError, match="no chat template"):
        run(plain, trained["pairs"], output)
    assert not output.exists()


def test_progress_goes_to_stderr_as_lines(trained, tmp_path, capfd):
    pairs = make_pairs(tmp_path / "pairs.parquet", n_train=16, n_test=8)
    run(trained["base"], pairs, tmp_path / "model")
    captured = capfd.readouterr()
    assert "reward model 100%" in captured.err and "2/2" in captured.err
    assert "\rreward model" not in captured.err and "loss" not in captured.out


def test_it_reads_what_tokenization_keeps_with_the_rows_own_variables(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_base(tmp_path / "base"))
    tokenizer.chat_template = "{{ strftime_now('%Y') }} {{ mood | default('') }} " + TEMPLATE
    pairs = make_pairs(tmp_path / "pairs.parquet", n_train=4, n_test=2)
    rows = parquet.read_table(pairs).to_pylist()
    rows[1]["rejected"][0]["content"] += " </s> good"
    for row in rows:
        row["chat_template_kwargs"] = '{"mood": "sad"}' if row["split"] == "test" else None
    parquet.write_table(pyarrow.Table.from_pylist(rows), pairs)
    splits, counts = reward_model.load_pairs(pairs, tokenizer, 60, {"strftime_now": "1999-01-01"})
    assert (counts["train"]["pairs"], counts["train"]["pairs_with_special_tokens"]) == (3, 1)
    assert (counts["test"]["pairs"], counts["test"]["pairs_with_special_tokens"]) == (2, 0)
    expected = {"train": "1999  ", "test": "1999 sad "}
    for split, head in expected.items():
        ids = tokenizer(head, add_special_tokens=False)["input_ids"]
        assert all(row[: len(ids)] == ids for row in splits[split]["chosen_ids"])
