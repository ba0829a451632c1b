"""The peers: TRL's trainers and the released code's way, on the tokens and weights of a case."""

from __future__ import annotations

import copy
import time
import uuid

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

from benchmarks.case import Case, synchronize
from poet.train.forward import FORWARDS, pad_pairs
from poet.train.trainer import PreferenceTrainer

LOGGING_STEPS = 10


def arguments(device: str, count: int, micro: int, **kwargs) -> dict:
    """``count`` pairs an optimizer step, ``micro`` at a time; all else equal for all arms."""
    return {
        "output_dir": "results/benchmarks-unused",
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": count // micro,
        "num_train_epochs": 1,
        "learning_rate": 1e-6,
        "optim": "adamw_torch",
        "bf16": device == "cuda",
        "use_cpu": device == "cpu",
        "gradient_checkpointing": False,
        "max_length": None,
        "logging_steps": LOGGING_STEPS,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **kwargs,
    }


class TokenizedDPO(DPOTrainer):
    """TRL's trainer as it is, but for the tokenization; times its own pass over the reference."""

    reference_seconds = 0.0

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset

    def _precompute_ref_logps(self, dataset, name, batch_size):
        dataset._fingerprint = uuid.uuid4().hex[:16]  # no cache of an earlier run
        start = time.perf_counter()
        found = super()._precompute_ref_logps(dataset, name, batch_size)
        synchronize(self.args.device.type)
        self.reference_seconds = time.perf_counter() - start
        return found


def trl_dpo(case: Case, *, micro: int, checkpointing: bool, precomputed: bool) -> TokenizedDPO:
    return TokenizedDPO(
        model=copy.deepcopy(case.policy),
        ref_model=copy.deepcopy(case.reference),
        args=DPOConfig(
            **arguments(case.device, case.count, micro, gradient_checkpointing=checkpointing),
            beta=case.beta,
            precompute_ref_log_probs=precomputed,
            precompute_ref_batch_size=micro,
        ),
        train_dataset=Dataset.from_dict(case.pairs.short),
        processing_class=case.pairs.tokenizer,
    )


class TokenizedSimPO(CPOTrainer):
    """TRL's SimPO as it is, but for the tokenization."""

    def tokenize_row(self, feature, model=None) -> dict:
        prompt = feature["prompt_ids"]
        row = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
        for side in ("chosen", "rejected"):
            ids = feature[f"{side}_ids"]
            row[f"{side}_input_ids"] = prompt + ids
            row[f"{side}_attention_mask"] = [1] * (len(prompt) + len(ids))
            row[f"{side}_labels"] = [-100] * len(prompt) + ids
        return row


def trl_simpo(case: Case, *, micro: int) -> TokenizedSimPO:
    unread = {name: [""] * case.count for name in ("prompt", "chosen", "rejected")}
    return TokenizedSimPO(
        model=copy.deepcopy(case.policy),
        args=CPOConfig(
            **arguments(case.device, case.count, micro),
            loss_type="simpo",
            cpo_alpha=0.0,
            beta=2.0,
            simpo_gamma=1.0,
        ),
        train_dataset=Dataset.from_dict({**case.pairs.short, **unread}),
        processing_class=case.pairs.tokenizer,
    )


def released(case: Case, *, micro: int) -> PreferenceTrainer:
    """As the paper's code does: full pairs, POET as a mask, all logits, a live reference.

    Gradient checkpointing is on, as in its configurations.
    """
    reference = copy.deepcopy(case.reference)

    def logps(model, batch):
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        labels = batch["labels"][:, 1:].clamp(min=0)
        found = logits[:, :-1].float().log_softmax(-1).gather(-1, labels[..., None])[..., 0]
        is_response = batch["labels"][:, 1:] != -100
        mask = batch["response"]
        return found.new_zeros(mask.shape).masked_scatter(mask, found[is_response])

    def forward(model, batch):
        mask = batch["response"] = batch["mask"]
        kept = mask.sum(-1).view(2, -1).amin(0).repeat(2)
        batch["mask"] = mask & (torch.arange(mask.shape[1], device=mask.device) < kept[:, None])
        with torch.no_grad():
            batch["ref_logps"] = logps(reference, batch)
        return logps(model, batch)

    FORWARDS["released"] = pad_pairs, forward
    unread = {
        f"ref_{side}_logps": [[0.0] * len(ids) for ids in case.pairs.full[f"{side}_ids"]]
        for side in ("chosen", "rejected")
    }
    return PreferenceTrainer(
        model=copy.deepcopy(case.policy),
        args=DPOConfig(**arguments(case.device, case.count, micro, gradient_checkpointing=True)),
        objective="dpo",
        parameters={"beta": case.beta},
        forward="released",
        train_dataset=Dataset.from_dict({**case.pairs.full, **unread}),
        processing_class=case.pairs.tokenizer,
    )
