"""Forward passes: from pairs of token ids to the per-token log-probabilities of their responses.

A forward pass is a collator and a function. The collator gives, for a batch of pairs,

- ``mask`` [2 pairs, tokens]: true on response tokens; chosen responses first, then rejected ones,
  column t is a response's token t;
- ``ref_logps`` [2 pairs, tokens], float32: the reference's log-probabilities, 0 where the mask is
  false;
- ``pairs`` [pairs], int64: the pairs' names, to key what is random;
- and whatever its function needs of the batch.

The function maps (model, batch) to the policy's log-probabilities in the layout of ``mask``. Loss
and metrics see nothing else, so another pass changes the cost and not the result.

A collator may give parts in place of one batch: ``pairs`` of all, and ``parts``, a list of batches
as above, each with ``rows`` [pairs of the part], the places of its pairs among all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from poet.data.tokenization import IDS
from poet.methods import SIDES
from poet.train.packing import make_pack, pack_pairs, packed_size, unsupported

COLUMNS = [*IDS, *(f"ref_{name}_logps" for name in SIDES), "pair_hash"]


def pad_right(rows: Sequence[Sequence], fill: float, dtype: torch.dtype) -> Tensor:
    """Rows of numbers as a tensor [rows, longest row]."""
    tensors = [torch.as_tensor(row, dtype=dtype) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=fill)


def response_mask(responses: Sequence[Sequence]) -> Tensor:
    """True where a response has a token, [responses, tokens of the longest]."""
    lengths = torch.tensor([len(response) for response in responses])
    return torch.arange(int(lengths.max())) < lengths[:, None]


def pair_fields(examples: list[dict]) -> dict[str, Tensor]:
    """What every collator gives: mask, ref_logps, pairs; see the module's head."""
    sides = [(name, pair) for name in SIDES for pair in examples]
    return {
        "mask": response_mask([pair[f"{name}_ids"] for name, pair in sides]),
        "ref_logps": pad_right([p[f"ref_{name}_logps"] for name, p in sides], 0, torch.float32),
        # 60 of the hash's bits: a non-negative int64
        "pairs": torch.tensor([int(pair["pair_hash"][:15], 16) for pair in examples]),
    }


def pad_sequences(prompts: Sequence, responses: Sequence, pad: int | None) -> dict[str, Tensor]:
    """input_ids, attention_mask, labels (-100 on prompt and padding), each [rows, width].

    Padding is masked, so that for a tokenizer without a pad token any id does.
    """
    sequences = [list(p) + list(r) for p, r in zip(prompts, responses, strict=True)]
    labels = [[-100] * len(p) + list(r) for p, r in zip(prompts, responses, strict=True)]
    return {
        "input_ids": pad_right(sequences, pad or 0, torch.long),
        "attention_mask": pad_right([[1] * len(ids) for ids in sequences], 0, torch.long),
        "labels": pad_right(labels, -100, torch.long),
    }


def pad_pairs(examples: list[dict], pad_token_id: int | None, token_budget=None) -> dict:
    """Every response behind its own copy of the prompt, padded on the right."""
    prompts = [pair["prompt_ids"] for pair in examples] * 2
    responses = [pair[f"{name}_ids"] for name in SIDES for pair in examples]
    return {**pad_sequences(prompts, responses, pad_token_id), **pair_fields(examples)}


def padded(model, batch: dict[str, Tensor]) -> Tensor:
    """log p(response token | prompt, earlier tokens) in the layout of the batch's ``mask``.

    ``model`` has TRL's fused head, which computes them in chunks without keeping the logits.
    """
    logps = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        labels=batch["labels"],
        use_cache=False,
        fused_lm_head=True,
    ).log_probs
    found = logps[batch["labels"][:, 1:] != -100]  # row by row, as the mask is filled
    return logps.new_zeros(batch["mask"].shape).masked_scatter(batch["mask"], found)


def pack_rows(examples: list[dict], pad_token_id: int | None, token_budget: int) -> dict:
    """Pairs that share their prompt, in rows of at most ``token_budget`` tokens: a part per row."""
    pairs = [tuple(list(pair[name]) for name in IDS) for pair in examples]
    rows = pack_pairs([packed_size(*map(len, pair)) for pair in pairs], token_budget)
    parts = [
        {
            **pair_fields([examples[i] for i in row]),
            "pack": make_pack([pairs[i] for i in row]),
            "rows": torch.tensor(row),
        }
        for row in rows
    ]
    order = torch.cat([part["rows"] for part in parts]).argsort()
    return {"pairs": torch.cat([part["pairs"] for part in parts])[order], "parts": parts}


def packed(model, batch: dict) -> Tensor:
    """The same as :func:`padded`; ``model`` has :func:`poet.train.packing.add_packed_forward`."""
    return model(pack=batch["pack"])


# Of each pass the collator and the function.
FORWARDS = {"padded": (pad_pairs, padded), "packed": (pack_rows, packed)}


def choose_forward(name: str, config) -> str:
    """``name``; or ``padded``, with a message, where the model's configuration cannot be packed."""
    reason = unsupported(config) if name == "packed" else None
    if reason:
        print(f"note: pairs are padded and not packed, since {reason}", file=sys.stderr)
    return "padded" if reason else name
