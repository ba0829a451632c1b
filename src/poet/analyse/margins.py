"""Implicit rewards of prefixes before and after training; see :mod:`poet.analyse.reward_gap`.

Arrays: S training runs (seeds), P pairs, T tokens. A prefix of a response that is shorter is the
whole response, so the last of T prefix lengths gives the sequence-level reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path

import numpy as np
import torch

from poet.analyse.intervals import described, padded, share, share_among
from poet.evaluate.statistics import Score
from poet.files import UserError, read_json
from poet.methods import SIDES
from poet.methods.objectives import OBJECTIVES, Responses


def prefix_rewards(
    objective: str, parameters: dict, logps: Sequence, ref_logps: Sequence, width: int
) -> np.ndarray:
    """Implicit rewards of the first t tokens, t = 1 ... width, of P responses: [P, width].

    ``logps``, ``ref_logps``: log-probabilities of each response's tokens.
    """
    weights = [np.ones(len(row)) for row in logps]  # every token weighs alike
    fields = [torch.from_numpy(padded(rows, width)) for rows in (logps, ref_logps, weights)]
    prefixes = (Responses(*(field[:, :t] for field in fields)) for t in range(1, width + 1))
    columns = [OBJECTIVES[objective].rewards(prefix, parameters) for prefix in prefixes]
    return torch.stack(columns, -1).numpy()


@dataclass(frozen=True)
class Trained:
    """One method: rewards of prefixes under its objective, by side: [1, P, T], after [S, P, T]."""

    objective: str
    parameters: dict[str, float]
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]

    @property
    def margins(self) -> tuple[np.ndarray, np.ndarray]:
        """Chosen minus rejected, before and after."""
        return tuple(
            rewards["chosen"] - rewards["rejected"] for rewards in (self.before, self.after)
        )


def trained(folders: list[str], seeds: list[dict], tokens: dict, width: int) -> Trained:
    """Rewards of a method from the token statistics of its models; see :class:`Trained`.

    ``tokens``: columns chosen_ids, rejected_ids and the start model's log-probabilities
    ref_chosen_logps, ref_rejected_logps, as lists.

    Raises:
        UserError: the models of the seeds were trained with different objectives.
    """
    records = [read_json(Path(folder) / "train.json")["record"] for folder in folders]
    choices = [(record["objective"], record["parameters"]) for record in records]
    objective, parameters = choices[0]
    if any(choice != choices[0] for choice in choices):
        raise UserError(
            f"{', '.join(folders)}: expected one objective and its parameters, found {choices}"
        )
    reference = {f"{side}_logps": tokens[f"ref_{side}_logps"] for side in SIDES}
    shared = np.arange(width) < shared_lengths(tokens)[:, None]

    def rewards(policies: list[dict]) -> dict[str, np.ndarray]:
        chosen, rejected = (
            np.stack([prefix_rewards(*choices[0], of[name], ref, width) for of in policies])
            for name, ref in reference.items()
        )
        # Equal prefixes have equal rewards; the rounding of two batches would tell them apart.
        return {"chosen": chosen, "rejected": np.where(shared, chosen, rejected)}

    return Trained(objective, parameters, rewards([reference]), rewards(seeds))


def shared_lengths(tokens: dict) -> np.ndarray:
    """Number of first tokens that both responses of each pair have in common, [P]."""
    pairs = zip(tokens["chosen_ids"], tokens["rejected_ids"], strict=True)
    return np.array([len(commonprefix([*pair])) for pair in pairs])


def describe(method: Trained, ks: list[int]) -> dict:
    """The entry of a method in ``methods``, without ``generated``."""
    before, after = method.margins
    width = after.shape[-1]
    marks = [(k, k - 1) for k in ks if k < width] + [(None, width - 1)]
    grew = after[..., -1] > before[..., -1]
    changes = {side: (method.after[side] - method.before[side])[..., -1] for side in SIDES}
    return {
        "objective": method.objective,
        "beta": method.parameters["beta"],
        "unit": OBJECTIVES[method.objective].unit,
        "n_seeds": len(after),
        "interval": Score.of_values(grew).interval,
        "margins": [
            {
                "k": k,
                **described("before", Score.of_values(before[..., at])),
                **described("after", Score.of_values(after[..., at])),
                "positive_before": 100 * float((before[..., at] > 0).mean()),
                "positive_after": 100 * float((after[..., at] > 0).mean()),
            }
            for k, at in marks
        ],
        **described("chosen_change", Score.of_values(changes["chosen"])),
        **described("rejected_change", Score.of_values(changes["rejected"])),
        "margin_grew": share(grew),
        "chosen_fell": share(grew & (changes["chosen"] < 0)),
        "smaller_prefix": [
            {"k": k, **share_among(after[..., at] < before[..., at], grew)} for k, at in marks[:-1]
        ],
    }


def against(method: Trained, baseline: Trained, ks: list[int]) -> list[dict]:
    """Rows of ``against``: where the baseline's whole margin is larger, is that at k smaller?"""
    pairs = zip(baseline.margins[1], method.margins[1], strict=False)
    gap = np.stack([theirs - ours for theirs, ours in pairs])
    larger = gap[..., -1] > 0
    marks = [k for k in ks if k < gap.shape[-1]]
    return [{"k": k, **share_among(gap[..., k - 1] < 0, larger)} for k in marks]
