"""Share of the pairs whose order is expected to survive POET's truncation, before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from poet.analyse.completion import Rewards, exact_quality
from poet.analyse.intervals import order_kept
from poet.analyse.pair_tokens import Ids, Words, text_of
from poet.methods import SIDES
from poet.methods.truncation import kept_lengths
from poet.world.simulate import reward

MAX_PAIRS = 1000


class Scorer(NamedTuple):
    """Who scores responses, whole and truncated; see :mod:`poet.analyse.diagnose` for ``how``.

    ``score`` takes prompts (``prompt`` messages, ``instruction``), the responses' texts and their
    truncated texts (None: nothing is cut), and returns the rewards of both; NaN where there is
    none.
    """

    name: str
    how: str
    score: Callable[[list[dict], list[str], list[str | None]], tuple[Sequence, Sequence]]


def oracle(name: str, variant: str) -> Scorer:
    """The embedded world's oracle: exact expectations over the average writer's completions."""

    def score(prompts, texts, prefixes):
        instructions = [prompt["instruction"] for prompt in prompts]
        rows = list(zip(instructions, texts, prefixes, strict=True))
        kept = [exact_quality(*row, variant) for row in rows]
        return [reward(asked, text) for asked, text, _ in rows], np.array(kept, dtype=float)

    return Scorer(name, "exact", score)


def as_it_stands(name: str, rewards: Rewards) -> Scorer:
    """A reward model that reads the truncated text itself: a stand-in for its completions."""

    def score(prompts, texts, prefixes):
        cut = [
            text if prefix is None else prefix for text, prefix in zip(texts, prefixes, strict=True)
        ]
        both = rewards(prompts * 2, texts + cut)
        return both[: len(texts)], both[len(texts) :]

    return Scorer(name, "as it stands", score)


def expected_order(pairs: Sequence[dict], tokens_of: Words | Ids, scorer: Scorer) -> dict:
    """The section ``order`` of :mod:`poet.analyse.diagnose`: one pair per prompt."""
    first: dict[str, dict] = {}
    for pair in pairs:
        first.setdefault(pair["key"], pair)
    chosen_pairs = list(first.values())[:MAX_PAIRS]
    texts, prefixes = ({side: [] for side in SIDES} for _ in range(2))
    for pair, tokens in zip(chosen_pairs, tokens_of(chosen_pairs), strict=True):
        k, _ = kept_lengths(len(tokens.chosen), len(tokens.rejected))
        for side, length in zip(SIDES, tokens.unlimited[1:], strict=True):
            text = text_of(pair, side)
            texts[side].append(text)
            cut = tokens_of.prefix(text, getattr(tokens, side), k) if k < length else None
            prefixes[side].append(cut)
    joined = [sum((named[side] for side in SIDES), []) for named in (texts, prefixes)]
    scores = [np.reshape(values, (2, -1)) for values in scorer.score(chosen_pairs * 2, *joined)]
    whole, kept = (chosen - rejected for chosen, rejected in scores)
    known = ~np.isnan(kept)
    return {
        "scorer": scorer.name,
        "how": scorer.how,
        **order_kept(whole[known], kept[known]),
        "n_left_out": int((~known).sum()),
    }
