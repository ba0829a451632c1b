"""Training on packed rows against training on padded ones: the same trajectory."""

import random
from collections import defaultdict

import pytest
import torch
from datasets import Dataset
from transformers import AutoConfig
from trl import DPOConfig

from poet.files import UserError
from poet.train import arguments, preference
from poet.train.arguments import common_arguments
from poet.train.forward import choose_forward
from poet.train.packing import add_packed_forward, packed_logps
from poet.train.trainer import PreferenceTrainer, SortedBatches

from .test_packing import alone, make

STEPS, BATCH = 20, 4


@pytest.fixture(scope="module")
def rows():
    """STEPS global batches and a half one, with a made-up reference."""
    numbers = random.Random(0)

    def draw(n):
        return [numbers.randrange(2, 61) for _ in range(n)]

    lengths = [(1, 1, 1), (1, 9, 2), (12, 7, 7), (3, 30, 1)] + [
        tuple(numbers.randint(1, 14) for _ in range(3)) for _ in range(STEPS * BATCH - 6)
    ]
    columns = {name: [] for name in ("prompt_ids", "chosen_ids", "rejected_ids", "pair_hash")}
    columns |= {"ref_chosen_logps": [], "ref_rejected_logps": []}
    for p, c, r in lengths:
        for name, n in (("prompt", p), ("chosen", c), ("rejected", r)):
            columns[f"{name}_ids"].append(draw(n))
        for name, n in (("chosen", c), ("rejected", r)):
            columns[f"ref_{name}_logps"].append([numbers.uniform(-6, -1) for _ in range(n)])
        columns["pair_hash"].append(f"{numbers.getrandbits(64):016x}")
    return columns


def trainer_of(model, start, rows, folder, forward, objective="dpo", **kwargs):
    per_device = None if forward == "packed" else BATCH // 2
    sizes = {"global_batch_size": BATCH, "per_device_batch_size": per_device}
    return PreferenceTrainer(
        model=model,
        args=DPOConfig(
            output_dir=str(folder),
            learning_rate=1e-2,
            num_train_epochs=1,
            max_length=None,
            seed=3,
            **{**common_arguments(sizes), "logging_steps": 1},
        ),
        forward=forward,
        objective=objective,
        parameters={"beta": 0.1} if objective == "dpo" else {"beta": 2.0, "gamma_beta_ratio": 0.5},
        train_dataset=Dataset.from_dict(rows),
        eval_dataset=Dataset.from_dict({name: values[:7] for name, values in rows.items()}),
        processing_class=start[1],
        **kwargs,
    )


def run(trainer):
    """Everything that was logged, step by step, and the weights at the end."""
    step, losses = trainer.training_step, defaultdict(float)

    def training_step(*args, **kwargs):
        loss = step(*args, **kwargs)
        losses[trainer.state.global_step + 1] += loss.item()
        return loss

    trainer.training_step = training_step
    trainer.train()
    trainer.evaluate()
    rows = [row for row in trainer.state.log_history if "train_runtime" not in row]
    for row in rows[:-1]:
        row["loss"] = losses[row["step"]]  # transformers adds it up in float32
    other = ("runtime", "per_second", "epoch")
    rows = [{k: v for k, v in row.items() if not any(t in k for t in other)} for row in rows]
    return rows, trainer.model.state_dict()


def padded64(model, batch):
    """The padded pass without TRL's head, which is float32 inside."""
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    labels, mask = batch["labels"][:, 1:], batch["mask"]
    logps = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return logps.new_zeros(mask.shape).masked_scatter(mask, logps[labels != -100])


@pytest.mark.parametrize(
    ("kind", "objective", "weighting", "budget"),
    [
        ("llama", "dpo", "uniform", 40),
        ("llama", "simpo", "uniform", 1000),
        ("mistral", "dpo", "sampo", 1),  # a row per pair
        ("qwen3", "dpo", {"d2po": 0.9}, 60),
        ("olmo2", "simpo", "uniform", 60),
    ],
)
def test_trajectory(start, rows, tmp_path, kind, objective, weighting, budget):
    common = {"objective": objective, "weighting": weighting}
    padded = trainer_of(make(kind), start, rows, tmp_path, "padded", **common)
    padded.forward = padded64
    packed = trainer_of(make(kind), start, rows, tmp_path, "packed", token_budget=budget, **common)
    (theirs, their_weights), (mine, my_weights) = run(padded), run(packed)
    assert len(mine) == STEPS + 1
    assert mine[0]["loss"] != pytest.approx(mine[-2]["loss"], rel=1e-3)  # it did train
    for found, expected in zip(mine, theirs, strict=True):
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-10)
    torch.testing.assert_close(my_weights, their_weights, rtol=1e-10, atol=1e-10)


def test_default_numerics_to_float_noise(start, rows, tmp_path):
    def model():
        return make("llama", torch.float32)

    theirs, _ = run(trainer_of(model(), start, rows, tmp_path, "padded"))
    mine, _ = run(trainer_of(model(), start, rows, tmp_path, "packed", token_budget=64))
    for found, expected in zip(mine, theirs, strict=True):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_gradient_checkpointing_changes_nothing(start, rows, tmp_path):
    found = []
    for checkpointing in (False, True):
        trainer = trainer_of(make("llama"), start, rows, tmp_path, "packed", token_budget=64)
        if checkpointing:
            trainer.model.gradient_checkpointing_enable()
        found.append(run(trainer)[1])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


def test_reference_pass(rows):
    model = make("qwen2")
    pairs = list(zip(*(rows[f"{n}_ids"] for n in ("prompt", "chosen", "rejected")), strict=True))
    expected = alone(model, pairs).float().chunk(2)
    add_packed_forward(model)
    for i, sides in enumerate(packed_logps(model, pairs, token_budget=50)):
        for found, side in zip(sides, expected, strict=True):
            torch.testing.assert_close(found, side[i, : len(found)])
        assert [len(side) for side in sides] == [len(ids) for ids in pairs[i][1:]]


def test_shares_of_a_batch_cost_the_same():
    lengths = list(range(1, 33))
    order = list(SortedBatches(lengths, 32, seed=0, shares=4))
    assert sorted(order) == list(range(32))
    totals = [sum(lengths[i] for i in order[k : k + 8]) for k in range(0, 32, 8)]
    assert max(totals) - min(totals) <= 24  # blocks of a sorted batch would differ by 192


def test_model_that_cannot_be_packed_is_padded(capsys):
    assert choose_forward("packed", AutoConfig.for_model("llama")) == "packed"
    assert choose_forward("packed", AutoConfig.for_model("gpt2")) == "padded"
    assert "padded and not packed, since gpt2 is not among" in capsys.readouterr().err


def test_optimizer_that_is_not_installed_is_refused(monkeypatch, tmp_path):
    record = {"optim": "adamw_bnb_8bit", "global_batch_size": 4, "per_device_batch_size": 2}
    monkeypatch.setattr(arguments, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="bitsandbytes is not installed"):
        preference.make_arguments(record, tmp_path)
