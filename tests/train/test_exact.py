"""POET by truncation against POET by masks, through a whole model.

The formulas are written here, over full responses that the model reads whole, one at a time and
without padding, with both losses masked to the shared length; the trainer gets truncated pairs.
"""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from poet.methods.truncation import truncate_pair

METHODS = {
    "dpo": {"beta": 0.1},
    "simpo": {"beta": 2.0, "gamma_beta_ratio": 0.5},
    "ipo": {"beta": 0.1},
    "ln_dpo": {"beta": 2.0},
    "rpo": {"beta": 0.1, "rpo_alpha": 0.5},
    "alphapo": {"beta": 2.0, "gamma_beta_ratio": 0.5, "alpha": 0.25},
}
EOS = 1
ids = st.lists(st.integers(0, 250), min_size=1, max_size=12)  # EOS inside, and one-token responses


@st.composite
def batches(draw):
    pairs = []
    for i in range(draw(st.integers(1, 3))):
        prompt, chosen, rejected = draw(ids), draw(ids), draw(ids)
        if draw(st.booleans()):  # equal lengths
            rejected = (rejected * 12)[: len(chosen)]
        logps = st.floats(-9, 0, width=32)
        pairs.append(
            {
                "prompt_ids": prompt,
                "chosen_ids": [*chosen, EOS],
                "rejected_ids": [*rejected, EOS],
                "ref_chosen_logps": [draw(logps) for _ in range(len(chosen) + 1)],
                "ref_rejected_logps": [draw(logps) for _ in range(len(rejected) + 1)],
                "pair_hash": f"{i:016x}",
            }
        )
    return pairs


def masked_loss(
    objective, model, alone, pair, beta, gamma_beta_ratio=0.0, rpo_alpha=0.0, alpha=1.0
):
    """The loss of a full pair, both responses masked after the shared length."""
    n = min(len(pair["chosen_ids"]), len(pair["rejected_ids"]))
    sums, ratios = [], []
    for name in ("chosen", "rejected"):
        logps = alone(model, pair["prompt_ids"], pair[f"{name}_ids"])
        mask = (torch.arange(len(logps)) < n).double()
        ref = torch.tensor(pair[f"ref_{name}_logps"], dtype=torch.float64)
        sums.append((mask * logps).sum())
        ratios.append((mask * (logps - ref)).sum())
    powers = [(1 - torch.exp(-alpha * total / n)) / alpha for total in sums]
    difference = {
        "alphapo": powers[0] - powers[1] - gamma_beta_ratio,
        "simpo": (sums[0] - sums[1]) / n - gamma_beta_ratio,
        "ln_dpo": (ratios[0] - ratios[1]) / n,
        "ipo": (ratios[0] - ratios[1]) / n,
    }.get(objective, ratios[0] - ratios[1])
    if objective == "ipo":
        return (difference - 1 / (2 * beta)) ** 2
    return F.softplus(-beta * difference) - rpo_alpha * sums[0] / n


def truncated(pair):
    out = dict(pair)
    for suffix, prefix in (("_ids", ""), ("_logps", "ref_")):
        names = [f"{prefix}chosen{suffix}", f"{prefix}rejected{suffix}"]
        out |= dict(zip(names, truncate_pair(*(pair[name] for name in names)), strict=True))
    return out


def both(trainer, plain, alone, objective, pairs):
    """(loss, gradients) of the trainer on truncated pairs, and of the masked formula."""
    batch = trainer.data_collator([truncated(pair) for pair in pairs])
    loss = trainer.compute_loss(trainer.model, batch)
    losses = [masked_loss(objective, plain, alone, pair, **METHODS[objective]) for pair in pairs]
    expected = torch.stack(losses).mean()
    out = []
    for model, value in ((trainer.model, loss), (plain, expected)):
        model.zero_grad()
        value.backward()
        out.append((value.detach().double(), {n: p.grad for n, p in model.named_parameters()}))
    return out


class DoubleHead:
    """TRL's fused head, which computes in float32, in float64."""

    @staticmethod
    def apply(hidden, weight, bias, labels, *settings):
        logps = (hidden @ weight.T).log_softmax(-1).gather(-1, labels[:, None])[:, 0]
        return logps, None, None, None, None


def norm(self, x):
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def rotary(self, x, position_ids):
    size = self.config.hidden_size // self.config.num_attention_heads
    steps = torch.arange(0, size, 2, dtype=torch.float64) / size
    angles = position_ids[..., None].double() / self.config.rope_parameters["rope_theta"] ** steps
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


@pytest.fixture
def double(start, monkeypatch):
    """A model that computes in float64 throughout; stock Llama falls back to float32 in places."""
    monkeypatch.setattr(LlamaRMSNorm, "forward", norm)
    monkeypatch.setattr(LlamaRotaryEmbedding, "forward", rotary)
    monkeypatch.setattr("trl.trainer.utils._ChunkedLogProbFunction", DoubleHead)
    return AutoModelForCausalLM.from_pretrained(start[0], dtype=torch.float64)


@pytest.fixture
def make(trainer_of, drifted):
    return lambda objective, model: trainer_of(
        drifted, objective, model=copy.deepcopy(model), **METHODS[objective]
    )


@pytest.mark.parametrize("objective", METHODS)
def test_loss_and_gradients_in_float64(double, make, alone, objective):
    trainer = make(objective, double)
    seen = SimpleNamespace(shapes=set())

    @settings(max_examples=60)
    @given(batches())
    def check(pairs):
        (loss, gradients), (expected, masked) = both(trainer, double, alone, objective, pairs)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-10, abs=1e-10)
        for name, gradient in gradients.items():
            assert gradient.dtype == torch.float64
            torch.testing.assert_close(gradient, masked[name], rtol=1e-10, atol=1e-10)
        seen.shapes |= {(len(p["chosen_ids"]), len(p["rejected_ids"])) for p in pairs}

    check()
    assert len(seen.shapes) > 10  # how many more, chance decides


@pytest.mark.parametrize("objective", METHODS)
def test_loss_and_gradients_in_float32(start, make, alone, objective):
    """The stock model, to the noise of float32."""
    plain = AutoModelForCausalLM.from_pretrained(start[0])
    trainer = make(objective, plain)

    @settings(max_examples=20)
    @given(batches())
    def check(pairs):
        (loss, gradients), (expected, masked) = both(trainer, plain, alone, objective, pairs)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
        scale = max(gradient.abs().max().item() for gradient in masked.values())
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, masked[name], rtol=1e-3, atol=1e-4 * scale + 1e-6)

    check()


def test_float32_is_not_enough_for_the_bound(start, make, alone):
    """What the float64 test could not tell if the model secretly computed in float32."""
    plain = AutoModelForCausalLM.from_pretrained(start[0])
    pair = {
        "prompt_ids": [5, 6], "chosen_ids": [30, 31, 32, EOS], "rejected_ids": [40, EOS],
        "ref_chosen_logps": [-4.0] * 4, "ref_rejected_logps": [-5.0] * 2, "pair_hash": "0" * 16,
    }  # fmt: skip
    (loss, _), (expected, _) = both(make("dpo", plain), plain, alone, "dpo", [pair])
    assert loss.item() != pytest.approx(expected.item(), rel=1e-10, abs=1e-10)
