"""Pairs of texts as tokens: of a tokenizer within length limits, or words where none is known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from poet.analyse.completion import response_header, without_header
from poet.data.encoding import encode_both
from poet.data.ends import closing_text, turn_end
from poet.data.templates import Chat
from poet.data.tokenization import limit_lengths
from poet.evaluate.sampling import decode
from poet.methods import SIDES

BATCH = 200  # pairs tokenized at a time


class Tokens(NamedTuple):
    """A pair cut into tokens, within the length limits; ``unlimited``: its lengths before them."""

    prompt: Sequence
    chosen: Sequence
    rejected: Sequence
    unlimited: tuple[int, int, int]


class Words:
    """Words and punctuation marks, as ``\\w+|[^\\w\\s]`` finds them; no limits."""

    unit = "words and punctuation marks"
    _word = re.compile(r"\w+|[^\w\s]")

    def __call__(self, pairs: Sequence[dict]) -> Iterator[Tokens]:
        for pair in pairs:
            texts = pair["instruction"], *(text_of(pair, side) for side in SIDES)
            parts = [self._word.findall(text) for text in texts]
            yield Tokens(*parts, tuple(map(len, parts)))

    def prefix(self, text: str, tokens: Sequence[str], k: int) -> str:
        """The text of a response's first ``k`` tokens."""
        ends = (match.end() for match in self._word.finditer(text))
        return text[: next(end for n, end in enumerate(ends, start=1) if n == k)]


class Ids:
    """Token ids as training sees them, cut by a record's length limits where there is one."""

    unit = "tokens"

    def __init__(self, tokenizer, record: dict | None = None):
        self.record = record
        self.chat = Chat.of(tokenizer, record) if record else Chat(tokenizer, "keep_start", {})
        self.header = response_header(self.chat)
        self.ends = turn_end(self.chat), closing_text(self.chat)

    def __call__(self, pairs: Sequence[dict]) -> Iterator[Tokens]:
        for start in range(0, len(pairs), BATCH):
            for parts in encode_both(self.chat, pairs[start : start + BATCH]):
                before = tuple(map(len, parts))
                if self.record:
                    names = ("max_length", "max_prompt_length", "length_policy")
                    parts = limit_lengths(*parts, *(self.record[name] for name in names))
                yield Tokens(*parts, before)

    def prefix(self, text: str, tokens: Sequence[int], k: int) -> str:
        """The text of a response's first ``k`` tokens."""
        return without_header(decode(self.chat.tokenizer, tokens[:k], *self.ends), self.header)


def text_of(pair: dict, side: str) -> str:
    """The text of a pair's ``chosen`` or ``rejected`` response."""
    return pair[side][0]["content"]
