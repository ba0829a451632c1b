"""Simulate the embedded world: SFT corpus, preference pairs, evaluation prompts, local tasks.

Writers answer instructions of :mod:`poet.world.language`. Their mistakes are a Markov chain
over the facts of an answer; the variants differ in where in the answer quality is decided.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np

from poet.files import UserError, cli, load_record, publish, write_csv, write_jsonl, write_parquet
from poet.world.language import (
    ATTRIBUTES,
    INSTRUCTIONS,
    MAX_ASKED,
    MIN_ASKED,
    STYLES,
    TOWNS,
    ask,
    compose,
    oracle_preference,
    read_instruction,
    reward,
    tally,
)
from poet.world.tasks import write_tasks

LABEL_NOISE = 0.03


@dataclass(frozen=True)
class Variant:
    """Chances of a mistake, for the average writer.

    The last ``decisive`` facts of an answer are a two-state chain: the first of them fails with
    chance ``first``, a later one with ``after_right`` or ``after_wrong``, by how the fact before it
    went. Facts before them each fail with chance ``calm``.
    """

    first: float
    after_right: float
    after_wrong: float
    decisive: int = MAX_ASKED
    calm: float = 0.0


# Set by mean reward, lengths and surviving orders of the simulated data, before any training.
VARIANTS = {
    "early": Variant(first=0.30, after_right=0.08, after_wrong=0.70),
    "null": Variant(first=0.22, after_right=0.22, after_wrong=0.22),
    "late": Variant(first=0.45, after_right=0.40, after_wrong=0.60, decisive=2, calm=0.02),
}
# A writer's competence shifts the log-odds of every mistake.
WRITERS = {"weak": 1.2, "average": 0.0, "good": -1.2}
REFERENCE = "world_reference"
_PANEL = list(product(WRITERS, STYLES))


def mistake_chance(variant: Variant, shift: float, index: int, total: int, wrong: bool) -> float:
    """Chance that fact ``index`` (from 0) of ``total`` fails, when the one before was ``wrong``."""
    start = max(0, total - variant.decisive)
    if index < start:
        chance = variant.calm
    elif index == start:
        chance = variant.first
    else:
        chance = variant.after_wrong if wrong else variant.after_right
    odds = chance / (1.0 - chance) * math.exp(shift)
    return odds / (1.0 + odds)


def draw_mistakes(rng: np.random.Generator, total: int, variant: str, writer: str) -> list[bool]:
    """Which of an answer's ``total`` facts fail, in order."""
    mistakes, wrong = [], False
    for index in range(total):
        chance = mistake_chance(VARIANTS[variant], WRITERS[writer], index, total, wrong)
        wrong = bool(rng.random() < chance)
        mistakes.append(wrong)
    return mistakes


def write_answer(
    rng: np.random.Generator, instruction: str, variant: str, writer: str, style: str
) -> str:
    """One writer's answer: mistakes drawn first, then worded in the style."""
    town, asked = read_instruction(instruction)
    return compose(rng, town, asked, draw_mistakes(rng, len(asked), variant, writer), style)


def continue_expected_reward(instruction: str, prefix_words: Sequence[str], variant: str) -> float:
    """Expected reward of a prefix that the average writer completes; exact, in [0, 1].

    The continuation law: the unfinished sentence is finished, then the asked facts not yet stated
    follow, one sentence each, with nothing that costs. Their mistakes are the variant's chain,
    entered at the number of facts stated so far, in the state of the last of them. An unfinished
    sentence that has its value states it; one that begins a fact not yet stated is the next fact;
    one that names another town, an attribute not asked for or stated before, or begins no sentence
    of the language costs what the finished one would. The prefix is ``text.split()[:k]``.

    This is the paper's Q (prefix quality): completed by the SFT model, judged as a whole.
    """
    account = tally(instruction, " ".join(prefix_words), finished=False)
    total, done = len(account.asked), len(account.stated)
    wrong = done > 0 and not list(account.stated.values())[-1]
    chances = {(wrong, 0): 1.0}  # of (last fact wrong, further mistakes)
    for index in range(done, total):
        following: dict[tuple[bool, int], float] = defaultdict(float)
        for (wrong, count), weight in chances.items():
            chance = mistake_chance(VARIANTS[variant], WRITERS["average"], index, total, wrong)
            following[True, count + 1] += weight * chance
            following[False, count] += weight * (1.0 - chance)
        chances = following
    left = total - done
    return sum(p * account.score(left - count, count) for (_, count), p in chances.items())


