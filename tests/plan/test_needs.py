"""What jobs ask for: at least what their models take, and little for little ones."""

from pathlib import Path

import pytest

from poet.config import load, read
from poet.plan.fits import BYTES, Job, check
from poet.plan.needs import main_memory

ROOT = Path(__file__).parents[2]
PAPER = read(ROOT / "config" / "paper.yaml")


@pytest.mark.parametrize("rule", BYTES)
def test_a_job_asks_for_what_its_model_takes_at_least(rule):
    setting = "mistral-7b-base"
    wildcards = {"setting": setting, "method": "dpo"}
    if rule in ("annotate", "judge_answers"):
        wildcards["annotator"] = "skywork"
    if rule in ("sft", "train_reward_model", "validate"):
        setting = PAPER["settings"][setting]
        section = {"learning_rate": 1e-5, "global_batch_size": 8, "per_device_batch_size": 1}
        section |= {"max_length": 512}
        own = setting | {"sft": section, "reward_model": section}
        config = load({**PAPER, "settings": {**PAPER["settings"], "mistral-7b-base": own}})
    else:
        config = PAPER
    asked = main_memory(rule, config, wildcards)
    check([Job(rule, wildcards, {"mem_mb": asked, "gpu": 0})], config)
    on_gpu = main_memory(rule, config, wildcards, gpu=True)
    assert on_gpu < 70_000 and (on_gpu < asked or BYTES[rule] < 16)


@pytest.mark.parametrize("rule", ["sft", "train", "reference", "generate", "measure_reward_gap"])
def test_jobs_of_the_embedded_default_run_side_by_side_in_little_memory(rule):
    config = read(ROOT / "config.yaml")
    assert main_memory(rule, config, {"setting": "world", "method": "dpo"}) <= 2000


def test_more_tokens_take_more_and_checkpointing_and_lora_less():
    def of(**preference):
        config = read(ROOT / "config" / "own-model.yaml", pairs="x.jsonl", model="org/smol")
        config["settings"]["own"]["preference"] |= preference
        return main_memory("train", config, {"setting": "own", "method": "dpo"})

    shape = {
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("poet.sizes.models._listed", lambda: {"org/smol": shape})
        plain = of(token_budget=4096)
        # Of 134.5 million parameters 2.15 GB of states, and 1.9 MB of activations for a token.
        assert 10_000 < plain < 13_000
        assert of(token_budget=8192) > plain + 7000
        assert of(token_budget=4096, gradient_checkpointing=True) < plain / 2
        assert of(token_budget=4096, lora={"r": 8}) == pytest.approx(plain - 1076, abs=100)
        assert of() < 8000  # what `auto` takes
