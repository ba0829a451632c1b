"""The one preference trainer: TRL's DPOTrainer over pairs that are tokenized, truncated and cached.

Columns of the data set: prompt_ids, chosen_ids, rejected_ids (token ids), ref_chosen_logps,
ref_rejected_logps (per-token log-probabilities of the reference, as long as the responses) and
pair_hash (names the pair).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import Sampler
from trl import DPOTrainer

from poet.train.forward import COLUMNS, FORWARDS
from poet.train.objectives import OBJECTIVES, Responses, weighted_sum
from poet.train.weighting import token_weights

PREFIXES = (8, 16, 32, 64)  # tokens, of the logged margins


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
    """Every method on the same tokens: an objective, a weighting and a forward pass, by name.

    ``objective`` is a key of :data:`poet.train.objectives.OBJECTIVES`, ``parameters`` its keyword
    arguments (beta, ...); ``weighting`` is as in the configuration, see
    :func:`poet.train.weighting.token_weights`; ``forward`` is a key of
    :data:`poet.train.forward.FORWARDS`.
    """

    loss_is_scaled_for_ga = True  # for gradient accumulation, in compute_loss

    def __init__(
        self,
        *,
        objective: str,
        parameters: dict[str, float],
        weighting: str | dict[str, float] = "uniform",
        forward: str = "padded",
        args,
        processing_class,
        **kwargs,
    ):
        self.objective, self.parameters = OBJECTIVES[objective], parameters
        self.weighting = weighting
        collator, self.forward = FORWARDS[forward]
        # The reference is in the columns: TRL then keeps no reference model.
        args.precompute_ref_log_probs = True
        super().__init__(
            args=args,
            processing_class=processing_class,
            data_collator=collator(processing_class.pad_token_id),
            **kwargs,
        )

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset  # tokenized upstream, once for all methods

    def _precompute_ref_logps(self, dataset, *args, **kwargs):
        return dataset  # cached upstream, per token

    def _get_train_sampler(self, train_dataset=None) -> SortedBatches:
        data = self.train_dataset if train_dataset is None else train_dataset
        table = data.with_format("arrow")[:]
        prompt, chosen, rejected = (pc.list_value_length(table[name]) for name in COLUMNS[:3])
        lengths = pc.add(prompt, pc.max_element_wise(chosen, rejected)).to_pylist()
        args = self.args
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return SortedBatches(lengths, batch_size, args.seed)

    def _set_signature_columns_if_needed(self):
        self._signature_columns = COLUMNS

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of an optimizer step, and how many pairs its global batch has."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        at_once = self.args.train_batch_size * self.args.world_size
        ended = self.accelerator.gradient_state.end_of_dataloader
        # Not the accelerator's remainder: it knows none in an epoch that is resumed.
        remainder = len(self.train_dataset) % at_once if ended else 0
        for batch in samples:
            batch["real"] = self._real(batch, remainder if batch is samples[-1] else 0)
        return samples, (len(samples) - 1) * at_once + (remainder or at_once)

    def _real(self, batch: dict[str, Tensor], remainder: int) -> Tensor:
        """1 for pairs of the data, 0 for those that accelerate fills the last batches up with.

        ``remainder`` is the number of pairs of all processes' last batches together; 0 unless they
        are reached and not full.
        """
        pairs = batch["pairs"]
        count = remainder - self.args.process_index * len(pairs) if remainder else len(pairs)
        return (torch.arange(len(pairs), device=pairs.device) < count).float()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The sum of the pairs' losses over the pairs in the global batch, times processes.

        Summed over micro-batches and averaged over processes, as gradients are, that is the global
        batch's mean, also where its end is not full. In evaluation it is the batch's own mean.
        """
        logps = self.forward(model, inputs)
        mask = inputs["mask"].to(logps.dtype)
        weights = token_weights(self.weighting, mask, self._keys(inputs["pairs"]))
        sides = (logps.chunk(2), inputs["ref_logps"].chunk(2), weights.chunk(2))
        chosen, rejected = map(Responses, *sides)
        losses = self.objective.loss(chosen, rejected, **self.parameters)
        real = inputs["real"] if "real" in inputs else self._real(inputs, self._remainder())
        with torch.no_grad():
            self._record(chosen, rejected, mask.chunk(2), losses, real)
        total = (losses * real).sum()
        if num_items_in_batch is None:
            loss = total / real.sum().clamp(min=1)
        else:
            loss = total * self.args.world_size / num_items_in_batch
        return (loss, None) if return_outputs else loss

    def _remainder(self) -> int:
        """Pairs in all processes' last batches of an evaluation, if these are not full; else 0."""
        state = self.accelerator.gradient_state
        return max(0, state.remainder) if state.end_of_dataloader else 0

    def _keys(self, pairs: Tensor) -> list[tuple[int, int, int]]:
        """(seed, epoch, pair) of each pair: a draw does not depend on what else is in its batch."""
        epoch = int(self.state.epoch or 0) if self.model.training else 0
        return [(self.args.seed, epoch, pair) for pair in pairs.tolist()]

    def _record(self, chosen, rejected, masks, losses: Tensor, real: Tensor) -> None:
        """Add up what is logged, over pairs; rewards are beta x score, as TRL logs them.

        ``rewards/margins_k`` is the margin of rewards if both responses ended after k tokens, each
        token with weight 1: for DPO beta x the log-ratios' sums, for means those of the prefix.
        """
        beta, score = self.parameters["beta"], self.objective.score
        sides = list(zip(("chosen", "rejected"), (chosen, rejected), masks, strict=True))
        values = {f"rewards/{name}": beta * score(side) for name, side, _ in sides}
        margins = values["rewards/chosen"] - values["rewards/rejected"]
        values |= {"rewards/margins": margins, "rewards/accuracies": margins > 0}
        for name, side, mask in sides:
            values[f"logps/{name}"] = weighted_sum(side.logps, mask)
            values[f"length/{name}"] = mask.sum(-1)
        for k in PREFIXES:
            of_chosen, of_rejected = (
                score(Responses(side.logps[:, :k], side.ref_logps[:, :k], mask[:, :k]))
                for _, side, mask in sides
            )
            values[f"rewards/margins_{k}"] = beta * (of_chosen - of_rejected)
        metrics = self._metrics["train" if self.model.training else "eval"]
        if not self.model.training:
            values["loss"] = losses
        metrics["pairs"].append(real.sum())
        for name, value in values.items():
            metrics[name].append((value * real).sum())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        metrics = self._metrics["train" if self.model.training else "eval"]
        if metrics:
            # Tensors until here, so that no step waits for the device.
            sums = torch.stack([torch.stack(values).sum() for values in metrics.values()])
            pairs, *sums = self.accelerator.reduce(sums).tolist()
            del metrics["pairs"]
            for name, total in zip(metrics, sums, strict=True):
                metrics[name] = [total / pairs]
        super().log(logs, start_time)