def _asked_for(seed: int, prompts: int, others: int) -> tuple[list, list]:
    """(town, asked attributes) of the evaluation prompts and of all others: no combination in both.

    A combination is a town with a set of attributes; evaluation prompts differ in it from each
    other, the others in it or in the order asked.
    """
    rng = np.random.default_rng([seed, 0])
    sizes = range(MIN_ASKED, MAX_ASKED + 1)
    pool = [(town, each) for town in TOWNS for n in sizes for each in combinations(ATTRIBUTES, n)]
    order = rng.permutation(len(pool))
    held_out = [pool[i] for i in order[:prompts]]
    rest = [(pool[i][0], each) for i in order[prompts:] for each in permutations(pool[i][1])]
    if prompts > len(pool) // 2 or others > len(rest):
        raise UserError(
            f"the embedded world is too small for {prompts} prompts and {others} examples.\n"
            f"  expected: prompts <= {len(pool) // 2}, and beside as many prompts "
            f"sft_examples + pairs + test_pairs <= {len(rest)}."
        )
    evaluation = [(town, tuple(rng.permutation(each).tolist())) for town, each in held_out]
    return evaluation, [rest[i] for i in rng.permutation(len(rest))[:others]]


def _instruction(rng: np.random.Generator, town: str, asked: Sequence[str]) -> str:
    return ask(str(rng.choice(INSTRUCTIONS)), town, asked)


def _message(role: str, text: str) -> list[dict]:
    return [{"role": role, "content": text}]


def simulate_corpus(asked_for: Sequence, variant: str, seed: int) -> list[dict]:
    """SFT examples of the average writer in all styles: rows with ``prompt`` and ``completion``."""
    rng, rows = np.random.default_rng([seed, 1]), []
    for town, asked in asked_for:
        instruction = _instruction(rng, town, asked)
        answer = write_answer(rng, instruction, variant, "average", str(rng.choice(list(STYLES))))
        prompt, completion = _message("user", instruction), _message("assistant", answer)
        rows.append({"prompt": prompt, "completion": completion})
    return rows


def simulate_pairs(asked_for: Sequence, variant: str, seed: int, split: str) -> list[dict]:
    """One preference pair per (town, asked attributes), labelled by a noisy annotator.

    Two answers by writers and in styles drawn at random, drawn again while their rewards are equal
    (as ties are dropped from real data). The first is chosen with the oracle's probability; then a
    share LABEL_NOISE of the labels is turned round.
    """
    rng, rows = np.random.default_rng([seed, 2 if split == "train" else 3]), []
    for town, asked in asked_for:
        instruction = _instruction(rng, town, asked)
        while True:
            answers = [_any_answer(rng, instruction, variant) for _ in range(2)]
            if reward(instruction, answers[0]) != reward(instruction, answers[1]):
                break
        second_better = rng.random() < oracle_preference(instruction, *answers) - 1.0
        if second_better != (rng.random() < LABEL_NOISE):
            answers.reverse()
        chosen, rejected = (_message("assistant", answer) for answer in answers)
        prompt_id = "-".join((town.lower(), *asked))
        row = {"prompt": _message("user", instruction), "chosen": chosen, "rejected": rejected}
        names = {"prompt_id": prompt_id, "split": split, "key": prompt_id}
        rows.append(row | names | {"instruction": instruction})
    return rows


def _any_answer(rng: np.random.Generator, instruction: str, variant: str) -> str:
    writer, style = str(rng.choice(list(WRITERS))), str(rng.choice(list(STYLES)))
    return write_answer(rng, instruction, variant, writer, style)


