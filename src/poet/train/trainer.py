"""The one preference trainer: TRL's DPOTrainer over pairs that are tokenized, truncated and cached.

Columns of the data set: prompt_ids, chosen_ids, rejected_ids (token ids), ref_chosen_logps,
ref_rejected_logps (per-token log-probabilities of the reference, as long as the responses) and
pair_hash (names the pair).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import pyarrow.compute as pc
import torch
from accelerate import AutocastKwargs
from peft import PeftModel
from torch import Tensor
from torch.utils.data import Sampler
from trl import DPOTrainer

from poet.data.tokenization import IDS
from poet.methods import SIDES
from poet.methods.objectives import OBJECTIVES, Responses, weighted_sum
from poet.methods.weighting import token_weights
from poet.train.forward import COLUMNS, FORWARDS
from poet.train.packing import add_packed_forward

PREFIXES = (8, 16, 32, 64)  # tokens, of the logged margins


class SortedBatches(Sampler[int]):
    """A new shuffle every epoch, cut into global batches, each sorted by length.

    An optimizer step sees the same pairs as without sorting; its micro-batches hold pairs of like
    lengths, so they waste little on padding. With ``shares`` each batch is dealt out like cards:
    as many runs of like content, one after the other.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int, shares: int = 1) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0
        self.shares = shares

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        for batch in order.split(self.batch_size):
            ordered = sorted(batch.tolist(), key=self.lengths.__getitem__)
            for share in range(self.shares):
                yield from ordered[share :: self.shares]


