"""Activations that a packed row keeps for its backward pass, counted on layers of Llama-3-8B.

    python -m benchmarks.memory

Two numbers of layers at full width, under bfloat16 autocast on the CPU: the difference is what a
layer keeps per token. The CPU's attention repeats keys and values per head group, the GPU's does
not, so this is a little more than a GPU keeps.
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from poet.train.packing import add_packed_forward, make_pack

TOKENS = 64
SIZES = {
    "vocab_size": 1024, "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_key_value_heads": 8,
}  # fmt: skip


def kept_bytes(layers: int) -> int:
    """Bytes of the tensors that one forward pass saves, each storage once, weights not counted."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=layers))
    model.to_empty(device="cpu")  # values do not matter
    add_packed_forward(model)
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    cast = {p.shape for p in model.parameters()} | {p.shape[::-1] for p in model.parameters()}
    kept = {}

    def pack(tensor):
        if (
            tensor.shape not in cast
        ):  # autocast's copies of weights are once per step, not per token
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    ids = list(range(TOKENS // 2))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16):
            model(pack=make_pack([(ids[:2], ids[: TOKENS // 2], ids[: TOKENS // 2 - 1])]))
    return sum(size for pointer, (size, _) in kept.items() if pointer not in parameters)


if __name__ == "__main__":
    per_token = (kept_bytes(2) - kept_bytes(1)) / TOKENS
    print(
        f"{per_token / 1e3:.0f} kB per token and layer; x 32 layers {32 * per_token / 1e6:.2f} MB"
    )
