"""Do evaluation prompts stand among the training prompts, word for word or nearly?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

# Language models' training sets are checked with 13 words (Brown et al. 2020); instructions are
# short: the median of AlpacaEval's has 18 words.
NGRAM = 8
NEAR = 0.5  # share of a prompt's n-grams that stand in training prompts
SHOWN = 5


def normalised(text: str) -> tuple[str, ...]:
    """The words of a text: Unicode form, case, punctuation and white space do not count."""
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def ngrams(words: Sequence[str]) -> set[tuple[str, ...]]:
    """All runs of ``NGRAM`` words; none in a shorter text."""
    return {tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


def overlap(training: Iterable[str], evaluation: Sequence[str]) -> dict:
    """How many evaluation prompts stand among the training prompts.

    Returns:
        ``n_prompts``; ``exact``: equal but for case, punctuation and white space; ``near``: others
        of which at least half the runs of ``ngram`` words stand in training prompts; ``too_short``:
        not exact, and without such a run; ``examples`` of exact ones, then near ones.
    """
    wanted = [normalised(text) for text in evaluation]
    runs = [ngrams(words) for words in wanted]
    sought, whole = set().union(*runs), set(wanted)
    seen, equal = set(), set()
    for text in dict.fromkeys(training):
        words = normalised(text)
        equal |= {words} & whole
        seen |= ngrams(words) & sought
    exact = [i for i, words in enumerate(wanted) if words in equal]
    others = [i for i, words in enumerate(wanted) if words not in equal]
    near = [i for i in others if runs[i] and len(runs[i] & seen) >= NEAR * len(runs[i])]
    return {
        "n_prompts": len(evaluation),
        "exact": len(exact),
        "near": len(near),
        "too_short": sum(not runs[i] for i in others),
        "ngram": NGRAM,
        "examples": [evaluation[i] for i in (exact + near)[:SHOWN]],
    }
