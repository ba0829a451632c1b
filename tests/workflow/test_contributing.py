"""The recipes of CONTRIBUTING.md: the blocks applied to a checkout, the commands run in it."""

import csv
import math
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

import paper_hub
from poet.files import read_json, read_jsonl, write_json
from served_hub import ServedHub

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^### An? (\w+)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))
# The line before a block, its language (commands have none), its text.
FENCE = re.compile(r"(?:^([^\n]+)\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WHERE = re.compile(r"(?:In `([^`]+)`, at its end|A new file `([^`]+)`):")


def blocks(recipe: str) -> list[tuple[str, str, str]]:
    """(file to append to, or file to write, text)."""
    found = [
        (WHERE.fullmatch(line), text) for line, language, text in FENCE.findall(recipe) if language
    ]
    return [(where[1], where[2], text) for where, text in found]


def apply(recipe: str, folder: Path) -> None:
    """Write a recipe's blocks into a checkout, whose files are hard links of ours."""
    for old, new, text in blocks(recipe):
        path = folder / (old or new)
        assert path.exists() == bool(old), f"{path}: at its end, or new?"
        if old:
            text = f"{path.read_text()}\n\n{text}"
            path.unlink()
        path.write_text(text)


@pytest.fixture
def do(clone, small_config):
    """Apply a recipe and run its commands; its folder of results."""
    (clone / "config.yaml").unlink()
    (clone / "config.yaml").write_text(yaml.safe_dump(small_config, sort_keys=False))

    def do(name: str, **environment: str) -> Path:
        recipe = RECIPES[name]
        apply(recipe, clone)
        (commands,) = [text for _, language, text in FENCE.findall(recipe) if not language]
        # The environment is at hand, and holds the package of another checkout.
        commands = re.sub("^make ", "make -o .venv/.installed ", commands, flags=re.MULTILINE)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        lint = [f"{sys.executable} -m ruff {what} src" for what in ("check", "format --check")]
        done = subprocess.run(
            ["bash", "-euc", "\n".join([*lint, commands])],
            cwd=clone, capture_output=True, text=True,
            env={**inherited, "PYTHONPATH": str(clone / "src"), **environment},
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
        return clone / "results"

    return do


@pytest.fixture
def made(clone, finished):
    """The checkout has the results of the small default."""
    for name in ("results", ".snakemake"):
        shutil.copytree(finished.folder / name, clone / name)
    start = clone / "results/models/world/sft/model.safetensors"
    before = start.stat().st_mtime_ns
    yield
    assert start.stat().st_mtime_ns == before  # only what is new was made


def main_table(results: Path) -> dict[tuple[str, str], dict]:
    """(method, annotator) -> row."""
    with (results / "tables/main.csv").open() as file:
        return {(row["method"], row["annotator"]): row for row in csv.DictReader(file)}


def test_there_are_five():
    assert [*RECIPES] == ["objective", "truncation", "annotator", "benchmark", "setting"]


def test_objective(made, do, clone):
    results = do("objective")
    rows = main_table(results)
    assert [method for method, _ in rows] == ["sft", "dpo", "dpo-poet", "slic", "slic-poet"]
    for method in ("slic", "slic-poet"):
        assert 0 <= float(rows[method, "oracle"]["win_rate"]) <= 100
        training = read_json(results / f"models/world/{method}/seed-1/train.json")
        assert training["log_history"][0]["loss"] == 1  # policy and reference are one
        assert training["log_history"][0]["grad_norm"] > 0
    assert rows["slic-poet", "oracle"]["gain_lc"]
    code = """
import torch
from poet.methods.objectives import OBJECTIVES, Responses
chosen, rejected = ([-1.0, -2.0, 9.0], [-3.0, -0.5, -1.0]), ([-2.0, -2.0, -2.5], [-1.0, -1.5, -1.0])
given = [torch.tensor([logps] * 2) for pair in (chosen, rejected) for logps in pair]
ends = torch.tensor([[1.0, 1.0, 0.0]] * 2), torch.ones(2, 3)
sides = [Responses(*given[:2], ends[0]), Responses(*given[2:], ends[1])]
print(*(OBJECTIVES["slic"].loss(*sides, beta=beta)[0].item() for beta in (0.1, 1.0)))
"""
    # Log-ratios: -3 + 3.5 = 0.5 of the chosen, whose third place is padding, -6.5 + 3.5 = -3.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(clone / "src")},
    )  # fmt: skip
    assert [*map(float, done.stdout.split())] == pytest.approx([1 - 0.1 * 3.5, 0])


def test_truncation(made, do):
    results = do("truncation")
    assert main_table(results)["dpo-first", "oracle"]["gain_lc"]
    trained = read_json(results / "models/world/dpo-first/seed-1/train.json")["record"]
    assert trained["truncation"] == {"strategy": "first", "length": 32}
    data = results / "data/world"
    full, cut = (pq.read_table(data / f"{name}.parquet") for name in ("tokens", "first-32"))
    for column in ("chosen_ids", "rejected_ids"):
        whole = full[column].to_pylist()
        assert cut[column].to_pylist() == [ids[:32] for ids in whole]
        assert min(map(len, whole)) < 32 < max(map(len, whole))


def test_annotator(made, do):
    results = do("annotator")
    rows = main_table(results)
    for method in ("sft", "dpo", "dpo-poet"):
        preferences = []
        for seed in (1, 2):
            for row in read_json(results / f"annotations/world/brevity/{method}/seed-{seed}.json"):
                odds = math.exp((len(row["output_1"]) - len(row["output_2"])) / 100)
                assert row["preference"] == pytest.approx(1 + odds / (1 + odds))
                preferences.append(row["preference"] - 1)
        assert max(preferences) - min(preferences) > 0.1
        rate = 100 * sum(preferences) / len(preferences)
        assert float(rows[method, "brevity"]["win_rate"]) == pytest.approx(rate, abs=0.006)
        assert (method, "oracle") in rows


def test_benchmark(made, do):
    results = do("benchmark")
    limits = {row["question"]: row["words"] for row in read_jsonl(results.parent / "brief.jsonl")}
    with (results / "tables/brief.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert [*rows] == ["sft", "dpo", "dpo-poet"]
    rates = []
    for method, row in rows.items():
        files = [results / f"brief/world/answers/{method}/seed-{seed}.json" for seed in (1, 2)]
        kept = [
            len(answer["output"].split()) <= limits[answer["instruction"]]
            for file in files
            for answer in read_json(file)
        ]
        assert len(kept) == 2 * len(limits)
        rates.append(100 * sum(kept) / len(kept))
        assert float(row["brief_rate"]) == pytest.approx(rates[-1], abs=0.006)
    assert any(0 < rate < 100 for rate in rates)


def test_setting(do, tmp_path, monkeypatch):
    """The hub is ours, on loopback: a tiny model and a few pairs under the names of the recipe.

    One trained method is enough to see the setting through.
    """
    whole, cut = RECIPES["setting"], "smol: [sft, dpo-poet]"
    assert (all_three := "smol: [sft, dpo, dpo-poet]") in whole
    monkeypatch.setitem(RECIPES, "setting", whole.replace(all_three, cut))
    setting = yaml.safe_load(blocks(RECIPES["setting"])[0][2])["settings"]["smol"]
    name, dataset = setting["model"]["name"], setting["data"]["dataset"]
    hub = tmp_path / "hub"
    tokenizer = paper_hub.tokenizer(paper_hub.ZEPHYR, "<s>", "</s>")
    tokenizer.model_max_length = 1024
    paper_hub.save(hub / name, tokenizer, "Llama")
    config = read_json(hub / name / "config.json")
    write_json({**config, "max_position_embeddings": 1024}, hub / name / "config.json")
    rng = random.Random(0)
    sizes = {"train_prefs": (16, paper_hub.DEFECTS), "test_prefs": (8, 0)}
    splits = {split: paper_hub.rows_of(*size, rng) for split, size in sizes.items()}
    paper_hub.write_splits(hub / "datasets" / dataset, splits)
    with ServedHub(hub) as served:
        results = do("setting", **served.environment, HF_HOME=str(tmp_path / "home"))
        commit = served.commit(name)
    assert [*main_table(results)] == [("sft", "reward_model"), ("dpo-poet", "reward_model")]
    assert read_json(results / "data/smol/summary.json")["train"]["pairs"] == 16
    start = read_json(results / "models/smol/sft/train.json")["record"]
    assert (start["model"], start["model_revision"]) == (name, commit)
