"""Quality of what trained models write first; see :mod:`poet.analyse.prefix_quality`."""

from __future__ import annotations

from collections.abc import Sequence

from poet.analyse.completion import Completer, Completion, Place, quality
from poet.data.encoding import encode_pairs
from poet.data.templates import row_options
from poet.evaluate import statistics
from poet.evaluate.statistics import Score, known
from poet.files import UserError

Prefixes = dict[tuple[str, int, int], list[Place]]  # (method, number of the seed, k) -> by prompt


def read_prefixes(
    completer: Completer,
    prompts: Sequence[dict],
    generations: dict[str, list[list[dict]]],
    ks: Sequence[int],
) -> tuple[Prefixes, list[list[int]]]:
    """The first k tokens of every answer, and the prompts' token ids.

    Answers are tokenized anew, as training does it; an answer that did not end by itself has no
    end. ``generations`` holds, by method and seed, a row per prompt.

    Raises:
        UserError: answers to other prompts.
    """
    prefixes: Prefixes = {}
    messages, options = [prompt["prompt"] for prompt in prompts], [*map(row_options, prompts)]
    for method, seeds in generations.items():
        for seed, rows in enumerate(seeds):
            rows = rows[: len(prompts)]
            if [row["instruction"] for row in rows] != [p["instruction"] for p in prompts]:
                raise UserError(f"the answers of {method} are to other prompts; generate again")
            texts = [[{"role": "assistant", "content": row["output"]}] for row in rows]
            prompt_ids, answers = encode_pairs(
                completer.chat, messages, texts, options, written=True
            )
            for k in ks:
                prefixes[method, seed, k] = [
                    (index, tuple(_without_end(ids, row, completer)[:k]))
                    for index, (ids, row) in enumerate(zip(answers, rows, strict=True))
                ]
    return prefixes, prompt_ids


def _without_end(ids: list[int], row: dict, completer: Completer) -> list[int]:
    """A response's tokens up to its end, where it was cut off before that; one at least."""
    if row["finish_reason"] == "length":
        ends = [i for i, token in enumerate(ids) if i and completer.is_whole([token])]
        return ids[: ends[0]] if ends else ids
    return ids


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
    compared = [statistics.paired(scores[m, k], scores[b, k]) for m, b, k in places]
    corrected = statistics.holm([result.p_value for result in compared])
    return [
        {
            "method": method,
            "baseline": baseline,
            "k": k,
            "gain": float(result.gain),
            "ci_low": known(result.low),
            "ci_high": known(result.high),
            "p_value": known(result.p_value),
            "p_holm": known(p_holm),
            "n_seeds": scores[method, k].n_seeds,
            "n_prompts": n_prompts,
            "interval": result.interval,
        }
        for (method, baseline, k), result, p_holm in zip(places, compared, corrected, strict=True)
    ]
