"""Shared-prefix packing: both branches of a pair in one sequence, many pairs in one row.

A pair of a prompt with p tokens, a chosen response with c and a rejected one with r becomes

    prompt, chosen without its last token, the prompt's last token again, rejected without its last

so that each position predicts one token; the pair's last c + r positions predict its responses.
Both branches have the positions that they would have alone; the second one sees the prompt and
itself but not the first branch. In a causal model this gives the log-probabilities of two separate
sequences exactly, from p + c + r - 1 tokens in place of 2p + c + r and padding.
"""

from __future__ import annotations

import types
from collections import defaultdict
from itertools import accumulate

import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from poet.train.head import response_logps

ATTENTION = "shared_prefix"  # the name in transformers' registry
MODELS = ("gemma2", "llama", "mistral", "olmo2", "qwen2", "qwen3")  # those that the tests compare


def pack_pairs(sizes: list[int], budget: int) -> list[list[int]]:
    """Indices of pairs, row by row, each of at most ``budget`` tokens (first fit, longest first).

    ``sizes`` are tokens per packed pair; one that exceeds the budget has a row of its own.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for pair in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        row = next((i for i, left in enumerate(room) if left >= sizes[pair]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(budget)
        rows[row].append(pair)
        room[row] -= sizes[pair]
    return rows


def packed_size(p: int, c: int, r: int) -> int:
    """Tokens of a packed pair with p prompt, c chosen and r rejected tokens."""
    return p + c + r - 1


def make_pack(pairs: list[tuple[list[int], list[int], list[int]]]) -> dict:
    """One row of pairs (prompt, chosen, rejected), lists of token ids of which none is empty.

    Returns:
        ``input_ids``, ``position_ids``: [1, tokens].
        ``head_index``, ``labels``: [response tokens], positions that predict, and what.
        ``cells``: [response tokens], where that stands in the flat result; ``shape`` of the result:
        (2 pairs, longest response), chosen of all pairs before rejected of all pairs.
        ``lengths``: (p, c, r) per pair. ``key_index``, ``query_ends``, ``key_ends``, ``longest``:
        the same for a variable-length kernel, two sequences per pair, see :func:`_variable_length`.
    """
    lengths = [(len(prompt), len(chosen), len(rejected)) for prompt, chosen, rejected in pairs]
    width = max(max(c, r) for _, c, r in lengths)
    query_sizes = [size for p, c, r in lengths for size in (p + c - 1, r)]
    key_sizes = [size for p, c, r in lengths for size in (p + c - 1, p - 1 + r)]
    flat = defaultdict(list)
    for row, ((prompt, chosen, rejected), (p, c, r)) in enumerate(zip(pairs, lengths, strict=True)):
        start = len(flat["input_ids"])
        branch = start + p + c - 1
        flat["input_ids"] += [*prompt, *chosen[:-1], prompt[-1], *rejected[:-1]]
        flat["position_ids"] += [*range(p + c - 1), *range(p - 1, p - 1 + r)]
        flat["head_index"] += range(start + p - 1, branch + r)
        flat["labels"] += [*chosen, *rejected]
        first, second = row * width, (len(pairs) + row) * width
        flat["cells"] += [*range(first, first + c), *range(second, second + r)]
        flat["key_index"] += [*range(start, branch), *range(start, start + p - 1)]
        flat["key_index"] += range(branch, branch + r)
    tensors = {name: torch.tensor(values) for name, values in flat.items()}
    return {
        **tensors,
        "input_ids": tensors["input_ids"][None],
        "position_ids": tensors["position_ids"][None],
        "shape": (2 * len(pairs), width),
        "lengths": lengths,
        "query_ends": torch.tensor([0, *accumulate(query_sizes)], dtype=torch.int32),
        "key_ends": torch.tensor([0, *accumulate(key_sizes)], dtype=torch.int32),
        "longest": (max(query_sizes), max(key_sizes)),
    }


@torch.inference_mode()
def packed_logps(model, pairs: list[tuple], token_budget: int) -> list[tuple[Tensor, Tensor]]:
    """Log-probabilities of the pairs' responses, (chosen [c], rejected [r]) each, float32 on CPU.

    ``model`` has :func:`add_packed_forward`; ``pairs`` are as in :func:`make_pack`.
    """
    out = [None] * len(pairs)
    for row in pack_pairs([packed_size(*map(len, pair)) for pair in pairs], token_budget):
        pack = make_pack([pairs[i] for i in row])
        found = model(pack=send_to_device(pack, model.device)).float().cpu().chunk(2)
        for i, (_, c, r), chosen, rejected in zip(row, pack["lengths"], *found, strict=True):
            out[i] = chosen[:c], rejected[:r]
    return out


def unsupported(config) -> str | None:
    """Why a model with this configuration cannot be packed; None where it can."""
    if config.model_type not in MODELS:
        return f"{config.model_type} is not among {', '.join(MODELS)}"
    if config.attention_dropout:
        return f"its attention_dropout is {config.attention_dropout}, not 0"
    return None


def add_packed_forward(model) -> None:
    """Let ``model(pack=...)`` give the log-probabilities of a row made by :func:`make_pack`.

    Other calls go through transformers' SDPA (which refuses Gemma-2's soft-capping). Add it before
    the model is wrapped (accelerate, FSDP).
    """
    original = model.forward

    def forward(self, *args, pack: dict | None = None, **kwargs):
        if pack is None:
            return original(*args, **kwargs)
        ids = pack["input_ids"]
        hidden = self.base_model(
            input_ids=ids,
            position_ids=pack["position_ids"],
            attention_mask=ids[:, None, None],  # 4D is taken for a finished mask: none gets built
            use_cache=False,
            pack=pack,
        ).last_hidden_state[0]
        logps = response_logps(
            hidden.index_select(0, pack["head_index"]),
            self.get_output_embeddings().weight,
            pack["labels"],
            getattr(self.config, "final_logit_softcapping", None),
        )
        rows, width = pack["shape"]
        return logps.new_zeros(rows * width).index_copy(0, pack["cells"], logps).view(rows, width)

    model.forward = types.MethodType(forward, model)
    model.set_attn_implementation(ATTENTION)


def shared_prefix_attention(
    module, query: Tensor, key: Tensor, value: Tensor, attention_mask, pack=None, **kwargs
) -> tuple[Tensor, None]:
    """Attention within a pack, for transformers' registry; without a pack its own SDPA.

    ``query`` [1, heads, tokens, size], ``key`` and ``value`` alike with their number of heads;
    returns [1, tokens, heads, size].
    """
    if pack is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    scaling, window, softcap = (kwargs.get(k) for k in ("scaling", "sliding_window", "softcap"))
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    half = query.dtype in (torch.bfloat16, torch.float16)
    if query.is_cuda and half and softcap is None:
        return _variable_length(query, key, value, pack, scaling, window), None
    return _by_segment(query, key, value, pack["lengths"], scaling, window, softcap), None


def _variable_length(query, key, value, pack, scaling, window) -> Tensor:
    """One call of the flash kernel: per pair a sequence prompt + chosen and a sequence rejected.

    The second one has more keys than queries, since the prompt's keys are gathered again; the
    kernel aligns its causal mask to the last key.
    """
    from torch.nn.attention.varlen import varlen_attn

    def gather(x: Tensor) -> Tensor:
        return x[0].transpose(0, 1).index_select(0, pack["key_index"])

    out = varlen_attn(
        query[0].transpose(0, 1).contiguous(),
        gather(key),
        gather(value),
        pack["query_ends"],
        pack["key_ends"],
        *pack["longest"],
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out[None]


def _by_segment(query, key, value, lengths, scaling, window, softcap) -> Tensor:
    """Two calls per pair, so that no mask spans more than one branch and its prompt."""
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    outputs = []
    sizes = [packed_size(*pair) for pair in lengths]
    # split, not slices: its backward pass does not fill a whole row per slice.
    pairs = zip(lengths, *(x.split(sizes, 2) for x in (query, key, value)), strict=True)
    for (p, c, r), *states in pairs:
        (q1, q2), (k1, k2), (v1, v2) = (x.split([p + c - 1, r], 2) for x in states)
        k2 = torch.cat([k1[:, :, : p - 1], k2], 2)
        v2 = torch.cat([v1[:, :, : p - 1], v2], 2)
        outputs.append(_attend(q1, k1, v1, scaling, window, softcap))
        outputs.append(_attend(q2, k2, v2, scaling, window, softcap))
    return torch.cat([out.transpose(1, 2) for out in outputs], 1)


def _attend(query, key, value, scaling, window, softcap) -> Tensor:
    """Causal attention of the last positions: ``query`` may be shorter than ``key``."""
    n, m = query.shape[2], key.shape[2]
    windowed = window is not None and window < m
    if n == m and not windowed and softcap is None:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    mask = torch.ones(n, m, dtype=torch.bool, device=query.device).tril(m - n)
    if windowed:
        mask = mask.triu(m - n - window + 1)
    if softcap is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    scores = (query @ key.mT * (scaling / softcap)).tanh() * softcap
    wide = torch.promote_types(query.dtype, torch.float32)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1, dtype=wide)
    return weights.to(query.dtype) @ value


AttentionInterface.register(ATTENTION, shared_prefix_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