class PreferenceTrainer(DPOTrainer):
    """Every method on the same tokens: an objective, a weighting and a forward pass, by name.

    ``objective`` is a key of :data:`poet.methods.objectives.OBJECTIVES`, ``parameters`` its keyword
    arguments (beta, ...); ``weighting`` is as in the configuration, see
    :func:`poet.methods.weighting.token_weights`; ``forward`` is a key of
    :data:`poet.train.forward.FORWARDS`, "packed" with ``token_budget`` tokens per row and a device
    batch that is this process's whole share of the global batch.
    """

    loss_is_scaled_for_ga = True  # for gradient accumulation, in compute_loss

    def __init__(
        self,
        *,
        objective: str,
        parameters: dict[str, float],
        weighting: str | dict[str, float] = "uniform",
        forward: str = "padded",
        token_budget: int | None = None,
        args,
        processing_class,
        **kwargs,
    ):
        self.objective, self.parameters = OBJECTIVES[objective], parameters
        self.weighting = weighting
        collate, self.forward = FORWARDS[forward]
        self.packed = forward == "packed"
        # The reference is in the columns: TRL then keeps no reference model.
        args.precompute_ref_log_probs = True
        super().__init__(
            args=args,
            processing_class=processing_class,
            data_collator=partial(
                collate, pad_token_id=processing_class.pad_token_id, token_budget=token_budget
            ),
            **kwargs,
        )
        # A pass uses each weight once: a cache of bfloat16 copies would only cost 2 bytes for each.
        self.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
        if self.packed:
            lora = isinstance(self.model, PeftModel)
            add_packed_forward(self.model.get_base_model() if lora else self.model)

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset  # tokenized upstream, once for all methods

    def _precompute_ref_logps(self, dataset, *args, **kwargs):
        return dataset  # cached upstream, per token

    def _get_train_sampler(self, train_dataset=None) -> SortedBatches:
        table = self.train_dataset.with_format("arrow")[:]
        prompt, chosen, rejected = (pc.list_value_length(table[name]) for name in IDS)
        lengths = pc.add(prompt, pc.max_element_wise(chosen, rejected)).to_pylist()
        args = self.args
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        # In parts, a process takes its whole share at once, and shares should cost the same.
        shares = args.world_size if self.packed else 1
        return SortedBatches(lengths, batch_size, args.seed, shares)

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

    def training_step(self, model, inputs, num_items_in_batch=None):
        """A batch in parts takes a forward and a backward pass per part."""
        parts = self._parts(inputs)
        state, losses = self.accelerator.gradient_state, []
        sync, each = state.sync_gradients, state.plugin_kwargs.get("sync_each_batch", False)
        for i, part in enumerate(parts, start=1):
            last = i == len(parts)
            state._set_sync_gradients(sync and last)
            with nullcontext() if last or each else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        return torch.stack(losses).sum()

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        state = self.accelerator.gradient_state
        # Of all processes' last batches; the state has none where these are full.
        remainder = max(0, state.remainder) if state.end_of_dataloader else 0
        for part in self._parts({**inputs, "real": self._real(inputs, remainder)}):
            outputs = super().prediction_step(model, part, True, ignore_keys)
        return outputs  # evaluation reads the recorded sums

    def _parts(self, inputs: dict) -> list[dict]:
        """The batch, or its parts; as many in every process, as sharded models need it."""
        if "parts" not in inputs:
            return [inputs]
        real = inputs["real"]
        parts = [{**part, "real": real[part["rows"]]} for part in inputs["parts"]]
        if self.args.world_size > 1:
            counts = self.accelerator.gather(torch.tensor([len(parts)], device=real.device))
            again = {**parts[-1], "real": torch.zeros_like(parts[-1]["real"])}  # the smallest
            parts += [again] * (int(counts.max()) - len(parts))
        return parts

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The sum of the pairs' losses over the pairs in the global batch, times processes.

        Summed over micro-batches and averaged over processes, as gradients are, that is the global
        batch's mean, also where its end is not full. In evaluation it is the batch's own mean.
        """
        logps = self.forward(model, inputs)
        mask = inputs["mask"].to(logps.dtype)
        weights = token_weights(self.weighting, *mask.chunk(2), self._keys(inputs["pairs"]))
        sides = (logps.chunk(2), inputs["ref_logps"].chunk(2), weights)
        chosen, rejected = map(Responses, *sides)
        losses = self.objective.loss(chosen, rejected, **self.parameters)
        real = inputs.get("real", torch.ones_like(losses))
        with torch.no_grad():
            self._record(chosen, rejected, mask.chunk(2), losses, real)
        total = (losses * real).sum()
        if num_items_in_batch is None:
            loss = total / real.sum().clamp(min=1)
        else:
            loss = total * self.args.world_size / num_items_in_batch
        return (loss, None) if return_outputs else loss

    def _keys(self, pairs: Tensor) -> Iterator[tuple[int, int, int]]:
        """(seed, epoch, pair) of each pair: a draw does not depend on what else is in its batch."""
        # A generator: unless something is drawn, no step waits for the device.
        epoch = int(self.state.epoch or 0) if self.model.training else 0
        for pair in pairs.tolist():
            yield self.args.seed, epoch, pair

    def _record(self, chosen, rejected, masks, losses: Tensor, real: Tensor) -> None:
        """Add up what is logged, over pairs; rewards are beta x score, as TRL logs them.

        ``rewards/margins_k`` is the margin of rewards if both responses ended after k tokens, each
        token with weight 1: for DPO beta x the log-ratios' sums, for means those of the prefix.
        """
        rewards = partial(self.objective.rewards, parameters=self.parameters)
        sides = list(zip(SIDES, (chosen, rejected), masks, strict=True))
        values = {f"rewards/{name}": rewards(side) for name, side, _ in sides}
        margins = values["rewards/chosen"] - values["rewards/rejected"]
        values |= {"rewards/margins": margins, "rewards/accuracies": margins > 0}
        for name, side, mask in sides:
            values[f"logps/{name}"] = weighted_sum(side.logps, mask)
            values[f"length/{name}"] = mask.sum(-1)
        for k in PREFIXES:
            of_chosen, of_rejected = (
                rewards(Responses(side.logps[:, :k], side.ref_logps[:, :k], mask[:, :k]))
                for _, side, mask in sides
            )
            values[f"rewards/margins_{k}"] = of_chosen - of_rejected
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
