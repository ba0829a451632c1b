"""Learning rates said as ``auto``: by the model's size and the number of optimizer steps.

The published recipe for a size, for as many steps as recipes take; where there are fewer, as many
times more. Adam moves a weight by about the learning rate per step (Kingma and Ba 2015, arXiv
1412.6980, section 2.1), so that the way a model can go, rate x steps, is the recipe's. Sources and
a measurement: docs/training.md.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

STEPS = 500  # of the recipes: 61,135 pairs of UltraFeedback at 128 a step are 478
LARGE = 3e9  # parameters


@dataclass(frozen=True)
class Recipe:
    """Peak rates of models below and from LARGE, and how many times more it may be, at most."""

    small: float
    large: float
    limit: float


PREFERENCE = Recipe(1e-6, 5e-7, limit=30)  # DPO and SimPO
REWARD_MODEL = Recipe(1e-5, 2e-6, limit=5)


def learning_rate(settings: dict, recipe: Recipe, parameters: int, examples: int) -> float:
    """The peak learning rate: the one that is asked for, or for "auto" the rule's, said on stderr.

    Args:
        settings: ``learning_rate``, ``num_train_epochs`` and ``global_batch_size`` of a training.
        recipe: :data:`PREFERENCE` or :data:`REWARD_MODEL`.
        parameters: of the model.
        examples: of an epoch.
    """
    if settings["learning_rate"] != "auto":
        return settings["learning_rate"]
    epochs, batch_size = settings["num_train_epochs"], settings["global_batch_size"]
    steps = math.ceil(epochs * math.ceil(examples / batch_size))
    published = recipe.large if parameters >= LARGE else recipe.small
    rate = float(f"{published * min(recipe.limit, max(1, STEPS / steps)):.3g}")
    size = f"{parameters / 1e9:.2g} G parameters"
    print(
        f"learning rate {rate:g}: {published:g} for {size} and {STEPS} steps; here {steps}",
        file=sys.stderr,
    )
    return rate
