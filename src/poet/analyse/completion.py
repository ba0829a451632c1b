"""Q, the quality of a prefix: completed by the start model, then scored as a whole.

A prefix is a tuple of response token ids. One that has an answer's end in it is a whole response
and is scored as it is. Equal prefixes of a prompt share their completions, whoever wrote them:
their quality is the same, so no noise should come between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from poet.data.encoding import encode_pairs
from poet.data.ends import closing_text, turn_end
from poet.data.templates import Chat
from poet.evaluate.annotators import KINDS
from poet.evaluate.sampling import decode, sample
from poet.world.simulate import continue_expected_reward, reward

Place = tuple[int, tuple[int, ...]]  # (number of the prompt, prefix)
# (prompts with `prompt` messages and `instruction`, a response to each) -> rewards, in its own unit
Rewards = Callable[[Sequence[dict], Sequence[str]], Sequence[float]]


@dataclass(frozen=True)
class Completion:
    """A response that starts with the prefix; ``finish_reason`` is ``whole`` if nothing was added.

    Otherwise it is ``stop`` or ``length``, see :func:`poet.evaluate.sampling.sample`.
    """

    prefix: str
    text: str
    finish_reason: str
    reward: float


@dataclass(frozen=True)
class Completer:
    """The start model and a scorer; ``sampling``: see :func:`poet.evaluate.sampling.sample`.

    ``header``: what the tokens of a response begin with, see :func:`response_header`.
    """

    model: object
    chat: Chat
    sampling: dict
    seed: int
    rewards: Rewards
    header: str = ""

    @cached_property
    def ends(self) -> tuple[int | None, str]:
        """See :func:`poet.data.ends.turn_end` and :func:`poet.data.ends.closing_text`."""
        return turn_end(self.chat), closing_text(self.chat)

    def text(self, ids: Sequence[int]) -> str:
        """What a response's token ids, or its first ones, say."""
        return without_header(decode(self.chat.tokenizer, ids, *self.ends), self.header)

    def is_whole(self, prefix: Sequence[int]) -> bool:
        """Has the response ended within the prefix? A template may write more after that."""
        return not {*self.sampling["stop_token_ids"]}.isdisjoint(prefix)

    def __call__(
        self,
        wanted: dict[Place, int],
        prompts: Sequence[dict],
        prompt_ids: Sequence[list[int]],
        label: str,
    ) -> dict[Place, list[Completion]]:
        """Complete and score all prefixes at once.

        Args:
            wanted: how many completions of each prefix; a whole response is scored once.
            prompts: what the scorer reads of each prompt.
            prompt_ids: the prompts' token ids, generation prompt included.
        """
        whole = [place for place in wanted if self.is_whole(place[1])]
        begun = [p for p, n in wanted.items() if not self.is_whole(p[1]) for _ in range(n)]
        written = sample(
            self.model,
            self.chat.tokenizer,
            [[*prompt_ids[row], *prefix] for row, prefix in begun],
            self.sampling,
            self.seed,
            label,
        )
        places = whole + begun
        endings = [([], "whole")] * len(whole) + written
        texts = [
            self.text([*prefix, *new])
            for (_, prefix), (new, _) in zip(places, endings, strict=True)
        ]
        rewards = self.rewards([prompts[row] for row, _ in places], texts)
        found: dict[Place, list[Completion]] = {place: [] for place in wanted}
        for place, text, (_, reason), value in zip(places, texts, endings, rewards, strict=True):
            found[place].append(Completion(self.text(place[1]), text, reason, float(value)))
        return found


def open_scorer(name: str, settings: dict, model: str | None = None) -> Rewards:
    """Rewards of the scalar annotator that a section ``annotators.NAME`` describes.

    ``model``: folder of its model, where it is not the section's ``name``.

    Raises:
        UserError: as :func:`poet.evaluate.annotators.reward_model.reward_model`.
    """
    judge = KINDS[settings["kind"]].judge(name, settings, model)
    return lambda prompts, texts: judge.rewards(prompts, texts)[0]


def response_header(chat: Chat) -> str:
    """What stands before the answer in the text of a response's tokens.

    With the policy ``paper`` a response begins with the template's head of the assistant's turn.
    """
    if chat.length_policy != "paper":
        return ""
    question, answer = {"role": "user", "content": "X"}, {"role": "assistant", "content": "X"}
    _, answers = encode_pairs(chat, [[question]], [[answer]])
    return decode(chat.tokenizer, answers[0]).partition("X")[0]


def without_header(text: str, header: str) -> str:
    """``text`` without ``header``; nothing where it ends within it."""
    return "" if header.startswith(text) else text.removeprefix(header)


def quality(completions: Sequence[Completion]) -> float:
    """Q: the mean reward of a prefix's completions."""
    return float(np.mean([completion.reward for completion in completions]))


def exact_quality(instruction: str, text: str, prefix: str | None, variant: str) -> float | None:
    """The true Q in the embedded world of a prefix of a response's ``text``; None is the whole one.

    That is the expected reward when the average writer, whom the start model learned from, goes on
    (:func:`poet.world.simulate.continue_expected_reward`); a whole response is worth its reward.
    None where the prefix ends within a word: the law is one of words.
    """
    if prefix is None:
        return reward(instruction, text)
    within_word = prefix[-1:].isalpha() and text[len(prefix) : len(prefix) + 1].isalpha()
    if within_word or not text.startswith(prefix):
        return None
    return continue_expected_reward(instruction, prefix.split(), variant)
