"""Pairs of token ids, trainers on them, and their losses computed one response at a time."""

import random

import pytest
import torch
from accelerate.state import GradientState
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DPOConfig

from poet.methods.objectives import OBJECTIVES
from poet.train.arguments import common_arguments
from poet.train.trainer import PreferenceTrainer

BATCH, STEPS = 4, 10


@pytest.fixture(autouse=True)
def no_loader_is_left():
    """accelerate remembers, for the whole process, loaders that an earlier test did not finish."""
    GradientState().dataloader_references = [None]


@pytest.fixture(scope="session")
def pairs():
    """Columns of pairs of very unequal lengths, with one-token and equal-length responses."""
    numbers = random.Random(0)

    def draw(n):
        return [numbers.randrange(10, 250) for _ in range(n)]

    lengths = [(1, 7), (9, 9), (20, 1)] + [
        (numbers.randint(1, 25), numbers.randint(1, 25)) for _ in range(BATCH * STEPS - 3)
    ]
    rows = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": [], "pair_hash": []}
    for chosen, rejected in lengths:
        rows["prompt_ids"].append(draw(numbers.randint(1, 12)))
        rows["chosen_ids"].append([*draw(chosen - 1), 1])
        rows["rejected_ids"].append([*draw(rejected - 1), 1])
        rows["pair_hash"].append(f"{numbers.getrandbits(64):016x}")
    return rows


@pytest.fixture(scope="session")
def drifted(pairs):
    """The pairs with a made-up reference, so that rewards are not 0 at the start."""
    numbers = random.Random(1)
    names = ("chosen", "rejected")
    made_up = {
        f"ref_{name}_logps": [
            [numbers.uniform(-7, -3) for _ in ids] for ids in pairs[f"{name}_ids"]
        ]
        for name in names
    }
    return {**pairs, **made_up}


@pytest.fixture
def training_arguments(tmp_path):
    """DPOConfig for global batches of BATCH pairs, with a line of log per step."""

    def make(per_device=BATCH, cls=DPOConfig, **kwargs):
        sizes = {"global_batch_size": BATCH, "per_device_batch_size": per_device}
        common = {**common_arguments(sizes), "logging_steps": 1, "max_length": None}
        kwargs = {"learning_rate": 1e-2, "num_train_epochs": 1, "seed": 3, **kwargs}
        return cls(output_dir=str(tmp_path), **common | kwargs)

    return make


@pytest.fixture
def trainer_of(start, training_arguments):
    """Our trainer on columns of pairs; keyword arguments are the method's or the config's."""

    def make(
        rows, objective="dpo", weighting="uniform", eval_rows=None, model=None,
        processing_class=None, **kwargs,
    ):  # fmt: skip
        names = {*OBJECTIVES[objective].parameters} & set(kwargs)
        return PreferenceTrainer(
            model=model or AutoModelForCausalLM.from_pretrained(start[0]),
            objective=objective,
            parameters={"beta": 0.1} | {name: kwargs.pop(name) for name in names},
            weighting=weighting,
            args=training_arguments(**kwargs),
            train_dataset=Dataset.from_dict(rows),
            eval_dataset=None if eval_rows is None else Dataset.from_dict(eval_rows),
            processing_class=processing_class or start[1],
        )

    return make


def response_logps(model, prompt: list[int], response: list[int]) -> torch.Tensor:
    """log p of a response's tokens, from the logits of a pass of its own, in float64."""
    logits = model(torch.tensor([[*prompt, *response]])).logits[0].double()
    logps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return logps.gather(-1, torch.tensor(response)[:, None])[:, 0]


@pytest.fixture(scope="session")
def alone():
    return response_logps
