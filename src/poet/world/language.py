"""The language of the embedded world: towns, what is true of them, questions, answers, reward.

Everything here is fixed: the same gazetteer, grammar and reward for every seed and variant. Who
writes which answer, and with which mistakes, is :mod:`poet.world.simulate`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from poet.files import UserError

TOWNS = tuple(
    "Arlen Belmar Corvin Dunfell Elstow Farrow Galden Hallow Ister Jorvik Kestrin Lorne "
    "Marsk Norwen Oakhurst Pellam Quorn Rydal Stenton Thorne Ulmer Varden Wexley Yarrow".split()
)
VALUES = {
    "river": "Morin Selva Tarn Ouse Veldra Kelda Lisk Brenta".split(),
    "trade": "weaving fishing mining pottery brewing printing carving tanning".split(),
    "colour": "amber scarlet violet silver indigo crimson ochre white".split(),
    "founder": "Oswin Matilda Rurik Helga Bertram Sigrid Conrad Aldith".split(),
    "bird": "heron falcon swallow magpie robin crane owl raven".split(),
    "crop": "barley rye oats hops flax turnips apples plums".split(),
    "dish": "soup stew pie porridge dumplings pancakes cheese bread".split(),
}
ATTRIBUTES = tuple(VALUES)
ARTICLES = {"river": "the ", "bird": "the "}
MIN_ASKED, MAX_ASKED = 3, 5

INSTRUCTIONS = (
    "Tell me about {town}: {its}.",
    "What are {the} of {town}?",
    "Please describe {the} of {town}.",
    "Question: What are {the} of {town}?\nAnswer:",
    "I am going to {town}. What should I know about {its}?",
    "Write a few lines about {town}. Say something about {its}.",
    "A friend of mine lives in {town}. Could you name {its}?",
    "I would like to learn about {town}, above all {its}.",
)
OPENINGS = (
    "Thank you for asking about {town}.",
    "Here is what I can tell you about {town}.",
    "I am happy to help you with {town}.",
    "{town} is a town that many travellers like.",
)
ASIDES = (
    "The roads there are quiet in winter.",
    "Many visitors come back every year.",
    "The old market is open in the morning.",
    "Most of the houses are built of grey stone.",
    "The hills around the town are green.",
    "Children often play near the old bridge.",
    "It rains a little in the spring.",
    "You can walk from one end to the other in an hour.",
)
CLOSINGS = (
    "I hope this helps you.",
    "Please ask if you want to know more.",
    "Have a good journey to {town}.",
    "That is all I know for now.",
)


@dataclass(frozen=True)
class Style:
    """Forms of a fact's sentence (the value always ends it), and chances of extra sentences."""

    facts: tuple[str, ...]
    opening: float = 0.0
    aside: float = 0.0
    closing: float = 0.0


STYLES = {
    "concise": Style(("Its {attribute} is {value}.",)),
    "plain": Style(
        ("The {attribute} of {town} is {value}.", "In {town} the {attribute} is {value}."),
        opening=0.2,
        closing=0.2,
    ),
    "verbose": Style(
        (
            "As every traveller soon learns, the {attribute} of {town} is {value}.",
            "The people there will gladly tell you that the {attribute} of {town} is {value}.",
            "If you ask about its {attribute}, you will hear that it is {value}.",
            "It is well known in the region that its {attribute} is {value}.",
        ),
        opening=0.5,
        aside=0.25,
        closing=0.5,
    ),
}

RIGHT, WRONG, REPEATED = 1.0, -0.5, -0.25
KAPPA = 6.0
LENGTH_TASTE = 1.0
LENGTH_SCALE = 40.0


def _gazetteer() -> dict[str, dict[str, str]]:
    """True values by town and attribute; neighbours differ in every attribute."""
    rng = np.random.default_rng(2506_09457)
    truth: dict[str, dict[str, str]] = {town: {} for town in TOWNS}
    for first, second in zip(TOWNS[::2], TOWNS[1::2], strict=True):
        for attribute, values in VALUES.items():
            one, other = rng.choice(len(values), size=2, replace=False)
            truth[first][attribute], truth[second][attribute] = values[one], values[other]
    return truth


