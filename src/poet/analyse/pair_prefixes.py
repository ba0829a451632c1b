"""Quality of the prefixes of chosen and rejected; see :mod:`poet.analyse.prefix_quality`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poet.analyse.completion import Completer, Place, exact_quality, quality
from poet.analyse.intervals import mean_interval, order_kept
from poet.data.messages import OPTIONS
from poet.files import UserError
from poet.methods import SIDES

MIN_LENGTH = 0  # the k that stands for the shorter response's length, in the parquet


@dataclass(frozen=True)
class Pairs:
    """Pairs to measure, as columns: prompts (as rows of prompts.jsonl) and token ids."""

    prompt_id: list[str]
    prompts: list[dict]
    prompt_ids: list[list[int]]
    responses: dict[str, list[tuple[int, ...]]]  # by side
    texts: dict[str, list[str]]  # the whole responses, by side

    def __len__(self) -> int:
        return len(self.prompts)

    def lengths(self, k: int) -> list[int]:
        """k for every pair; MIN_LENGTH stands for POET's."""
        return [
            k or min(len(self.responses[side][row]) for side in SIDES) for row in range(len(self))
        ]

    def places(self, side: str, k: int) -> list[Place]:
        """The prefixes of one side, as :class:`Completer` wants them."""
        responses = zip(self.responses[side], self.lengths(k), strict=True)
        return [(row, response[:length]) for row, (response, length) in enumerate(responses)]


def held_out_rows(tokens: dict, source, n: int) -> list[int]:
    """Rows of the first test pair of each prompt, at most ``n``, so that pairs are independent.

    ``tokens`` has the columns ``prompt_id`` and ``split`` as lists.

    Raises:
        UserError: there is no test pair.
    """
    first: dict[str, int] = {}
    names = zip(tokens["prompt_id"], tokens["split"], strict=True)
    for row, (prompt_id, split) in enumerate(names):
        if split == "test":
            first.setdefault(prompt_id, row)
    if not first:
        raise UserError(f"{source} has no pair of the split `test`; the analysis needs some")
    return list(first.values())[:n]


def read_pairs(pairs_path, tokens_path, n: int) -> Pairs:
    """The first test pair of each prompt, ``n`` at most.

    Raises:
        UserError: the two files do not have the same rows.
    """
    import pyarrow.parquet as pq

    texts, tokens = (pq.read_table(path).to_pydict() for path in (pairs_path, tokens_path))
    of_pair = tokens["row"]  # pairs that tokenization left out have no row
    prompt_id = dict(enumerate(texts["prompt_id"]))
    if [*map(prompt_id.get, of_pair)] != tokens["prompt_id"]:
        raise UserError(f"{tokens_path} is not made of {pairs_path}; run the rule tokenize again")
    rows = held_out_rows(tokens, tokens_path, n)
    read = [name for name in ("prompt", "instruction", *OPTIONS) if name in texts]
    return Pairs(
        [tokens["prompt_id"][row] for row in rows],
        [{name: texts[name][of_pair[row]] for name in read} for row in rows],
        [tokens["prompt_ids"][row] for row in rows],
        {side: [tuple(tokens[f"{side}_ids"][row]) for row in rows] for side in SIDES},
        {side: [texts[side][of_pair[row]][0]["content"] for row in rows] for side in SIDES},
    )


def measure_pairs(pairs: Pairs, settings: dict, completer: Completer, variant: str | None):
    """The section ``pairs`` of the JSON file, and the completions by (side, k).

    ``settings``: prefix_lengths, completions, order_completions. ``variant``: the embedded world's,
    where the truth is known.
    """
    ks = settings["prefix_lengths"]
    wanted: dict[Place, int] = {}
    for k in [*ks, MIN_LENGTH]:
        n = settings["completions"] if k else settings["order_completions"]
        for place in [place for side in SIDES for place in pairs.places(side, k)]:
            wanted[place] = max(n, wanted.get(place, 0))
    found = completer(wanted, pairs.prompts, pairs.prompt_ids, "prefix quality of pairs")
    by_prefix = {
        (side, k): [found[place] for place in pairs.places(side, k)]
        for k in [*ks, MIN_LENGTH]
        for side in SIDES
    }
    section = {
        "n_pairs": len(pairs),
        "gaps": [_gap(pairs, k, by_prefix, completer, variant) for k in ks],
        "order": _order(pairs, by_prefix, completer, variant),
    }
    return section, by_prefix


def _gap(pairs: Pairs, k: int, by_prefix: dict, completer: Completer, variant) -> dict:
    both = {side: by_prefix[side, k] for side in SIDES}
    chosen, rejected = (np.array([*map(quality, both[side])]) for side in SIDES)
    reasons = [c.finish_reason for side in SIDES for each in both[side] for c in each]
    whole = [completer.is_whole(prefix) for side in SIDES for _, prefix in pairs.places(side, k)]
    gap = chosen - rejected
    low, high = mean_interval(gap)
    exact = None
    if variant is not None:
        truth = exact_gaps(pairs, k, completer, variant)
        known = ~np.isnan(truth)
        error = (gap - truth)[known]
        error_low, error_high = mean_interval(error)
        exact = {
            "n_pairs": int(known.sum()),
            "value": float(truth[known].mean()),
            "estimate": float(gap[known].mean()),
            "error": float(error.mean()),
            "error_ci_low": error_low,
            "error_ci_high": error_high,
        }
    return {
        "metric": f"dq_{k}",
        "k": k,
        "value": float(gap.mean()),
        "ci_low": low,
        "ci_high": high,
        "n_pairs": len(gap),
        "chosen": float(chosen.mean()),
        "rejected": float(rejected.mean()),
        "share_whole": 100 * float(np.mean(whole)),
        "share_unfinished": 100 * reasons.count("length") / len(reasons),
        "exact": exact,
    }


def exact_gaps(pairs: Pairs, k: int, completer: Completer, variant: str) -> np.ndarray:
    """The true dQ of every pair, [pairs]; NaN where a prefix ends within a word."""

    def exact(row: int, side: str, length: int) -> float | None:
        response = pairs.responses[side][row]
        begun = response[:length]
        prefix = None if completer.is_whole(begun) else completer.text(begun)
        asked, text = pairs.prompts[row]["instruction"], completer.text(response)
        return exact_quality(asked, text, prefix, variant)

    lengths = pairs.lengths(k)
    sides = [[exact(row, side, length) for row, length in enumerate(lengths)] for side in SIDES]
    chosen, rejected = np.array(sides, dtype=float)  # None becomes NaN
    return chosen - rejected


def _order(pairs: Pairs, by_prefix: dict, completer: Completer, variant: str | None) -> dict:
    texts = [text for side in SIDES for text in pairs.texts[side]]
    rewards = completer.rewards(pairs.prompts * 2, texts)
    chosen, rejected = np.array(rewards, dtype=float).reshape(2, -1)
    whole = chosen - rejected
    after = np.subtract(*([*map(quality, by_prefix[side, MIN_LENGTH])] for side in SIDES))
    exact = None
    if variant is not None:
        truth = exact_gaps(pairs, MIN_LENGTH, completer, variant)
        known = (whole != 0) & ~np.isnan(truth)
        kept, found = (order_kept(whole[known], values[known]) for values in (truth, after))
        exact = {"n_pairs": kept["n_pairs"], "value": kept["value"], "estimate": found["value"]}
    agreement = 100 * float(np.mean(whole > 0))
    return {
        "metric": "order_kept_after_truncation",
        **order_kept(whole, after),
        "label_agreement": agreement,
        "exact": exact,
    }
