"""The trainer's means, logs and batches, with every pair's numbers recomputed by themselves."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from poet.files import UserError
from poet.train.arguments import common_arguments
from poet.train.trainer import PREFIXES, SortedBatches

METHODS = {
    "dpo": {"beta": 0.1},
    "simpo": {"beta": 2.0, "gamma_beta_ratio": 0.5},
    "ipo": {"beta": 0.1},
    "ln_dpo": {"beta": 2.0},
    "rpo": {"beta": 0.1, "rpo_alpha": 0.5},
    "alphapo": {"beta": 2.0, "gamma_beta_ratio": 0.5, "alpha": 0.25},
}


def reward(objective, logps, ref, beta, n=None, alpha=None):
    """Implicit reward of the first n tokens of a response, from float64 log-probabilities."""
    logps, ref = logps[:n], torch.tensor(ref[:n], dtype=torch.float64)
    if objective == "simpo":
        return beta * logps.mean().item()
    if objective == "alphapo":
        return beta * (1 - math.exp(-alpha * logps.mean().item())) / alpha
    ratio = (logps - ref).mean() if objective in ("ipo", "ln_dpo") else (logps - ref).sum()
    return beta * ratio.item()


def pair_numbers(objective, parameters, logps, rows, i):
    """Everything that is logged, for one pair; ``logps`` of (chosen, rejected)."""
    of_reward = {key: parameters[key] for key in ("beta", "alpha") if key in parameters}
    beta = parameters["beta"]
    refs = [rows[f"ref_{name}_logps"][i] for name in ("chosen", "rejected")]
    both = list(zip(logps, refs, strict=True))
    chosen, rejected = (reward(objective, y, ref, **of_reward) for y, ref in both)
    margin = chosen - rejected
    numbers = {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": margin,
        "rewards/accuracies": float(margin > 0),
    }
    for name, y in zip(("chosen", "rejected"), logps, strict=True):
        numbers |= {f"logps/{name}": y.sum().item(), f"length/{name}": len(y)}
    for k in PREFIXES:
        at_k = [reward(objective, y, ref, n=k, **of_reward) for y, ref in both]
        numbers[f"rewards/margins_{k}"] = at_k[0] - at_k[1]
    if objective == "ipo":
        numbers["loss"] = (margin / beta - 1 / (2 * beta)) ** 2
    else:
        target = beta * parameters.get("gamma_beta_ratio", 0)
        numbers["loss"] = math.log1p(math.exp(target - margin))
        numbers["loss"] -= parameters.get("rpo_alpha", 0) * logps[0].mean().item()
    return numbers


@pytest.fixture(scope="module")
def of_pair(start, drifted, alone):
    """Per-token log-probabilities of the start model: (chosen, rejected) of every pair."""
    model = AutoModelForCausalLM.from_pretrained(start[0])
    with torch.no_grad():
        return [
            tuple(alone(model, prompt, response) for response in responses)
            for prompt, *responses in zip(
                *(drifted[f"{name}_ids"] for name in ("prompt", "chosen", "rejected")), strict=True
            )
        ]


@pytest.mark.parametrize("objective", METHODS)
@pytest.mark.parametrize("per_device", [1, 4])
def test_every_step_logs_the_means_of_its_pairs(
    trainer_of, drifted, of_pair, objective, per_device
):
    """Also of a last global batch that is not full: 38 pairs in batches of 4, weights at rest."""
    rows = {name: column[:38] for name, column in drifted.items()}
    held_out = {name: column[33:] for name, column in drifted.items()}
    parameters = METHODS[objective]
    trainer = trainer_of(
        rows, objective, per_device=per_device, learning_rate=0.0, eval_rows=held_out,
        per_device_eval_batch_size=3, **parameters,
    )  # fmt: skip
    trainer.train()
    evaluation = trainer.evaluate()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    order = list(SortedBatches([0] * 38, 4, seed=3))  # the pairs of each step, in any order
    steps = [order[i : i + 4] for i in range(0, 38, 4)]
    assert len(logged) == len(steps) == 10 and len(steps[-1]) == 2
    for row, step in zip(logged, steps, strict=True):
        numbers = [pair_numbers(objective, parameters, of_pair[i], rows, i) for i in step]
        for name in numbers[0]:
            mean = sum(pair[name] for pair in numbers) / len(step)
            assert row[name] == pytest.approx(mean, rel=1e-4, abs=1e-4), (name, step)
    numbers = [pair_numbers(objective, parameters, of_pair[i], drifted, i) for i in range(33, 40)]
    for name in numbers[0]:
        mean = sum(pair[name] for pair in numbers) / 7
        assert evaluation[f"eval_{name}"] == pytest.approx(mean, rel=1e-4, abs=1e-4), name


def weights_after(trainer):
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, dict(trainer.model.named_parameters())


@pytest.mark.parametrize("weighting", ["uniform", "sampo"])
def test_accumulation_changes_nothing(trainer_of, drifted, weighting):
    """39 pairs in batches of 4 over two epochs, in one pass per step or in one per pair."""
    rows = {name: column[:39] for name, column in drifted.items()}
    whole, parts = (
        weights_after(
            trainer_of(rows, "rpo", weighting, per_device=n, num_train_epochs=2, rpo_alpha=0.5)
        )
        for n in (4, 1)
    )
    assert len(whole[0]) == 20
    assert parts[0] == pytest.approx(whole[0], rel=2e-4)
    for name, weight in parts[1].items():
        torch.testing.assert_close(weight, whole[1][name], rtol=1e-2, atol=2e-4)


def test_a_tokenizer_without_pad_token_trains_the_same(trainer_of, drifted, start):
    """As Llama-3's: padding is masked, so its id does not matter."""
    rows = {name: column[:8] for name, column in drifted.items()}
    with_pad = weights_after(trainer_of(rows))
    tokenizer = copy.deepcopy(start[1])
    tokenizer.pad_token = None
    without = trainer_of(rows, processing_class=tokenizer)
    assert weights_after(without)[0] == pytest.approx(with_pad[0], abs=1e-6)


def test_sampo_evaluates_on_the_same_draw(trainer_of, drifted):
    trainer = trainer_of(drifted, weighting="sampo", eval_rows=drifted, learning_rate=0.0)
    trainer.state.epoch = 0.0
    first = trainer.evaluate()["eval_loss"]
    trainer.state.epoch = 1.0
    assert trainer.evaluate()["eval_loss"] == first


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
        common_arguments({"global_batch_size": 4, "per_device_batch_size": 3})
