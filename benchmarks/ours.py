"""Ours, and ours with one step taken away."""

from __future__ import annotations

import copy
import time

import torch
from datasets import Dataset
from trl import DPOConfig

from benchmarks.case import Case, synchronize
from benchmarks.pairs import SIDES
from benchmarks.peers import arguments
from poet.train.forward import FORWARDS, pack_rows, packed, pair_fields
from poet.train.packing import add_packed_forward, make_pack, packed_logps
from poet.train.trainer import PreferenceTrainer


def ours(
    case: Case,
    *,
    truncated: bool = True,
    forward: str = "packed",
    token_budget: int | None = None,
    checkpointing: bool = False,
) -> PreferenceTrainer:
    """The project's trainer; its reference pass, on full pairs, is timed as it makes the cache."""
    rows = case.pairs.short if truncated else case.pairs.full
    reference = copy.deepcopy(case.reference)
    add_packed_forward(reference)
    FORWARDS["live"] = _with_live_reference(reference)
    cached, seconds = _reference_pass(case, reference, rows, unread=forward == "live")
    trainer = PreferenceTrainer(
        model=copy.deepcopy(case.policy),
        args=DPOConfig(
            **arguments(case.device, case.count, case.count, gradient_checkpointing=checkpointing)
        ),
        objective="dpo",
        parameters={"beta": case.beta},
        forward=forward,
        token_budget=token_budget or case.token_budget,
        train_dataset=Dataset.from_dict({**rows, **cached}),
        processing_class=case.pairs.tokenizer,
    )
    if forward != "packed":
        add_packed_forward(trainer.model)
    trainer.reference_seconds = seconds
    return trainer


def _reference_pass(case: Case, reference, rows: dict, unread: bool) -> tuple[dict, float]:
    """Columns cut to the lengths of ``rows``, and the seconds of the pass; zeros if ``unread``."""
    names = [f"ref_{side}_logps" for side in SIDES]
    if unread:
        zeros = ([[0.0] * len(ids) for ids in rows[f"{side}_ids"]] for side in SIDES)
        return dict(zip(names, zeros, strict=True)), 0.0
    full = case.pairs.full
    pairs = list(zip(*(full[f"{name}_ids"] for name in ("prompt", *SIDES)), strict=True))
    start = time.perf_counter()
    with torch.autocast(case.device, torch.bfloat16, enabled=case.device == "cuda"):
        found = packed_logps(reference, pairs, case.token_budget)
    synchronize(case.device)
    seconds = time.perf_counter() - start
    cut = (
        [x[: len(ids)].tolist() for x, ids in zip(logps, rows[f"{side}_ids"], strict=True)]
        for logps, side in zip(zip(*found, strict=True), SIDES, strict=True)
    )
    return dict(zip(names, cut, strict=True)), seconds


def _with_live_reference(reference) -> tuple:
    """Rows as ever; the reference goes through the model with every one of them."""

    def forward(model, batch):
        with torch.no_grad():
            batch["ref_logps"] = packed(reference, batch)
        return packed(model, batch)

    return pack_rows, forward


def _triples(examples: list[dict]) -> list[list]:
    return [[list(pair[f"{name}_ids"]) for name in ("prompt", *SIDES)] for pair in examples]


def prompt_twice_rows(examples, pad_token_id, token_budget) -> dict:
    """Packed, but each response has a prompt of its own: no padding, no sharing."""
    batch = pack_rows(examples, pad_token_id, token_budget)
    for part in batch["parts"]:
        part["pack"] = prompt_twice([examples[i] for i in part["rows"].tolist()])
    return batch


def prompt_twice(examples: list[dict]) -> dict:
    """As :func:`make_pack`, from segments of one response; the second branch is empty."""
    ids, positions, head, lengths, sizes = [], [], [], [], []
    for prompt, *responses in _triples(examples):
        for response in responses:
            start, n = len(ids), len(prompt) + len(response) - 1
            ids += [*prompt, *response[:-1]]
            positions += range(n)
            head += range(start + len(prompt) - 1, start + n)
            lengths.append((len(prompt), len(response), 0))
            sizes.append(n)
    ends = torch.tensor([0, *sizes]).cumsum(0).int()
    return make_pack(_triples(examples)) | {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "head_index": torch.tensor(head),
        "lengths": lengths,
        "key_index": torch.arange(len(ids)),
        "query_ends": ends,
        "key_ends": ends,
        "longest": (max(sizes), max(sizes)),
    }


def padding_rows(examples, pad_token_id, token_budget) -> dict:
    """Prompts shared, but all pairs of a row, eight at a time, are as long as its longest."""
    parts = []
    for start in range(0, len(examples), 8):
        part = examples[start : start + 8]
        triples = _triples(part)
        longest = max(len(p) + max(len(c), len(r)) for p, c, r in triples)
        filled = [[p, *(y + [0] * (longest - len(p) - len(y)) for y in ys)] for p, *ys in triples]
        pack = make_pack(filled)
        (rows, width), fields = pack["shape"], pair_fields(part)
        row, column = pack["cells"] // width, pack["cells"] % width
        real = column < fields["mask"].sum(-1)[row]
        kept = fields["mask"].shape[1]
        pack |= {name: pack[name][real] for name in ("head_index", "labels")}
        pack |= {"cells": (row * kept + column)[real], "shape": (rows, kept)}
        places = torch.arange(start, start + len(part))
        parts.append({**fields, "pack": pack, "rows": places})
    return {"pairs": torch.cat([part["pairs"] for part in parts]), "parts": parts}


def every_position_rows(examples, pad_token_id, token_budget) -> dict:
    """Packed, but the head works on the prompts' positions too, into rows that nobody reads."""
    batch = pack_rows(examples, pad_token_id, token_budget)
    for part in batch["parts"]:
        pack = part["pack"]
        ids, (rows, width) = pack["input_ids"][0], pack["shape"]
        unread = torch.ones(len(ids), dtype=torch.bool)
        unread[pack["head_index"]] = False
        unread = unread.nonzero()[:, 0]
        pack["head_index"] = torch.cat([pack["head_index"], unread])
        pack["labels"] = torch.cat([pack["labels"], ids[unread]])
        pack["cells"] = torch.cat([pack["cells"], rows * width + torch.arange(len(unread))])
        pack["shape"] = (rows + -(-len(unread) // width), width)
    return batch


FORWARDS["prompt_twice"] = prompt_twice_rows, packed
FORWARDS["padding"] = padding_rows, packed
FORWARDS["every_position"] = (
    every_position_rows,
    lambda model, batch: packed(model, batch)[: len(batch["mask"])],
)
