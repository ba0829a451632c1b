"""How much goes through a model at a time where a configuration says ``auto``.

By the model's architecture and the data's lengths, never by the machine: results would differ by
rounding from one to the next. Activations may take as much as a training's states, at least 1 GiB
and at most 8 GiB.
"""

from __future__ import annotations

from poet.sizes.architecture import Architecture

GIB = 2**30
LEAST, MOST = 1 * GIB, 8 * GIB
STATES = 16  # bytes per parameter: float32 weights, gradients, Adam's two moments
TOKENS = 16384  # per pass, at most: more makes no device faster
ROWS = 64  # answers sampled together, at most
UNKNOWN = {"token_budget": 2048, "reference_batch_size": 4, "per_device_batch_size": 1}  # shapes


def kept_bytes(shape: Architecture, checkpointing: bool) -> int:
    """Bytes of activations that a training keeps of a token until the backward pass, float32.

    About 34 per hidden unit and 8 per unit of the gated MLP in every layer (Korthikanti et al.
    2022, arXiv 2205.05198, section 4, in 16 bits), twice that in 32; with gradient checkpointing
    each layer's input, and all of one layer.
    """
    layer = 2 * (34 * shape.hidden_size + 8 * shape.intermediate_size)
    if not checkpointing:
        return shape.num_hidden_layers * layer
    return shape.num_hidden_layers * 4 * shape.hidden_size + layer


def token_budget(shape: Architecture, longest: int, checkpointing: bool) -> int:
    """Tokens per pass of a training; ``longest``: of a pair, or of what else is not divided."""
    room = min(max(STATES * shape.parameters, LEAST), MOST)
    return max(longest, min(TOKENS, room // kept_bytes(shape, checkpointing)))


def micro_batch(
    shape: Architecture, longest: int, global_batch_size: int, checkpointing: bool
) -> int:
    """Examples per pass of ``longest`` tokens each; it divides the global batch."""
    room = token_budget(shape, longest, checkpointing) // longest
    divisors = (n for n in range(1, global_batch_size + 1) if global_batch_size % n == 0)
    return max(size for size in divisors if size <= max(1, room))


def filled(settings: dict, shape: Architecture | None, pair: int, side: int) -> dict:
    """Settings of a training, or of what reads its pairs, with numbers in the place of ``auto``.

    Args:
        pair: tokens of the longest pair that shares its prompt; side: of the longest response with
            its prompt.
    """
    checkpointing = settings.get("gradient_checkpointing", False)
    found = UNKNOWN
    if shape:
        budget = token_budget(shape, pair, checkpointing)
        found = {"token_budget": budget, "reference_batch_size": max(1, budget // side)}
    if shape and "global_batch_size" in settings:
        size = micro_batch(shape, 2 * side, settings["global_batch_size"], checkpointing)
        found["per_device_batch_size"] = size
    return {**settings, **{key: n for key, n in found.items() if settings.get(key) == "auto"}}


def sampling_batch(shape: Architecture | None, longest: int) -> int:
    """Answers that are sampled together; ``longest``: tokens of a prompt with its answer."""
    if shape is None:
        return 8
    room = min(max(4 * shape.parameters, LEAST), MOST)
    return max(1, min(ROWS, room // sampling_bytes(shape, longest)))


def sampling_bytes(shape: Architecture, longest: int) -> int:
    """Of one answer: its keys and values in float32, and some eight copies of a step's logits."""
    cache = 4 * 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
    return cache * longest + 8 * 4 * shape.vocab_size
