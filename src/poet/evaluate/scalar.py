"""Annotators that give each answer a reward: the embedded world's oracle, and reward models.

They are deterministic and see no order, so alpaca-eval's random swap of the outputs, which guards
against a judge's position bias, would change nothing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from poet.files import UserError


def oracle(prompts: Sequence[dict], rows: Sequence[dict]) -> list[dict]:
    """The embedded world's true reward, and its preference with a mild taste for length."""
    from poet.data import world

    def judged(instruction: str, output_1: str, output_2: str) -> dict:
        return {
            "preference": world.oracle_preference(instruction, output_1, output_2),
            "reward_1": world.reward(instruction, output_1),
            "reward_2": world.reward(instruction, output_2),
        }

    return [judged(row["instruction"], row["output_1"], row["output_2"]) for row in rows]


def reward_model(name: str, model: str, revision: str | None = None, batch_size: int = 16):
    """Any sequence classifier with one output: preference = 1 + sigmoid(r2 - r1), Bradley-Terry.

    Conversations are cut where its training cut them: at the tokenizer's ``model_max_length``, or
    at the model's positions where those are fewer or the tokenizer knows no limit.

    Args:
        model: folder or hub id of the model and its tokenizer, whose chat template is used.
        revision: the hub's commit.

    Returns:
        A judge (see :mod:`poet.evaluate.annotators`). Its column ``reward_cut`` says whether it
        read either answer only in part.

    Raises:
        UserError: the model has several outputs, or the tokenizer no chat template.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from poet.data.hub import model_path
    from poet.train import reward_model as training

    folder = model_path(model, revision)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    classifier = AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto")
    if classifier.config.num_labels != 1:
        raise UserError(
            f"{model} has {classifier.config.num_labels} outputs; expected a reward model with one"
        )
    if tokenizer.chat_template is None:
        raise UserError(f"{model}: its tokenizer has no chat template")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # The classifier reads its score at the last token that is no padding.
    classifier.config.pad_token_id = tokenizer.pad_token_id
    classifier.to("cuda" if torch.cuda.is_available() else "cpu")
    positions = getattr(classifier.config.get_text_config(), "max_position_embeddings", None)
    # A tokenizer that knows no limit says 1e30.
    limit = min(int(tokenizer.model_max_length), positions or sys.maxsize)

    def judge(prompts: Sequence[dict], rows: Sequence[dict]) -> list[dict]:
        messages = {prompt["instruction"]: prompt["prompt"] for prompt in prompts}
        columns = ("output_1", "output_2")
        answers = list(dict.fromkeys((row["instruction"], row[c]) for row in rows for c in columns))
        conversations = [
            [*messages[instruction], {"role": "assistant", "content": output}]
            for instruction, output in answers
        ]
        sequences, was_cut = training.encode(tokenizer, conversations, limit)
        if any(was_cut):
            print(
                f"{name}: {sum(was_cut)} of {len(was_cut)} conversations are longer than {limit} "
                "tokens; the reward model reads that much of them",
                file=sys.stderr,
            )
        rewards = map(float, training.rewards(classifier, sequences, batch_size, name))
        found = dict(zip(answers, zip(rewards, was_cut, strict=True), strict=True))
        return [_compared(*(found[row["instruction"], row[c]] for c in columns)) for row in rows]

    return judge


def _compared(answer_1: tuple[float, bool], answer_2: tuple[float, bool]) -> dict:
    (reward_1, cut_1), (reward_2, cut_2) = answer_1, answer_2
    return {
        "preference": bradley_terry(reward_1, reward_2),
        "reward_1": reward_1,
        "reward_2": reward_2,
        "reward_cut": cut_1 or cut_2,
    }


def bradley_terry(reward_1: float, reward_2: float) -> float:
    """1 + the probability that answer 2 is better, from the difference of their rewards."""
    gap = reward_2 - reward_1
    odds = math.exp(-abs(gap))  # never overflows
    return 1 + (1 if gap >= 0 else odds) / (1 + odds)
