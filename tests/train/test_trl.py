"""The trainer against TRL's own trainers, on the same tokens: losses, gradients, trajectories."""

import math

import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DPOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.trainer.utils import add_fused_lm_head

from poet.data.encoding import encode_pairs
from poet.data.templates import Chat
from poet.methods.truncation import truncate_pair
from poet.train.reference import compute
from poet.train.trainer import PreferenceTrainer

BETA = 0.1


class PretokenizedDPO(DPOTrainer):
    """TRL's trainer on token ids, in the order of ours: no second tokenization or shuffle."""

    packed = False
    _get_train_sampler = PreferenceTrainer._get_train_sampler

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset


@pytest.fixture(scope="module")
def cached(start, pairs):
    """The pairs with the start model's log-probabilities."""
    model = AutoModelForCausalLM.from_pretrained(start[0]).eval()
    add_fused_lm_head(model)
    columns = compute(model, pa.table(pairs), 8, pad=0, label="reference")
    return {**pairs, **{name: column.to_pylist() for name, column in columns.items()}}


def truncated(rows):
    """POET on every column that runs along a response."""
    out = dict(rows)
    for a, b in (("chosen_ids", "rejected_ids"), ("ref_chosen_logps", "ref_rejected_logps")):
        cut = [truncate_pair(*pair) for pair in zip(rows[a], rows[b], strict=True)]
        out[a], out[b] = zip(*cut, strict=True)
    return out


@pytest.fixture
def trl_of(start, training_arguments):
    def make(rows, per_device=4, **kwargs):
        return PretokenizedDPO(
            model=AutoModelForCausalLM.from_pretrained(start[0]),
            ref_model=AutoModelForCausalLM.from_pretrained(start[0]),
            args=training_arguments(per_device, beta=BETA, **kwargs),
            train_dataset=Dataset.from_dict(rows),
            processing_class=start[1],
        )

    return make


def first_step(trainer, rows=slice(0, 8)):
    """Loss and gradients on the first rows, before any update."""
    data = trainer.train_dataset[rows]
    names = list(data)
    examples = [dict(zip(names, row, strict=True)) for row in zip(*data.values(), strict=True)]
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(examples))
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    return loss.item(), gradients


def trajectory(trainer):
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, {n: p.detach().clone() for n, p in trainer.model.named_parameters()}


def assert_same_training(mine, theirs):
    """One batch's loss and gradients, and ten steps of training, to float32 noise."""
    loss, gradients = first_step(mine)
    expected, expected_gradients = first_step(theirs)
    assert loss == pytest.approx(expected, rel=1e-5)
    largest = max(gradient.abs().max() for gradient in expected_gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected_gradients[name], rtol=1e-3, atol=1e-5 * largest.item()
        )
    losses, weights = trajectory(mine)
    expected, expected_weights = trajectory(theirs)
    assert len(losses) == 10
    assert losses[-1] != pytest.approx(losses[0], abs=1e-3)  # it did train
    assert losses == pytest.approx(expected, rel=2e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected_weights[name], rtol=1e-2, atol=2e-4)


def test_dpo_is_trls_dpo(trainer_of, trl_of, cached, pairs):
    trainer = trainer_of(cached, beta=BETA)
    assert first_step(trainer)[0] == pytest.approx(math.log(2), abs=1e-5)
    assert_same_training(trainer, trl_of(pairs))


def test_dpo_poet_is_trls_ld_dpo_with_alpha_zero(trainer_of, trl_of, cached, pairs):
    assert_same_training(trainer_of(truncated(cached), beta=BETA), trl_of(pairs, ld_alpha=0.0))


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_ld_weighting_is_trls_ld_alpha(trainer_of, trl_of, cached, pairs, alpha):
    mine = trainer_of(cached, weighting={"ld": alpha}, beta=BETA)
    assert_same_training(mine, trl_of(pairs, ld_alpha=alpha))


@pytest.mark.parametrize(("objective", "loss_type"), [("ipo", "ipo"), ("ln_dpo", "sigmoid_norm")])
def test_means_of_log_ratios_are_trls(trainer_of, trl_of, cached, pairs, objective, loss_type):
    mine = trainer_of(cached, objective, beta=BETA)
    assert_same_training(mine, trl_of(pairs, loss_type=[loss_type]))


def test_rpo_is_trls_dpo_and_sft(trainer_of, trl_of, cached, pairs):
    """TRL's likelihood term is the mean of a micro-batch's tokens: here of one pair's."""
    mine = trainer_of(cached, "rpo", beta=BETA, rpo_alpha=0.5, per_device=1)
    weights = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}
    theirs = trl_of(pairs, per_device=1, **weights)
    losses = []
    for row in range(8):
        one = slice(row, row + 1)
        losses.append(first_step(mine, one)[0])
        assert losses[-1] == pytest.approx(first_step(theirs, one)[0], rel=1e-5)
    assert losses[0] > math.log(2) + 0.5  # the likelihood term is there
    mine, theirs = trajectory(mine), trajectory(theirs)
    assert mine[0] == pytest.approx(theirs[0], rel=2e-4)


@pytest.mark.parametrize(("objective", "alpha"), [("simpo", {}), ("alphapo", {"alpha": 0.25})])
def test_simpo_and_alphapo_are_trls_cpo(objective, alpha, start, trainer_of, training_arguments):
    """CPOTrainer tokenizes by itself, so on rows where its tokens are ours."""
    folder, tokenizer = start
    words = ["the", "river", "of", "Arlen", "is", "Morin", "long", "!"]

    def message(role, i, n):
        return [{"role": role, "content": " ".join(words[(i * j + j) % 8] for j in range(n))}]

    prompts = [message("user", i, 1 + i % 5) for i in range(40)]
    chosen = [message("assistant", i + 1, 1 + i % 7) for i in range(40)]
    rejected = [message("assistant", i + 2, 1 + i % 4) for i in range(40)]
    messages = {"prompt": prompts, "chosen": chosen, "rejected": rejected}
    chat = Chat(tokenizer, "keep_start", {})
    prompt_ids, chosen_ids = encode_pairs(chat, prompts, chosen)
    _, rejected_ids = encode_pairs(chat, prompts, rejected)
    rows = {
        "prompt_ids": prompt_ids, "chosen_ids": chosen_ids, "rejected_ids": rejected_ids,
        "ref_chosen_logps": [[0.0] * len(ids) for ids in chosen_ids],
        "ref_rejected_logps": [[0.0] * len(ids) for ids in rejected_ids],
        "pair_hash": [f"{i:016x}" for i in range(40)],
    }  # fmt: skip
    mine = trainer_of(rows, objective, beta=2.0, gamma_beta_ratio=0.5, **alpha)

    class SameOrderCPO(CPOTrainer):
        def _get_train_sampler(self, train_dataset=None):
            return mine._get_train_sampler()

    theirs = SameOrderCPO(
        model=AutoModelForCausalLM.from_pretrained(folder),
        args=training_arguments(
            cls=CPOConfig, loss_type=objective, cpo_alpha=0.0, beta=2.0, simpo_gamma=1.0,
            max_length=256, **alpha,
        ),
        train_dataset=Dataset.from_dict(messages),
        processing_class=tokenizer,
    )  # fmt: skip
    for name, ids in (("chosen", chosen_ids), ("rejected", rejected_ids)):
        joined = [p + r for p, r in zip(prompt_ids, ids, strict=True)]
        assert list(theirs.train_dataset[f"{name}_input_ids"]) == joined
    assert_same_training(mine, theirs)
