"""Pairs to measure with: real ones where they are at hand, else of recorded lengths."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import NamedTuple

from poet.methods.truncation import truncate_pair
from poet.train.scratch import train_tokenizer

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("POET_SHARED", HERE.parent.parent / "shared"))
REAL = SHARED / "data/alpacaeval2/pairs.jsonl.gz"
RECORDED = HERE / "lengths.json"
MAX_LENGTH = 2048  # the paper's; responses keep their start
SIDES = ("chosen", "rejected")


class Pairs(NamedTuple):
    """Columns of token ids, of full and of truncated (POET) pairs; and where they come from."""

    full: dict[str, list]
    short: dict[str, list]
    tokenizer: object
    source: str


def load(count: int, vocabulary: int, seed: int = 0, tokenizer=None) -> Pairs:
    """``count`` pairs that stand for all: of 500 samples the one with the means closest to theirs.

    Compared are prompts, kept and dropped tokens, and the longest kept pair of a sample, since
    padding goes by that. Without a ``tokenizer`` a BPE of the vocabulary is trained on the pairs.
    """
    numbers = random.Random(seed)
    if REAL.exists():
        by = "the model's own" if tokenizer else "a BPE trained on them"
        source = f"real pairs: alpacaeval2/pairs.jsonl.gz, tokenized by {by}"
        tokenizer, triples = _real(vocabulary, numbers, tokenizer)
    else:
        source = f"random tokens of recorded lengths: {RECORDED.relative_to(HERE.parent)}"
        tokenizer = tokenizer or train_tokenizer(["no text"], 300)
        lengths = json.loads(RECORDED.read_text())["lengths"]
        triples = [[_draw(n, vocabulary, numbers) for n in pair] for pair in lengths]
    samples = [numbers.sample(triples, min(count, len(triples))) for _ in range(500)]
    described = [_describe(sample) for sample in samples]
    wanted = [sum(values) / len(values) for values in zip(*described, strict=True)]

    def distance(i: int) -> float:
        return max(abs(x / w - 1) for x, w in zip(described[i], wanted, strict=True))

    best = samples[min(range(len(samples)), key=distance)]
    while len(best) < count:  # more than are recorded: again from the start
        best = (best + best)[:count]
    return Pairs(_columns(best), _columns(_truncate(best)), tokenizer, source)


def _describe(sample: list) -> tuple[float, ...]:
    kept = [(len(p), min(len(c), len(r)), abs(len(c) - len(r))) for p, c, r in sample]
    prompts, shorter, dropped = (sum(column) / len(sample) for column in zip(*kept, strict=True))
    return prompts, shorter, dropped, max(p + k for p, k, _ in kept)


def _real(vocabulary: int, numbers: random.Random, tokenizer=None):
    with gzip.open(REAL, "rt", encoding="utf-8") as file:
        rows = numbers.sample([json.loads(line) for line in file], 2000)
    texts = [[row[name][-1]["content"] for name in ("prompt", *SIDES)] for row in rows]
    tokenizer = tokenizer or train_tokenizer((text for pair in texts for text in pair), vocabulary)
    triples = []
    for pair in texts:
        prompt, *responses = tokenizer(pair, add_special_tokens=False)["input_ids"]
        prompt = prompt[: MAX_LENGTH - 1] or [tokenizer.eos_token_id]
        room = MAX_LENGTH - len(prompt)
        triples.append([prompt, *([*ids, tokenizer.eos_token_id][:room] for ids in responses)])
    return tokenizer, triples


def _draw(n: int, vocabulary: int, numbers: random.Random) -> list[int]:
    return [numbers.randrange(5, vocabulary) for _ in range(n)]


def _truncate(triples: list) -> list:
    return [[prompt, *truncate_pair(*responses)] for prompt, *responses in triples]


def _columns(triples: list) -> dict[str, list]:
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    columns = {n: list(c) for n, c in zip(names, zip(*triples, strict=True), strict=True)}
    columns["pair_hash"] = [f"{i:016x}" for i in range(len(triples))]
    return columns


def record(count: int = 400) -> None:
    """Write the lengths down, from the real pairs."""
    numbers = random.Random(0)
    _, triples = _real(8192, numbers)
    triples.sort(key=lambda pair: sum(map(len, pair)))
    spaced = [triples[int((i + 0.5) * len(triples) / count)] for i in range(count)]
    content = {
        "what": "tokens of prompt, chosen and rejected response, of pairs evenly spaced by length",
        "made_by": "python -m benchmarks.pairs",
        "from": "AlpacaEval 2 answers, byte-level BPE of 8192 tokens, at most 2048 tokens",
        "lengths": [[len(ids) for ids in pair] for pair in spaced],
    }
    text = json.dumps(content).replace(', "', ',\n "').replace("[[", "[\n [")
    RECORDED.write_text(text.replace("], [", "],\n [") + "\n")


if __name__ == "__main__":
    record()
