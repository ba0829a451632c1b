"""Judges by rewards, one for each answer: the embedded world's oracle, and reward models.

They are deterministic and see no order, so alpaca-eval's random swap of the outputs, which guards
against a judge's position bias, would change nothing; equal outputs are a draw by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scalar:
    """A judge of pairs (:data:`poet.evaluate.annotators.kind.Judge`) by rewards.

    Attributes:
        rewards: (rows of prompts.jsonl, one output each) -> rewards, and for each whether the
            annotator read the text only in part (None where it always reads everything).
        preference: (instruction, output_1, output_2) -> [1, 2]; by default :func:`bradley_terry`.
    """

    rewards: Callable[[Sequence[dict], Sequence[str]], tuple[Sequence[float], list[bool] | None]]
    preference: Callable[[str, str, str], float] | None = None

    def __call__(self, prompts: Sequence[dict], rows: Sequence[dict]) -> list[dict]:
        """Preference and both rewards of each row, each distinct answer scored once.

        ``reward_cut`` (was either answer read only in part) is there where the annotator tells.
        """
        prompt_of = {prompt["instruction"]: prompt for prompt in prompts}
        columns = ("output_1", "output_2")
        answers = list(dict.fromkeys((row["instruction"], row[c]) for row in rows for c in columns))
        values, was_cut = self.rewards(
            [prompt_of[instruction] for instruction, _ in answers], [text for _, text in answers]
        )
        rewards = dict(zip(answers, map(float, values), strict=True))
        cut = None if was_cut is None else dict(zip(answers, was_cut, strict=True))
        judged = []
        for row in rows:
            texts = [row[column] for column in ("instruction", *columns)]
            pair = [(texts[0], text) for text in texts[1:]]
            found = {"reward_1": rewards[pair[0]], "reward_2": rewards[pair[1]]}
            better = self.preference(*texts) if self.preference else bradley_terry(**found)
            judged.append({"preference": better, **found})
            if cut:
                judged[-1]["reward_cut"] = any(cut[answer] for answer in pair)
        return judged


def bradley_terry(reward_1: float, reward_2: float) -> float:
    """1 + the probability that answer 2 is better, from the difference of their rewards."""
    gap = reward_2 - reward_1
    odds = math.exp(-abs(gap))  # never overflows
    return 1 + (1 if gap >= 0 else odds) / (1 + odds)
