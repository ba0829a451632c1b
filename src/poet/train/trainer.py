"""The one preference trainer: TRL's DPOTrainer over pairs that are tokenized, truncated and cached.

Columns of the data set: prompt_ids, chosen_ids, rejected_ids (token ids) and ref_chosen_logps,
ref_rejected_logps (per-token log-probabilities of the reference, as long as the responses).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler
from trl import DPOTrainer

from poet.train.objectives import OBJECTIVES, REFERENCE_FREE, weighted_sum

COLUMNS = ["prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_rejected_logps"]


@dataclass
class PairCollator:
    """Pads pairs on the right: rows [chosen of all pairs, rejected of all pairs].

    Gives input_ids, attention_mask, labels (-100 on prompt and padding), each [2 pairs, width], and
    ref_logps [2 pairs, width - 1], aligned with the labels shifted by one.
    """

    pad_token_id: int

    def __call__(self, examples: list[dict]) -> dict[str, Tensor]:
        rows = [
            (pair["prompt_ids"], pair[f"{name}_ids"], pair[f"ref_{name}_logps"])
            for name in ("chosen", "rejected")
            for pair in examples
        ]
        width = max(len(prompt) + len(response) for prompt, response, _ in rows)
        batch = {
            "input_ids": torch.full((len(rows), width), self.pad_token_id),
            "attention_mask": torch.zeros(len(rows), width, dtype=torch.long),
            "labels": torch.full((len(rows), width), -100),
            "ref_logps": torch.zeros(len(rows), width - 1),
        }
        for i, (prompt, response, ref) in enumerate(rows):
            start, end = len(prompt), len(prompt) + len(response)
            batch["input_ids"][i, :end] = torch.tensor(prompt + response)
            batch["attention_mask"][i, :end] = 1
            batch["labels"][i, start:end] = torch.tensor(response)
            batch["ref_logps"][i, start - 1 : end - 1] = torch.tensor(ref)
        return batch


class SortedBatches(Sampler[int]):
    """A new shuffle every epoch, cut into global batches, each sorted by length.

    An optimizer step sees the same pairs as without sorting; its micro-batches hold pairs of like
    lengths, so they waste little on padding.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        for batch in order.split(self.batch_size):
            yield from sorted(batch.tolist(), key=self.lengths.__getitem__)


class PreferenceTrainer(DPOTrainer):
    """DPO and SimPO on the same tokens; the objective decides the loss and nothing else.

    ``objective`` is a key of :data:`poet.train.objectives.OBJECTIVES`; ``args.beta`` is its beta.
    """

    def __init__(self, *, objective: str, gamma_beta_ratio: float = 0.0, args, **kwargs):
        self.score, self.loss = OBJECTIVES[objective]
        self.reference_free = objective in REFERENCE_FREE
        self.gamma_beta_ratio = gamma_beta_ratio
        # The reference is in the columns: TRL then keeps no reference model.
        args.precompute_ref_log_probs = True
        super().__init__(args=args, **kwargs)

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset  # tokenized upstream, once for all methods

    def _precompute_ref_logps(self, dataset, *args, **kwargs):
        return dataset  # cached upstream, per token

    def _get_train_sampler(self, train_dataset=None) -> SortedBatches:
        data = self.train_dataset if train_dataset is None else train_dataset
        lengths = [
            len(prompt) + max(len(chosen), len(rejected))
            for prompt, chosen, rejected in zip(*(data[name] for name in COLUMNS[:3]), strict=True)
        ]
        args = self.args
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return SortedBatches(lengths, batch_size, args.seed)

    def _set_signature_columns_if_needed(self):
        self._signature_columns = COLUMNS

    def _compute_loss(self, model, inputs, return_outputs):
        labels = inputs["labels"]
        logps = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
        ).log_probs
        weights = (labels[:, 1:] != -100).to(logps.dtype)
        scores = self.score(logps, inputs["ref_logps"], weights)
        chosen, rejected = scores.chunk(2)
        loss = self.loss(chosen, rejected, self.beta, self.gamma_beta_ratio).mean()
        self._record(logps.detach(), scores.detach(), weights)
        return (loss, None) if return_outputs else loss

    def _record(self, logps: Tensor, scores: Tensor, weights: Tensor) -> None:
        """Means over the batch's pairs; rewards are beta x score, as TRL logs them."""
        rewards = dict(zip(("chosen", "rejected"), (self.beta * scores).chunk(2), strict=True))
        sums = dict(zip(("chosen", "rejected"), weighted_sum(logps, weights).chunk(2), strict=True))
        lengths = dict(zip(("chosen", "rejected"), weights.sum(-1).chunk(2), strict=True))
        margins = rewards["chosen"] - rewards["rejected"]
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name in ("chosen", "rejected"):
            metrics[f"rewards/{name}"].append(rewards[name].mean())
            metrics[f"logps/{name}"].append(sums[name].mean())
            metrics[f"length/{name}"].append(lengths[name].mean())
        metrics["rewards/margins"].append(margins.mean())
        metrics["rewards/accuracies"].append((margins > 0).float().mean())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        # Tensors until here, so that no step waits for the device.
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, values in metrics.items():
            mean = self.accelerator.gather(torch.stack(values).mean()).mean()
            metrics[name] = [mean.item()]
        super().log(logs, start_time)
