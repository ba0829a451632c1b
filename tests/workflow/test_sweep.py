"""The sweep through the real Snakemake: cells, the choice by a checkpoint, the final scores."""

import csv
import json

import yaml


def test_the_chosen_cell_is_evaluated_with_all_seeds(finished, small_config, tmp_path):
    sweep = {
        "settings": ["world"],
        "methods": ["dpo", "dpo-poet"],
        "beta": [3],
        "learning_rate": [2],
    }
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**small_config, "grid": {"world": ["sft"]}, "sweep": sweep}))
    before = finished.tables()
    result = finished("--configfile", str(path), "--", "sweep")
    assert result.returncode == 0, result.stderr[-3000:]
    # Data, start model and reference are the default's.
    for rule in ("simulate", "sft", "tokenize", "reference"):
        assert f"rule {rule}:" not in result.stderr
    results = finished.folder / "results"
    validation = json.loads((results / "sweep" / "world" / "dpo-poet.json").read_text())
    assert validation["chosen"] == "dpo-poet-beta-x3-lr-x2" and validation["n_prompts"] == 8
    with (results / "tables" / "sweep.csv").open() as file:
        baseline, row = csv.DictReader(file)
    assert baseline["method"] != row["method"] and not baseline["gain_lc"] and row["gain_lc"]
    assert (row["chosen"], row["n_seeds"], row["n_prompts"]) == ("yes", "2", "30")
    assert (row["beta"], row["learning_rate"]) == ("0.3", "0.0004")
    assert {n: table for n, table in finished.tables().items() if "sweep" not in n} == before
    again = finished("--configfile", str(path), "--", "sweep")
    assert "Nothing to be done" in again.stderr