def simulate_prompts(asked_for: Sequence, variant: str, seed: int) -> tuple[list, list]:
    """Evaluation prompts with reference answers, and the rows of alpaca-eval's ``df_gamed``.

    The reference is a good writer's, in plain style. The verbose and concise models state the same
    facts in the other styles, so that against the reference only length differs.
    ``std_delta_len`` is the length in characters of the reference minus the model's, over its
    standard deviation, as in alpaca_eval.metrics.glm_winrate; ``instruction_difficulty`` is minus
    the logit of a panel's mean preference (each writer in each style), standardised over prompts.
    """
    rng, prompts, panel = np.random.default_rng([seed, 4]), [], []
    gamed = {"verbose": [], "concise": []}
    for index, (town, asked) in enumerate(asked_for):
        instruction = _instruction(rng, town, asked)
        mistakes = draw_mistakes(rng, len(asked), variant, "good")
        reference = compose(rng, town, asked, mistakes, "plain")
        prompts.append({"index": index, "dataset": "world", "instruction": instruction})
        prompts[-1] |= {"prompt": _message("user", instruction), "reference": reference}
        for style, answers in gamed.items():
            answers.append(compose(rng, town, asked, mistakes, style))
        answers = [write_answer(rng, instruction, variant, *each) for each in _PANEL]
        panel.append(np.mean([oracle_preference(instruction, reference, a) for a in answers]) - 1)
    logits = np.log(np.array(panel)) - np.log1p(-np.array(panel))
    difficulty = -(logits - logits.mean()) / logits.std()
    rows = []
    for style, answers in gamed.items():
        shorter = [len(p["reference"]) - len(a) for p, a in zip(prompts, answers, strict=True)]
        deltas = np.array(shorter) / np.std(shorter, ddof=1)
        for prompt, answer, delta in zip(prompts, answers, deltas, strict=True):
            better = oracle_preference(prompt["instruction"], prompt["reference"], answer) - 1
            row = {"model": f"{REFERENCE}_{style}", "preference": better, "index": prompt["index"]}
            row |= {"std_delta_len": delta, "instruction_difficulty": difficulty[prompt["index"]]}
            rows.append(row | {"not_gamed_baseline": False})
    return prompts, rows


def babble(rng: np.random.Generator, corpus: Sequence[str], n: int) -> list[str]:
    """``n`` texts of words drawn from the corpus's unigrams, as long (in words) as its texts."""
    texts = [text.split() for text in corpus]
    words = [word for text in texts for word in text]
    lengths = [len(texts[i]) for i in rng.integers(len(texts), size=n)]
    return [" ".join(words[i] for i in rng.integers(len(words), size=each)) for each in lengths]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    said = "resolved record, or its JSON file"
    parser.add_argument("--record", type=load_record, required=True, help=said)
    for name in ("pairs", "corpus", "prompts", "gamed", "tasks"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"{name} to write")
    flags = parser.parse_args(argv)
    data = flags.record["data"]
    variant, seed = data["variant"], data["seed"]
    if variant not in VARIANTS:
        raise UserError(f"data.variant: found {variant!r}, expected one of {', '.join(VARIANTS)}.")
    sizes = [data["sft_examples"], data["pairs"], data["test_pairs"]]
    evaluation, others = _asked_for(seed, data["prompts"], sum(sizes))
    ends = np.cumsum(sizes)
    sft, train, test = (others[end - n : end] for n, end in zip(sizes, ends, strict=True))
    prompts, gamed = simulate_prompts(evaluation, variant, seed)
    pairs = simulate_pairs(train, variant, seed, "train")
    write_parquet(pairs + simulate_pairs(test, variant, seed, "test"), flags.pairs)
    write_parquet(simulate_corpus(sft, variant, seed), flags.corpus)
    write_jsonl(prompts, flags.prompts)
    write_csv(gamed, flags.gamed)
    with publish(flags.tasks) as temporary:
        temporary.mkdir()
        write_tasks(temporary, flags.tasks)


if __name__ == "__main__":
    cli(main)
