"""Annotators that give each answer a reward: the embedded world's oracle, and reward models.

They are deterministic and see no order, so alpaca-eval's random swap of the outputs, which guards
against a judge's position bias, would change nothing; equal outputs are a draw by themselves.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from poet.files import UserError, read_json


@dataclass(frozen=True)
class Scalar:
    """A judge (see :mod:`poet.evaluate.annotators`) by rewards.

    Attributes:
        rewards: (rows of prompts.jsonl, one output each) -> rewards, and for each whether the
            annotator read the text only in part (None where it always reads everything).
        preference: (instruction, output_1, output_2, reward_1, reward_2) -> [1, 2].
    """

    rewards: Callable[[Sequence[dict], Sequence[str]], tuple[Sequence[float], list[bool] | None]]
    preference: Callable[[str, str, str, float, float], float]

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
        cut = dict(zip(answers, was_cut, strict=True)) if was_cut is not None else None
        judged = []
        for row in rows:
            pair = [(row["instruction"], row[column]) for column in columns]
            first, second = (rewards[answer] for answer in pair)
            texts = row["instruction"], row["output_1"], row["output_2"]
            judged.append(
                {
                    "preference": self.preference(*texts, first, second),
                    "reward_1": first,
                    "reward_2": second,
                    **({} if cut is None else {"reward_cut": any(cut[a] for a in pair)}),
                }
            )
        return judged


def oracle() -> Scalar:
    """The embedded world's true reward, and its preference with a mild taste for length."""
    from poet.world import simulate as world

    def rewards(prompts: Sequence[dict], outputs: Sequence[str]) -> tuple[list[float], None]:
        pairs = zip(prompts, outputs, strict=True)
        return [world.reward(prompt["instruction"], output) for prompt, output in pairs], None

    return Scalar(
        rewards, lambda *texts_and_rewards: world.oracle_preference(*texts_and_rewards[:3])
    )


def reward_model(name: str, model: str, batch_size: int = 16) -> Scalar:
    """Any sequence classifier with one output: preference = 1 + sigmoid(r2 - r1), Bradley-Terry.

    Conversations are cut where its training cut them: at the tokenizer's ``model_max_length``, or
    at the model's positions where those are fewer or the tokenizer knows no limit.

    Args:
        model: folder of the model and its tokenizer, whose chat template is used.

    Raises:
        UserError: the model has several outputs, or the tokenizer no chat template.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from poet.data.templates import row_options, template_of
    from poet.evaluate.reward_model import encode
    from poet.evaluate.reward_model import rewards as score
    from poet.hub.folders import model_path, whole_model

    folder = model_path(model)
    trained = Path(folder) / "train.json"  # one of the workflow's own; else there is none
    record = read_json(trained).get("record", {}) if trained.is_file() else {}
    variables = record.get("chat_template_kwargs", {})
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    classifier = whole_model(AutoModelForSequenceClassification, folder, dtype="auto")
    if classifier.config.num_labels != 1:
        raise UserError(
            f"{model} has {classifier.config.num_labels} outputs; expected a reward model with one"
        )
    template_of(tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # The classifier reads its score at the last token that is no padding.
    classifier.config.pad_token_id = tokenizer.pad_token_id
    classifier.to("cuda" if torch.cuda.is_available() else "cpu")
    positions = getattr(classifier.config.get_text_config(), "max_position_embeddings", None)
    # A tokenizer that knows no limit says 1e30.
    limit = min(int(tokenizer.model_max_length), positions or sys.maxsize)

    def rewards(prompts: Sequence[dict], outputs: Sequence[str]) -> tuple[list[float], list[bool]]:
        conversations = [
            [*prompt["prompt"], {"role": "assistant", "content": output}]
            for prompt, output in zip(prompts, outputs, strict=True)
        ]
        options = [*map(row_options, prompts)]
        sequences, was_cut = encode(tokenizer, conversations, limit, variables, options)
        if any(was_cut):
            print(
                f"{name}: {sum(was_cut)} of {len(was_cut)} conversations are longer than {limit} "
                "tokens; the reward model reads that much of them",
                file=sys.stderr,
            )
        return score(classifier, sequences, batch_size, name), was_cut

    return Scalar(rewards, lambda *given: bradley_terry(*given[3:]))


def bradley_terry(reward_1: float, reward_2: float) -> float:
    """1 + the probability that answer 2 is better, from the difference of their rewards."""
    gap = reward_2 - reward_1
    odds = math.exp(-abs(gap))  # never overflows
    return 1 + (1 if gap >= 0 else odds) / (1 + odds)
