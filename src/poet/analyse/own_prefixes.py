"""Quality of what trained models write first; see :mod:`poet.analyse.prefix_quality`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from poet.analyse.completion import Completer, Completion, Place, quality
from poet.data.encoding import encode_prompts
from poet.evaluate import statistics
from poet.evaluate.compare import gain_columns
from poet.evaluate.prompts import require
from poet.evaluate.statistics import Score, known
from poet.files import UserError

Prefixes = dict[tuple[str, int, int], list[Place]]  # (method, number of the seed, k) -> by prompt


def read_prefixes(
    completer: Completer,
    prompts: Sequence[dict],
    generations: dict[str, list[list[dict]]],
    ks: Sequence[int],
) -> tuple[Prefixes, list[list[int]]]:
    """The first k tokens of every answer as it was sampled, and the prompts' token ids.

    ``generations`` holds, by method and seed, a row per prompt.

    Raises:
        UserError: answers to other prompts, or without their tokens.
    """
    prefixes: Prefixes = {}
    for method, seeds in generations.items():
        for seed, rows in enumerate(seeds):
            rows = rows[: len(prompts)]
            if [row["instruction"] for row in rows] != [p["instruction"] for p in prompts]:
                raise UserError(f"the answers of {method} are to other prompts; generate again")
            require(rows, ("token_ids",), f"the answers of {method} (generate again)")
            answers = [_with_end(row, completer) for row in rows]
            for k in ks:
                prefixes[method, seed, k] = [
                    (index, tuple(ids[:k])) for index, ids in enumerate(answers)
                ]
    return prefixes, encode_prompts(completer.chat, prompts)


def _with_end(row: dict, completer: Completer) -> list[int]:
    """The tokens of an answer, with EOS where text and no token ended it."""
    ids = row["token_ids"]
    if row["finish_reason"] == "length" or completer.is_whole(ids):
        return ids
    return [*ids, completer.chat.tokenizer.eos_token_id]


def measure_own(
    prompts: Sequence[dict],
    generations: dict[str, list[list[dict]]],
    gains: Sequence[tuple[str, str]],
    settings: dict,
    completer: Completer,
) -> tuple[dict, dict[tuple[str, int, int], list[list[Completion]]]]:
    """The section ``own`` of the JSON file, and the completions by (method, seed, k) and prompt.

    ``settings``: own_prefix_lengths, completions. ``gains``: pairs (method, baseline).
    """
    completer = replace(completer, header="")  # it stands in the prompt
    ks = settings["own_prefix_lengths"]
    prefixes, prompt_ids = read_prefixes(completer, prompts, generations, ks)
    wanted = {place: settings["completions"] for places in prefixes.values() for place in places}
    found = completer(wanted, prompts, prompt_ids, "prefix quality of answers")
    by_prefix = {key: [found[place] for place in places] for key, places in prefixes.items()}
    scores = {
        (method, k): Score.of_values(
            [[*map(quality, by_prefix[method, seed, k])] for seed in range(len(seeds))]
        )
        for method, seeds in generations.items()
        for k in ks
    }
    section = {
        "n_prompts": len(prompts),
        "methods": [_row(method, k, score, len(prompts)) for (method, k), score in scores.items()],
        "gains": _gains(scores, gains, ks, len(prompts)),
    }
    return section, by_prefix


def _row(method: str, k: int, score: Score, n_prompts: int) -> dict:
    low, high = map(known, statistics.over_prompts_and_seeds(score))
    return {
        "method": method,
        "k": k,
        "value": float(score.value),
        "ci_low": low,
        "ci_high": high,
        "n_seeds": score.n_seeds,
        "n_prompts": n_prompts,
        "interval": score.interval,
    }


def _gains(scores: dict[tuple[str, int], Score], gains, ks, n_prompts: int) -> list[dict]:
    places = [(method, baseline, k) for method, baseline in gains for k in ks]
    found = gain_columns([statistics.paired(scores[m, k], scores[b, k]) for m, b, k in places])
    return [
        {"method": method, "baseline": baseline, "k": k, **columns}
        | {"n_seeds": scores[method, k].n_seeds, "n_prompts": n_prompts}
        for (method, baseline, k), columns in zip(places, found, strict=True)
    ]
