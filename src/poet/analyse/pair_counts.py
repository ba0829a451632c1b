"""What can be counted in preference pairs before any training; see :mod:`poet.analyse.diagnose`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from os.path import commonprefix

import numpy as np

from poet.analyse.contamination import normalised
from poet.analyse.pair_tokens import Tokens
from poet.methods import SIDES
from poet.methods.truncation import kept_lengths


def measure(pairs: Iterable[Tokens]) -> dict[str, np.ndarray]:
    """Lengths of every pair, [pairs]: prompt, chosen, rejected; ``k`` kept by POET.

    And ``shared``: first tokens that both responses have in common; ``limited``: [pairs, 3], tokens
    that the length limits took from prompt, chosen and rejected.
    """
    rows = []
    for pair in pairs:
        lengths = [len(part) for part in pair[:3]]
        k, _ = kept_lengths(*lengths[1:])
        shared = len(commonprefix([pair.chosen[:k], pair.rejected[:k]]))
        limited = [before - after for before, after in zip(pair.unlimited, lengths, strict=True)]
        rows.append((*lengths, k, shared, *limited))
    table = np.array(rows).reshape(-1, 8)
    names = ("prompt", *SIDES, "k", "shared")
    return {**dict(zip(names, table.T, strict=False)), "limited": table[:, 5:]}


def described(values: np.ndarray) -> dict:
    """Mean, median, percentiles and maximum."""
    names = ("p5", "p25", "median", "p75", "p95", "max")
    points = np.percentile(values, [5, 25, 50, 75, 95, 100])
    return {"mean": float(values.mean()), **dict(zip(names, map(float, points), strict=True))}


def lengths(counts: dict[str, np.ndarray]) -> dict:
    """The section ``lengths``."""
    chosen, rejected = counts["chosen"], counts["rejected"]
    return {
        **{name: described(counts[name]) for name in ("prompt", *SIDES)},
        "min_over_max": described(ratio(counts)),
        "chosen_longer": percent(chosen > rejected),
        "equally_long": percent(chosen == rejected),
    }


def ratio(counts: dict[str, np.ndarray]) -> np.ndarray:
    """Shorter over longer response, in (0, 1]."""
    both = counts["chosen"], counts["rejected"]
    return np.minimum(*both) / np.maximum(*both)


def poet(counts: dict[str, np.ndarray]) -> dict:
    """The section ``poet``."""
    k = counts["k"]
    dropped = {side: (counts[side] - k).sum() for side in SIDES}
    total = {side: counts[side].sum() for side in dropped}
    return {
        "kept": described(k),
        **{f"dropped_{side}": 100 * float(dropped[side] / total[side]) for side in dropped},
        "dropped": 100 * float(sum(dropped.values()) / sum(total.values())),
        "identical": int((counts["shared"] == k).sum()),
        "shared": described(counts["shared"]),
        "shared_of_kept": 100 * float((counts["shared"] / k).mean()),
    }


def limits(counts: dict[str, np.ndarray], record: dict) -> dict:
    """The section ``limits``, for a record's max_length, max_prompt_length and length_policy."""
    limited = counts["limited"]
    before = np.stack([counts[name] for name in ("prompt", *SIDES)], -1) + limited
    shares = 100 * limited.sum(0) / before.sum(0)
    names = ("dropped_prompt", "dropped_chosen", "dropped_rejected")
    return {
        **{key: record[key] for key in ("max_length", "max_prompt_length", "length_policy")},
        "pairs_cut": percent(limited.any(-1)),
        "responses_cut": percent(limited[:, 1:] > 0),
        **dict(zip(names, map(float, shares), strict=True)),
    }


def percent(event: np.ndarray) -> float:
    """Percent of true elements."""
    return 100 * float(np.mean(event))


def prompts(keys: list[str], texts: list[str], answers: list[tuple[str, str]]) -> dict:
    """The section ``prompts``.

    ``keys`` name equal prompts, ``texts`` are the prompts' own, ``answers`` (chosen, rejected)
    equal answers.
    """
    per_prompt = Counter(keys)
    pairs = Counter(zip(keys, answers, strict=True))
    reversed_pairs = sum((key, both[::-1]) in pairs for key, both in pairs)
    spellings: dict[tuple, set[str]] = {}
    for key, text in zip(keys, texts, strict=True):
        spellings.setdefault(normalised(text), set()).add(key)
    return {
        "n_prompts": len(per_prompt),
        "pairs_per_prompt": len(keys) / len(per_prompt),
        "most_pairs_of_a_prompt": max(per_prompt.values()),
        "in_several_spellings": sum(len(each) > 1 for each in spellings.values()),
        "repeated_pairs": len(keys) - len(pairs),
        "contradicting_pairs": reversed_pairs,
    }


def histogram(counts: dict[str, np.ndarray]) -> Iterator[dict]:
    """Rows (measure, low, high, n) of the figure; lengths in twenty bins of like ratio."""
    lengths = {name: counts[name] for name in ("prompt", *SIDES, "k")}
    longest = max(values.max() for values in lengths.values())
    edges = np.unique(np.geomspace(1, longest + 1, 21).round())
    for name, values, bins in (
        *((name, values, edges) for name, values in lengths.items()),
        ("min_over_max", ratio(counts), np.linspace(0, 1, 21)),
    ):
        found, bounds = np.histogram(values, bins)
        for n, low, high in zip(found.tolist(), bounds[:-1], bounds[1:], strict=True):
            yield {"measure": name, "low": float(low), "high": float(high), "n": n}
