"""The analysis through the real Snakemake: before any training, and after it."""

import csv
import re
import subprocess

import pytest
import yaml

from poet.files import read_json, write_jsonl

METHODS = ["sft", "dpo", "dpo-poet", "simpo", "simpo-poet"]


def folder(workflow):
    return workflow.folder / "results" / "analysis" / "world"


def test_the_diagnosis_trains_nothing(workflow, small_config):
    run = workflow(small_config)
    result = run("--", "diagnose")
    assert result.returncode == 0, result.stderr[-3000:]
    assert not (run.folder / "results" / "models").exists()
    found = read_json(folder(run) / "diagnosis.json")
    assert (found["setting"], found["unit"], found["n_pairs"]) == ("world", "tokens", 32)
    assert found["limits"]["max_length"] == 192
    assert found["recommendation"]["reasons"][0] in result.stderr
    assert "count tokens" in result.stderr  # progress


def test_make_diagnose_of_own_pairs_needs_no_model(clone, own_config):
    rows = [
        {"prompt": f"question {i % 90}", "chosen": f"a longer answer {i} " * 5, "rejected": "no"}
        for i in range(300)
    ]
    write_jsonl(rows, clone / "pairs.jsonl")
    (clone / "own.yaml").write_text(yaml.safe_dump(own_config, sort_keys=False))
    given = ["CONFIG=own.yaml", "ARGS=--config pairs=pairs.jsonl", "CORES=1"]
    made = ["--old-file", ".venv/.installed"]  # the environment that runs the tests
    result = subprocess.run(
        ["make", *made, "diagnose", *given], cwd=clone, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert not (clone / "results" / "models").exists()
    found = read_json(clone / "results" / "analysis" / "own" / "diagnosis.json")
    assert found["lengths"]["chosen_longer"] == 100
    assert found["order"] is None
    assert found["evaluation"]["exact"] == 0  # evaluation prompts are of the test split


def test_prefix_quality(finished):
    found = read_json(folder(finished) / "prefix_quality.json")
    assert found["pairs"]["n_pairs"] == 8
    assert [gap["metric"] for gap in found["pairs"]["gaps"]] == [
        f"dq_{k}" for k in (2, 4, 8, 16, 32, 64)
    ]
    assert list(dict.fromkeys(row["method"] for row in found["own"]["methods"])) == METHODS
    assert {row["n_seeds"] for row in found["own"]["methods"]} == {2}
    compared = {(gain["method"], gain["baseline"]) for gain in found["own"]["gains"]}
    assert compared == {("dpo-poet", "dpo"), ("simpo-poet", "simpo")}


def test_reward_gap(finished):
    found = read_json(folder(finished) / "reward_gap.json")
    assert list(found["methods"]) == METHODS[1:]
    assert list(found["generated"]) == list(found["entropy"]) == METHODS
    for entry in found["methods"].values():
        sequence = entry["margins"][-1]
        assert sequence["k"] is None
        if entry["objective"] == "dpo":  # before training policy and reference are the same
            assert sequence["before"] == 0
    with (folder(finished) / "reward_gap.csv").open() as file:
        last = {row["method"]: row for row in csv.DictReader(file)}
    for method, row in last.items():
        whole = found["methods"][method]["margins"][-1]
        assert float(row["after"]) == pytest.approx(whole["after"])


def test_a_gain_over_the_start_model_is_in_what_can_have_it(workflow, small_config):
    """Its answers are scored like others; no objective gives it an implicit reward."""
    run = workflow(small_config | {"gains": {"dpo": "sft", "dpo-poet": "dpo"}})
    targets = [f"results/analysis/world/{name}.json" for name in ("prefix_quality", "reward_gap")]
    result = run("-n", "-p", "--", *targets)
    assert result.returncode == 0, result.stderr[-3000:]
    lines = result.stdout.splitlines()
    told = {
        name: [line for line in lines if f"poet.analyse.{name} " in line]
        for name in ("prefix_quality", "reward_gap")
    }
    gains = {name: re.findall("--gain (\\S+ \\S+)", line) for name, (line,) in told.items()}
    assert gains["prefix_quality"] == ["dpo sft", "dpo-poet dpo"]
    assert gains["reward_gap"] == ["dpo-poet dpo"]


def test_margins_are_those_that_the_trainer_logged(finished):
    """The trainer evaluates the same held-out pairs, by its own forward pass."""
    found = read_json(folder(finished) / "reward_gap.json")
    models = finished.folder / "results" / "models" / "world" / "dpo"
    logged = []
    for seed in (1, 2):
        log = read_json(models / f"seed-{seed}" / "train.json")["log_history"]
        logged += [row["eval_rewards/margins"] for row in log if "eval_rewards/margins" in row][-1:]
    after = found["methods"]["dpo"]["margins"][-1]["after"]
    assert after == pytest.approx(sum(logged) / 2, abs=1e-4)