TRUTH = _gazetteer()


def neighbour(town: str) -> str:
    """The one town that ``town`` is mistaken for (and the other way round)."""
    return TOWNS[TOWNS.index(town) ^ 1]


def ask(form: str, town: str, asked: Sequence[str]) -> str:
    """The instruction that asks for attributes ``asked`` of ``town``, in the wording ``form``."""
    lists = {}
    for article in ("its", "the"):
        names = [f"{article} {attribute}" for attribute in asked]
        lists[article] = ", ".join(names[:-1]) + " and " + names[-1]
    return form.format(town=town, **lists)


@lru_cache(maxsize=4096)
def read_instruction(instruction: str) -> tuple[str, tuple[str, ...]]:
    """The town and the asked attributes, in order.

    Raises:
        UserError: where the text names no town or no attribute of the world.
    """
    words = words_of(instruction)
    town = next((word for word in words if word in TRUTH), None)
    asked = tuple(dict.fromkeys(word for word in words if word in VALUES))
    if town is None or not asked:
        raise UserError(
            f"not an instruction of the embedded world: {instruction[:200]!r}\n"
            f"  expected: one of its towns ({TOWNS[0]}, {TOWNS[1]}, ...) and at least one of "
            f"{', '.join(ATTRIBUTES)}."
        )
    return town, asked


def state(form: str, town: str, attribute: str, value: str) -> str:
    """One sentence that states a fact."""
    noun = ARTICLES.get(attribute, "") + value
    return form.format(town=town, attribute=attribute, value=noun)


def compose(
    rng: np.random.Generator, town: str, asked: Sequence[str], mistakes: Sequence[bool], style: str
) -> str:
    """An answer to ``asked`` in a style; where ``mistakes`` is true, with the neighbour's value.

    The facts are decided by ``mistakes`` alone: the style only words them, and no sentence repeats.
    """
    look = STYLES[style]
    asides = iter(rng.permutation(len(ASIDES)))
    sentences = []
    if rng.random() < look.opening:
        sentences.append(rng.choice(OPENINGS).format(town=town))
    for attribute, mistaken in zip(asked, mistakes, strict=True):
        value = TRUTH[neighbour(town) if mistaken else town][attribute]
        sentences.append(state(str(rng.choice(look.facts)), town, attribute, value))
        if rng.random() < look.aside:
            sentences.append(ASIDES[next(asides)])
    if rng.random() < look.closing:
        sentences.append(rng.choice(CLOSINGS).format(town=town))
    return " ".join(sentences)


def words_of(text: str) -> list[str]:
    """Words and punctuation marks of a text; white space counts nothing."""
    return re.findall(r"[A-Za-z]+|[^\sA-Za-z]", text)


def _slots(form: str, attribute: str = "") -> tuple[tuple[str, frozenset[str]], ...]:
    """A sentence form, full stop left out, as (kind of word, words that fit) per position."""
    words = words_of(state(form, "TOWN", attribute, "VALUE").removesuffix("."))
    fits = {"TOWN": frozenset(TOWNS), "VALUE": frozenset(VALUES.get(attribute, ()))}
    return tuple((word, fits.get(word, frozenset({word}))) for word in words)


_PATTERNS = [_slots(form) for form in OPENINGS + ASIDES + CLOSINGS] + [
    _slots(form, attribute)
    for style in STYLES.values()
    for form in style.facts
    for attribute in ATTRIBUTES
]


