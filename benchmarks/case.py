"""What all arms share: model shape, weights, pairs; and the FLOPs that are useful."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.pairs import Pairs
from poet.train.onednn import choose, products

# All keep Llama-3's proportions: MLP 3.5 or 4 x hidden, a quarter of the heads for keys. The head's
# share of the weights that compute is 24 % on the CPU (Llama-3.2-1B has 21 %, Qwen2.5-0.5B 28 %);
# `8b` is an eighth of Llama-3-8B, 4 of 32 layers and 1 of 8 tokens: its widths and its head's 7 %,
# but every peer fits on one card with float32 weights and AdamW.
SHAPES = {
    "cpu": {
        "vocab_size": 8192, "hidden_size": 256, "intermediate_size": 896,
        "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 1,
    },
    "1b": {
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    },
    "8b": {
        "vocab_size": 16032, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 4, "num_attention_heads": 32, "num_key_value_heads": 8,
    },
}  # fmt: skip


@dataclass
class Case:
    """One comparison: ``policy`` and ``reference`` are models, ``pairs`` one global batch."""

    pairs: Pairs
    policy: LlamaForCausalLM
    reference: LlamaForCausalLM
    device: str
    token_budget: int
    products: dict  # who multiplies, as the project chooses: poet.train.onednn.choose
    beta: float = 0.1

    @property
    def count(self) -> int:
        return len(self.pairs.short["prompt_ids"])


def make_case(shape: str, pairs: Pairs, device: str, token_budget: int) -> Case:
    """Random weights; the reference differs a little, so that no loss is log 2 by itself."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=4096, attn_implementation="sdpa")
    with torch.device(device):
        policy = LlamaForCausalLM(config)
        reference = LlamaForCausalLM(config).requires_grad_(False).eval()
    with torch.no_grad():
        for mine, other in zip(reference.parameters(), policy.parameters(), strict=True):
            mine.copy_(other + 0.1 * other.std() * torch.randn_like(other))
    chosen = choose("auto", config.hidden_size)
    return Case(pairs, policy, reference, device, token_budget, chosen)


def weights(config: LlamaConfig) -> tuple[int, int]:
    """Weights of the body and of the head that take part in matrix products."""
    size = config.hidden_size // config.num_attention_heads
    attention = (
        2 * config.hidden_size * size * (config.num_attention_heads + config.num_key_value_heads)
    )
    mlp = 3 * config.hidden_size * config.intermediate_size
    return config.num_hidden_layers * (attention + mlp), config.vocab_size * config.hidden_size


def useful_flops(case: Case) -> float:
    """FLOPs that a step on the truncated pairs cannot do without, whatever the layout.

    Forward and backward pass, 6 per weight and token: the body on prompt and responses once, the
    head on responses; attention 12 x hidden per layer and visible key. Neither the reference nor
    anything computed twice counts.
    """
    config, total = case.policy.config, 0
    body, head = weights(config)
    for prompt, chosen, rejected in zip(
        *(case.pairs.short[f"{n}_ids"] for n in ("prompt", "chosen", "rejected")), strict=True
    ):
        p, c, r = len(prompt), len(chosen), len(rejected)
        first, second = p + c - 1, p - 1 + r
        seen = (first * (first + 1) + second * (second + 1) - (p - 1) * p) / 2
        total += 6 * (body * (p + c + r - 1) + head * (c + r))
        total += 12 * config.hidden_size * config.num_hidden_layers * seen
    return total


def multiplied(build: Callable, by: str) -> Callable:
    """The same arm with products by oneDNN or torch; also in the reference's pass."""

    @wraps(build)
    def built(*args, **kwargs):
        with products(by):
            trainer = build(*args, **kwargs)
        train = trainer.train

        def train_within(*args, **kwargs):
            with products(by):
                return train(*args, **kwargs)

        trainer.train = train_within
        return trainer

    return built


def matmul_rate(device: str) -> float:
    """FLOP/s of a large matrix product in the dtype that is trained in; the best of five."""
    dtype, n = (torch.bfloat16, 8192) if device == "cuda" else (torch.float32, 2048)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(6):  # the first one warms up
        start = time.perf_counter()
        a @ b
        synchronize(device)
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
