"""TRL's SFTTrainer with batches of like lengths, in an order that a resumed run can go on with."""

from __future__ import annotations

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTTrainer


class ByLength(LengthGroupedSampler):
    """transformers' sampler, shuffled by seed and epoch, where its own takes the global state."""

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        self.generator = torch.Generator().manual_seed(self.seed + epoch)


class StartTrainer(SFTTrainer):
    """The trainer of start models; see the module's head."""

    def _get_train_sampler(self, train_dataset=None) -> ByLength:
        data = self.train_dataset if train_dataset is None else train_dataset
        lengths = [len(ids) for ids in data["input_ids"]]
        args = self.args
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return ByLength(batch_size, lengths, args.seed)
