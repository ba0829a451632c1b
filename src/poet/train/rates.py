"""Learning rates said as ``auto``: by the model's size and the number of optimizer steps.

The published recipe for a size, for as many steps as recipes take; where there are fewer, as many
times more. Adam moves a weight by about the learning rate per step (Kingma and Ba 2015, arXiv
1412.6980, section 2.1), so that the way a model can go, rate x steps, is the recipe's. Sources and
a measurement: docs/training.md.
"""

from __future__ import annotations

import math
import sys

STEPS = 500  # of the recipes: 61,135 pairs of UltraFeedback at 128 a step are 478
LIMIT = 30  # times the recipe's rate, at most
LARGE = 3e9  # parameters
PREFERENCE = {"small": 1e-6, "large": 5e-7}  # of DPO and SimPO
REWARD_MODEL = {"small": 1e-5, "large": 2e-6}


def learning_rate(settings: dict, recipes: dict[str, float], parameters: int, examples: int):
    """The peak learning rate: the one that is asked for, or for "auto" the rule's, said on stderr.

    Args:
        settings: ``learning_rate``, ``num_train_epochs`` and ``global_batch_size`` of a training.
        recipes: :data:`PREFERENCE` or :data:`REWARD_MODEL`.
        parameters: of the model.
        examples: of an epoch.
    """
    if settings["learning_rate"] != "auto":
        return settings["learning_rate"]
    epochs, batch_size = settings["num_train_epochs"], settings["global_batch_size"]
    steps = math.ceil(epochs * math.ceil(examples / batch_size))
    recipe = recipes["large" if parameters >= LARGE else "small"]
    rate = float(f"{recipe * min(LIMIT, max(1, STEPS / steps)):.3g}")
    print(
        f"learning rate {rate:g}: {recipe:g} for {parameters / 1e9:.2g} G parameters and {STEPS} "
        f"steps; here {steps}",
        file=sys.stderr,
    )
    return rate
