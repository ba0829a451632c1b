"""The trainer against TRL's own DPOTrainer and against the objectives recomputed in float64."""

import math
import random

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from poet.data.truncation import truncate_pair
from poet.files import UserError
from poet.train.arguments import common_arguments
from poet.train.forward import PairCollator
from poet.train.reference import compute
from poet.train.trainer import PreferenceTrainer, SortedBatches

STEPS = 10


class PretokenizedDPO(DPOTrainer):
    """TRL's trainer on token ids, in the order of ours: no second tokenization or shuffle."""

    _get_train_sampler = PreferenceTrainer._get_train_sampler

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset


@pytest.fixture(scope="module")
def pairs(start):
    """Pairs of very unequal lengths, one-token and equal-length responses among them."""
    random.seed(0)

    def draw(n):
        return [random.randrange(10, 250) for _ in range(n)]

    lengths = [(1, 7), (9, 9), (20, 1)] + [
        (random.randint(1, 25), random.randint(1, 25)) for _ in range(4 * STEPS - 3)
    ]
    rows = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": [], "pair_hash": []}
    for chosen, rejected in lengths:
        rows["prompt_ids"].append(draw(random.randint(1, 12)))
        rows["chosen_ids"].append([*draw(chosen - 1), 1])
        rows["rejected_ids"].append([*draw(rejected - 1), 1])
        rows["pair_hash"].append(f"{random.getrandbits(64):016x}")
    return rows


def truncated(pairs):
    cut = [
        truncate_pair(c, r) for c, r in zip(pairs["chosen_ids"], pairs["rejected_ids"], strict=True)
    ]
    return {**pairs, "chosen_ids": [c for c, _ in cut], "rejected_ids": [r for _, r in cut]}


def cached(start, pairs, batch_size=8):
    from trl.trainer.utils import add_fused_lm_head

    model = AutoModelForCausalLM.from_pretrained(start[0]).eval()
    add_fused_lm_head(model)
    return compute(model, pairs, batch_size, pad=0, label="reference")


def config(folder, per_device=4, **kwargs):
    return DPOConfig(
        output_dir=str(folder),
        learning_rate=1e-2,
        num_train_epochs=1,
        max_length=None,
        seed=3,
        **{**common_arguments(4, per_device), "logging_steps": 1},
        **kwargs,
    )


def trajectory(trainer):
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == STEPS
    return losses, {n: p.detach().clone() for n, p in trainer.model.named_parameters()}


def ours(start, rows, tmp_path, objective="dpo", beta=0.1, per_device=4, **parameters):
    return PreferenceTrainer(
        model=AutoModelForCausalLM.from_pretrained(start[0]),
        args=config(tmp_path, per_device),
        objective=objective,
        parameters={"beta": beta, **parameters},
        train_dataset=Dataset.from_dict(rows),
        processing_class=start[1],
    )


def trl(start, rows, tmp_path, **kwargs):
    return PretokenizedDPO(
        model=str(start[0]),
        ref_model=AutoModelForCausalLM.from_pretrained(start[0]),
        args=config(tmp_path, beta=0.1, **kwargs),
        train_dataset=Dataset.from_dict(rows),
        processing_class=start[1],
    )


def assert_same(mine, theirs):
    assert mine[0] == pytest.approx(theirs[0], rel=2e-4)
    for name, weight in mine[1].items():
        torch.testing.assert_close(weight, theirs[1][name], rtol=1e-2, atol=2e-4)


def test_dpo_is_trls_dpo(start, pairs, tmp_path):
    rows = {**pairs, **cached(start, pairs)}
    mine = trajectory(ours(start, rows, tmp_path))
    theirs = trajectory(trl(start, pairs, tmp_path))
    assert mine[0][0] == pytest.approx(math.log(2), abs=1e-5)
    assert mine[0][-1] != pytest.approx(mine[0][0], abs=1e-3)  # it did train
    assert_same(mine, theirs)


def test_dpo_poet_is_trls_ld_dpo_with_alpha_zero(start, pairs, tmp_path):
    short = truncated(pairs)
    full = cached(start, pairs)
    for name in ("chosen", "rejected"):
        full[f"ref_{name}_logps"] = [
            logps[: len(ids)]
            for logps, ids in zip(full[f"ref_{name}_logps"], short[f"{name}_ids"], strict=True)
        ]
    mine = trajectory(ours(start, {**short, **full}, tmp_path))
    theirs = trajectory(trl(start, pairs, tmp_path, ld_alpha=0.0))
    assert_same(mine, theirs)


def test_simpo_is_its_formula(start, pairs, tmp_path):
    beta, ratio = 2.0, 0.5
    rows = {**pairs, **cached(start, pairs)}
    trainer = ours(start, rows, tmp_path, "simpo", beta, gamma_beta_ratio=ratio)
    batch = PairCollator(0)([{k: v[i] for k, v in rows.items()} for i in range(8)])
    loss = trainer.compute_loss(trainer.model, batch)

    model = AutoModelForCausalLM.from_pretrained(start[0])

    def mean_logp(prompt, response):
        logits = model(torch.tensor([prompt + response])).logits[0].double()
        logps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        return logps.gather(-1, torch.tensor(response)[:, None]).mean()

    losses = []
    for i in range(8):
        prompt = pairs["prompt_ids"][i]
        margin = beta * (
            mean_logp(prompt, pairs["chosen_ids"][i]) - mean_logp(prompt, pairs["rejected_ids"][i])
        )
        losses.append(-torch.log(torch.sigmoid(margin - beta * ratio)))
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_logged_rewards_are_means_over_pairs(start, pairs, tmp_path):
    rows = {**pairs, **cached(start, pairs)}
    trainer = ours(start, rows, tmp_path)
    trainer.train()
    first = trainer.state.log_history[0]
    for name in ("chosen", "rejected"):  # at the start the policy is the reference
        assert first[f"rewards/{name}"] == pytest.approx(0, abs=1e-4)
    last = [row for row in trainer.state.log_history if "rewards/margins" in row][-1]
    assert last["rewards/margins"] == pytest.approx(
        last["rewards/chosen"] - last["rewards/rejected"], abs=1e-5
    )
    lengths = [len(ids) for ids in pairs["chosen_ids"]]
    logged = [r["length/chosen"] for r in trainer.state.log_history if "length/chosen" in r]
    assert sum(logged) / STEPS == pytest.approx(sum(lengths) / len(lengths), rel=1e-5)


def test_gradient_accumulation_keeps_the_global_batch(start, pairs, tmp_path):
    rows = {**pairs, **cached(start, pairs)}
    whole = trajectory(ours(start, rows, tmp_path))
    halves = trajectory(ours(start, rows, tmp_path, per_device=2))
    assert_same(halves, whole)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5))
def test_sampler_shuffles_globally_and_sorts_within_a_batch(lengths, size, seed):
    sampler = SortedBatches(lengths, size, seed)
    first = list(sampler)
    assert sorted(first) == list(range(len(lengths)))
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(lengths), generator=generator).tolist()
    for start in range(0, len(first), size):
        batch = first[start : start + size]
        assert set(batch) == set(shuffled[start : start + size])
        assert [lengths[i] for i in batch] == sorted(lengths[i] for i in batch)
    assert list(sampler) == first
    if len(lengths) > 20:
        sampler.set_epoch(1)
        assert list(sampler) != first


def test_batch_that_does_not_divide_is_refused():
    with pytest.raises(
        UserError, match="global_batch_size 4 is not a multiple of 1 processes x per"
    ):
        common_arguments(4, 3)
