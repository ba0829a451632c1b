"""Mixed precision computes in bfloat16, holds float32 weights and keeps no second copy of them."""

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig

from poet.train.trainer import PreferenceTrainer


def test_bfloat16_computation_on_float32_weights_without_a_cache(start, tmp_path):
    rows = {
        "prompt_ids": [[5, 6]] * 2, "chosen_ids": [[7, 8, 1]] * 2, "rejected_ids": [[9, 1]] * 2,
        "ref_chosen_logps": [[-1.0] * 3] * 2, "ref_rejected_logps": [[-1.0] * 2] * 2,
        "pair_hash": ["a", "b"],
    }  # fmt: skip
    model, seen = AutoModelForCausalLM.from_pretrained(start[0], dtype=torch.float32), []

    def look(module, inputs, output):
        seen.append((output.dtype, torch.is_autocast_cache_enabled()))

    model.model.layers[0].mlp.up_proj.register_forward_hook(look)
    trainer = PreferenceTrainer(
        model=model, objective="dpo", parameters={"beta": 0.1},
        args=DPOConfig(
            output_dir=str(tmp_path), bf16=True, use_cpu=True, max_steps=1, report_to="none",
            per_device_train_batch_size=2, save_strategy="no", gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_dict(rows),
        processing_class=AutoTokenizer.from_pretrained(start[0]),
    )  # fmt: skip
    trainer.train()
    assert seen and set(seen) == {(torch.bfloat16, False)}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