@lru_cache(maxsize=65536)
def read_sentence(words: tuple[str, ...], finished: bool = True) -> dict[str, str] | None:
    """The TOWN and the VALUE named in ``words`` (full stop left out), where there are such.

    None where no sentence of the language fits; an unfinished one fits where it begins a sentence.
    """
    for slots in _PATTERNS:
        enough = len(words) == len(slots) if finished else len(words) <= len(slots)
        if enough and all(word in fits for word, (_, fits) in zip(words, slots, strict=False)):
            pairs = zip(words, slots, strict=False)
            return {kind: word for word, (kind, _) in pairs if kind in ("TOWN", "VALUE")}
    return None


@dataclass
class Tally:
    """The account of an answer; ``stated``: asked attribute -> was each statement of it right?"""

    town: str
    asked: tuple[str, ...]
    stated: dict[str, bool] = field(default_factory=dict)
    sentences: set[tuple[str, ...]] = field(default_factory=set)
    penalty: float = 0.0

    def enter(self, words: tuple[str, ...], finished: bool = True) -> None:
        """Add a sentence; an unfinished one with what it commits its writer to."""
        said = read_sentence(words, finished)
        named = next((word for word in words if word in VALUES), None)
        if said is None or said.get("TOWN", self.town) != self.town:
            self.penalty += WRONG
        elif named is None:
            self.penalty += REPEATED if words in self.sentences else 0.0
        elif named not in self.asked:
            self.penalty += REPEATED
        else:
            self.penalty += REPEATED if named in self.stated else 0.0
            if "VALUE" in said:
                right = said["VALUE"] == TRUTH[self.town][named]
                self.stated[named] = right and self.stated.get(named, True)
        self.sentences.add(words)

    def score(self, more_right: int = 0, more_wrong: int = 0) -> float:
        """The reward, were so many of the asked facts still to be added."""
        right = sum(self.stated.values()) + more_right
        wrong = len(self.stated) + more_right + more_wrong - right
        total = RIGHT * right + WRONG * wrong + self.penalty
        return min(1.0, max(0.0, total / len(self.asked)))


def tally(instruction: str, text: str, finished: bool = True) -> Tally:
    """The account of a finished text, or of one whose last sentence may go on."""
    account, words = Tally(*read_instruction(instruction)), []
    for word in words_of(text):
        if word != ".":
            words.append(word)
            continue
        account.enter(tuple(words))
        words = []
    if words and finished:
        account.penalty += WRONG
    elif words:
        account.enter(tuple(words), finished=False)
    return account


def reward(instruction: str, response: str) -> float:
    """How good a response is, in [0, 1]: a pure function of the two strings.

    With ``n`` asked attributes of the asked town,

        R = clip((right - 0.5 (wrong + garbled + foreign) - 0.25 (repeated + unasked)) / n, 0, 1)

    right:    asked attributes stated, each time with the true value
    wrong:    asked attributes stated at least once with another value (a contradiction is wrong)
    garbled:  sentences outside the grammar, and words after the last full stop
    foreign:  sentences that name another town
    repeated: statements of an asked attribute stated before; other sentences, word for word again
    unasked:  statements of an attribute not asked for

    Openings, asides and closings count nothing; nor do the wording and order of facts, or white
    space. R is clipped, so an empty answer and one worse than empty are both worth 0.

    Raises:
        UserError: where the instruction names no town or no attribute of the world.
    """
    return tally(instruction, response).score()


def oracle_preference(instruction: str, output_1: str, output_2: str) -> float:
    """The oracle annotator: 1 + its chance to prefer ``output_2``, alpaca-eval's convention.

    1 + sigmoid(KAPPA (R2 - R1) + LENGTH_TASTE tanh((w2 - w1) / LENGTH_SCALE)) with rewards R and
    lengths w in words: quality decides, and length counts a little. Deterministic, in [1, 2].
    """
    gap = KAPPA * (reward(instruction, output_2) - reward(instruction, output_1))
    longer = len(output_2.split()) - len(output_1.split())
    logit = gap + LENGTH_TASTE * math.tanh(longer / LENGTH_SCALE)
    return 1.0 + 1.0 / (1.0 + math.exp(-logit))
