"""Log-probability and entropy of every response token under a model, in one forward pass."""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.utils import add_fused_lm_head

from poet.hub.folders import loading, whole_model
from poet.methods import SIDES
from poet.precision import device_and_dtype
from poet.progress import track
from poet.sizes.architecture import Architecture
from poet.sizes.batches import filled
from poet.train.forward import pad_sequences


def token_statistics(folder, tokens: dict, record: dict, label: str) -> dict[str, list[np.ndarray]]:
    """Run a model over pairs, in batches of like lengths.

    Args:
        tokens: columns prompt_ids, chosen_ids, rejected_ids as lists.
        record: reference_batch_size (responses), dtype, and how its models are loaded.

    Returns:
        ``chosen_logps``, ``chosen_entropy``, ``rejected_logps``, ``rejected_entropy``: an array per
        pair, [tokens of the response], in nats.
    """
    device, dtype = device_and_dtype(record["dtype"])  # as the reference was computed
    model = whole_model(AutoModelForCausalLM, folder, dtype=torch.float32, **loading(record))
    model.to(device).eval()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))  # in chunks, without the logits
    half, pad = dtype is torch.bfloat16, AutoTokenizer.from_pretrained(folder).pad_token_id
    prompts, n = tokens["prompt_ids"], len(tokens["prompt_ids"])
    jobs = [(side, row) for side in SIDES for row in range(n)]
    jobs.sort(key=lambda job: len(prompts[job[1]]) + len(tokens[f"{job[0]}_ids"][job[1]]))
    found = {f"{side}_{name}": [None] * n for side in SIDES for name in ("logps", "entropy")}
    side = max(len(prompts[row]) + len(tokens[f"{name}_ids"][row]) for name, row in jobs)
    shape = Architecture.found(model.config.to_dict())
    size = filled(record, shape, 2 * side, side)["reference_batch_size"]
    for start in track(range(0, len(jobs), size), label=label):
        batch = jobs[start : start + size]
        responses = [tokens[f"{side}_ids"][row] for side, row in batch]
        inputs = pad_sequences([prompts[row] for _, row in batch], responses, pad)
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        with torch.inference_mode(), torch.autocast(device, dtype, enabled=half):
            out = model(**inputs, use_cache=False, fused_lm_head=True)
        mask = inputs["labels"][:, 1:] != -100
        for name, values in (("logps", out.log_probs), ("entropy", out.entropy)):
            rows = values[mask].double().cpu().split([*map(len, responses)])
            for (side, row), each in zip(batch, rows, strict=True):
                found[f"{side}_{name}"][row] = each.numpy()
    return found
