"""Training and test split by prompt: names of prompts, and which split each falls into."""

from __future__ import annotations

from collections import defaultdict
from math import ceil

from poet.data.pairs import digest
from poet.files import UserError

MIN_PROMPTS = 5  # for a score; alpaca-eval cross-validates its length control in so many folds


def name_prompts(pairs: list[dict], split: bool) -> str:
    """Set each pair's ``prompt_id``; say where it comes from, and why.

    The rows' own ids are used if they and the prompts are one to one; otherwise it is the prompt's
    hash. ``split``: the pairs come in splits, each of which may count its rows from 0.
    """
    ids, keys = defaultdict(set), defaultdict(set)
    for pair in pairs:
        ids[pair["key"]].add(pair.get("prompt_id"))
        keys[pair.get("prompt_id")].add(pair["key"])
    if split:
        why = "splits may number their rows apart"
    elif set(keys) == {None}:
        why = "no row has an id"
    elif None in keys:
        why = "some rows have no id"
    elif any(len(names) > 1 for names in ids.values()):
        why = "one prompt has several ids"
    elif any(len(prompts) > 1 for prompts in keys.values()):
        why = "one id names several prompts"
    else:
        return "the rows' own"
    for pair in pairs:
        pair["prompt_id"] = pair["key"]
    return f"hash of the prompt: {why}"


def test_prompts(ids: set[str], fraction: float, seed: int) -> set[str]:
    """The ids whose seeded hash, as a number in [0, 1), is below ``fraction``.

    At least one is chosen, and one is left, so that neither split of a small file is empty.
    """
    place = {name: draw(seed, name) for name in ids}
    n = sum(position < fraction for position in place.values())
    return set(sorted(ids, key=place.get)[: min(max(n, 1), len(ids) - 1)])


def draw(seed: int, name: str) -> float:
    return int(digest(seed, name)[:13], 16) / 16**13


def subsample(pairs: list[dict], max_pairs: int | None) -> list[dict]:
    """The first ``max_pairs`` pairs (None: all), both splits in proportion, training first."""
    groups = {split: [p for p in pairs if p["split"] == split] for split in ("train", "test")}
    n = min(len(pairs), max_pairs or len(pairs))
    n_test = max(1, round(n * len(groups["test"]) / len(pairs)))
    return groups["train"][: n - n_test] + groups["test"][:n_test]


def require_prompts(prompts: list[dict], pairs: list[dict], data: dict, source: str) -> None:
    """Check that the evaluation prompts are enough for a score.

    Raises:
        UserError: they are fewer than MIN_PROMPTS; says what to set.
    """
    if len(prompts) >= MIN_PROMPTS:
        return
    ids = {pair["prompt_id"] for pair in pairs}
    test = {pair["prompt_id"] for pair in pairs if pair["split"] == "test"}
    fraction = data["test_fraction"]
    if data["max_prompts"] < MIN_PROMPTS:
        advice = f"Set max_prompts to {MIN_PROMPTS} or more."
    elif len(ids) > MIN_PROMPTS and "test" not in data.get("splits", {}):
        place = sorted(draw(data["seed"], name) for name in ids)[MIN_PROMPTS - 1]
        advice = f"Set test_fraction to {ceil(100 * place + 1e-9) / 100:.2f} or more,"
        advice += " or give more prompts."
    else:
        advice = "Give more prompts."
    raise UserError(
        f"{source}: {len(prompts)} evaluation prompts would be left, expected at least "
        f"{MIN_PROMPTS}: a score cannot be made of fewer.\n"
        f"  found: {len(pairs)} pairs of {len(ids)} prompts, {len(test)} of them in the test split "
        f"(test_fraction {fraction}), max_prompts {data['max_prompts']}\n{advice}"
    )
