"""config/small.yaml against a served hub: its three families from `make lock` to the main table."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from transformers import AutoTokenizer

import paper_hub
import small_hub
from served_hub import ServedHub

ROOT = Path(__file__).parents[2]
# Not all of the grid: a process per file and library is what takes time here.
GRID = {
    "smollm2-135m": ["dpo-poet"],
    "qwen3-0.6b": ["sft", "simpo"],
    "olmo2-1b": ["simpo-poet"],
}
JUDGES = {"smollm2-135m": "skywork", "qwen3-0.6b": "qwen3_judge", "olmo2-1b": "skywork"}
KWARGS = {"qwen3-0.6b": {"enable_thinking": False}}


SIZES = {
    "preference": {
        "global_batch_size": 4, "per_device_batch_size": 2, "max_length": 160,
        "max_prompt_length": 128, "num_train_epochs": 1,
    },
    "generation": {"max_new_tokens": 8, "batch_size": 50, "backend": "transformers"},
}  # fmt: skip
CUT = {
    "extends": str(ROOT / "config" / "small.yaml"),
    "lock": "hub.lock.yaml",
    "torch_threads": 1,
    "seeds": [42],
    "settings": {name: {**SIZES, "annotators": [JUDGES[name]]} for name in GRID},
    "grid": GRID,
    "gains": {"dpo-poet": None, "simpo-poet": None},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Locked, then run to the main table."""
    root, folder = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("small")
    small_hub.make(root)
    (folder / "small.yaml").write_text(yaml.safe_dump(CUT, sort_keys=False))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    with ServedHub(root) as served:
        for command in (
            ["poet.plan.lock", "--configfile", "small.yaml"],
            ["snakemake", "results/tables/main.csv", "--snakefile", str(ROOT / "Snakefile"),
             "--cores", "2", "--configfile", "small.yaml"],
        ):  # fmt: skip
            result = subprocess.run(
                [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True,
                env={**inherited, **served.environment, "HF_HOME": str(folder / "home")},
            )  # fmt: skip
            assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]
    return folder / "results"


def test_the_main_table_has_every_setting_and_judge(results):
    with (results / "tables" / "main.csv").open() as file:
        rows = list(csv.DictReader(file))
    wanted = [(setting, method, JUDGES[setting]) for setting in GRID for method in GRID[setting]]
    assert [(row["setting"], row["method"], row["annotator"]) for row in rows] == wanted
    for row in rows:
        assert 0 <= float(row["lc_win_rate"]) <= 100
        assert row["n_prompts"] == str(paper_hub.N_PROMPTS)


def test_each_setting_trains_with_its_own_recipe(results):
    for name, (*_, method) in GRID.items():
        start = (results / "models" / name / "sft" / "model.safetensors").read_bytes()
        folder = results / "models" / name / method / "seed-42"
        record = json.loads((folder / "train.json").read_text())["record"]
        config = json.loads((folder / "config.json").read_text())
        assert record["lr_scheduler_type"] == ("cosine" if "smollm2" in name else "linear")
        assert config["model_type"] == {"s": "llama", "q": "qwen3", "o": "olmo2"}[name[0]]
        assert (folder / "model.safetensors").read_bytes() != start


@pytest.mark.parametrize("name", GRID)
def test_tokens_are_transformers_own(results, name):
    """The system prompt of SmolLM2, Qwen3's empty thought, OLMo-2's BOS: as the templates say."""
    tokenizer = AutoTokenizer.from_pretrained(results / "models" / name / "sft")
    how = {"tokenize": False, **KWARGS.get(name, {})}
    eos = tokenizer.eos_token
    pairs, tokens = (
        pd.read_parquet(results / "data" / name / f"{table}.parquet").to_dict("records")
        for table in ("pairs", "tokens")
    )
    assert len(tokens) == 12
    for row in tokens:
        pair = pairs[row["row"]]
        asked = tokenizer.apply_chat_template(pair["prompt"], add_generation_prompt=True, **how)
        for side in ("chosen", "rejected"):
            whole = tokenizer.apply_chat_template([*pair["prompt"], *pair[side]], **how)
            text = tokenizer.decode([*row["prompt_ids"], *row[f"{side}_ids"]])
            assert text == whole.rstrip("\n") and text.endswith(eos)
        assert tokenizer.decode(row["prompt_ids"]) == asked
    assert {
        "smollm2-135m": asked.startswith(
            "<|im_start|>system\nYou are a helpful AI assistant named"
        ),
        "qwen3-0.6b": asked.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        "olmo2-1b": asked.startswith("<|endoftext|><|user|>\n"),
    }[name]
