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
        rows = zip(texts, prefixes, strict=True)
        cut = [text if prefix is None else prefix for text, prefix in rows]
        both = rewards(prompts * 2, texts + cut)
        return both[: len(texts)], both[len(texts) :]

    return Scorer(name, "as it stands", score)


def expected_order(pairs: Sequence[dict], tokens_of: Words | Ids, scorer: Scorer) -> dict:
    """The section ``order`` of :mod:`poet.analyse.diagnose`: one pair per prompt."""
    first: dict[str, dict] = {}
    for pair in pairs:
        first.setdefault(pair["key"], pair)
    chosen_pairs = list(first.values())[:MAX_PAIRS]
    counted = list(zip(chosen_pairs, tokens_of(chosen_pairs), strict=True))
    texts, prefixes = [], []  # of all chosen responses, then of all rejected ones
    for part, side in enumerate(SIDES, start=1):  # the prompt comes before them
        for pair, tokens in counted:
            k, _ = kept_lengths(len(tokens.chosen), len(tokens.rejected))
            text, is_cut = text_of(pair, side), k < tokens.unlimited[part]
            texts.append(text)
            prefixes.append(tokens_of.prefix(text, tokens[part], k) if is_cut else None)
    scores = scorer.score(chosen_pairs * 2, texts, prefixes)
    whole, kept = (np.subtract(*np.reshape(values, (2, -1))) for values in scores)
    known = ~np.isnan(kept)
    return {
        "scorer": scorer.name,
        "how": scorer.how,
        **order_kept(whole[known], kept[known]),
        "n_left_out": int((~known).sum()),
    }
