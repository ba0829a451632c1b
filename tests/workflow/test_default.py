"""The embedded default, cut small, through the real Snakemake."""

import csv
import json
import math
import re

import pytest

from poet import config as poet_config

METHODS = ["sft", "dpo", "dpo-poet", "simpo", "simpo-poet"]
COLUMNS = (
    "setting method annotator n_seeds n_prompts lc_win_rate lc_ci_low lc_ci_high win_rate "
    "wr_ci_low wr_ci_high avg_length true_reward paper_lc_win_rate gain_lc"
).split()


def rows_of(workflow, table):
    with (workflow.folder / "results" / "tables" / f"{table}.csv").open() as file:
        return list(csv.DictReader(file))


def read(workflow, path):
    return json.loads((workflow.folder / "results" / path).read_text())


def test_main_table(finished):
    rows = rows_of(finished, "main")
    assert [row["method"] for row in rows] == METHODS
    for row in rows:
        assert set(COLUMNS) <= set(row)
        assert (row["setting"], row["annotator"]) == ("world", "oracle")
        assert (row["n_seeds"], row["n_prompts"]) == ("2", "30")
        assert float(row["wr_ci_low"]) <= float(row["win_rate"]) <= float(row["wr_ci_high"])
        assert row["paper_lc_win_rate"] == ""  # the paper has no such setting
    by_method = {row["method"]: row for row in rows}
    for method, baseline in (("dpo-poet", "dpo"), ("simpo-poet", "simpo")):
        gain = float(by_method[method]["lc_win_rate"]) - float(by_method[baseline]["lc_win_rate"])
        assert float(by_method[method]["gain_lc"]) == pytest.approx(gain, abs=0.02)


def test_main_table_is_made_of_the_annotations(finished):
    for row in rows_of(finished, "main"):
        preferences, rewards = [], []
        for seed in (1, 2):
            path = f"annotations/world/oracle/{row['method']}/seed-{seed}.json"
            annotations = read(finished, path)
            assert [a["index"] for a in annotations] == list(range(30))
            preferences += [a["preference"] - 1 for a in annotations]
            rewards += [a["reward_2"] for a in annotations]
        assert float(row["win_rate"]) == pytest.approx(100 * sum(preferences) / 60, abs=0.006)
        assert float(row["true_reward"]) == pytest.approx(sum(rewards) / 60, abs=6e-5)


def test_score_files_are_alpaca_evals(finished):
    score = read(finished, "scores/world/oracle/dpo/seed-2.json")
    annotations = read(finished, "annotations/world/oracle/dpo/seed-2.json")
    preferences = [a["preference"] - 1 for a in annotations]
    mean = sum(preferences) / 30
    deviation = math.sqrt(sum((p - mean) ** 2 for p in preferences) / 29)
    assert score["n_total"] == 30
    assert score["win_rate"] == pytest.approx(100 * mean)
    assert score["standard_error"] == pytest.approx(100 * deviation / math.sqrt(30))
    generations = read(finished, "generations/world/dpo/seed-2.json")
    ended = [g["finish_reason"] == "stop" for g in generations]
    assert score["share_ended"] == pytest.approx(sum(ended) / 30)


def test_every_method_trained_on_the_same_pairs(finished):
    import pyarrow.parquet as pq

    data = finished.folder / "results" / "data" / "world"
    full, poet = (pq.read_table(data / f"{name}.parquet") for name in ("tokens", "poet-100"))
    assert full["prompt_ids"].equals(poet["prompt_ids"])
    assert full["pair_hash"].equals(poet["pair_hash"])
    shorter = map(
        min,
        [len(ids) for ids in full["chosen_ids"].to_pylist()],
        [len(ids) for ids in full["rejected_ids"].to_pylist()],
    )
    assert [len(ids) for ids in poet["chosen_ids"].to_pylist()] == list(shorter)
    for method in METHODS[1:]:
        run = read(finished, f"models/world/{method}/seed-1/train.json")
        steps = [row["step"] for row in run["log_history"] if "rewards/margins" in row]
        assert steps[-1] == 1  # 32 pairs in one batch of 32
        assert run["record"]["method"] == method
        accuracy = [row for row in run["log_history"] if "eval_rewards/accuracies" in row]
        assert len(accuracy) == 1


def test_progress_is_visible(finished):
    log = (finished.folder / "stderr.log").read_text()
    assert re.search(r"\d+ of \d+ steps \(\d+%\) done", log)
    assert re.search(r"sft world 100% \|#+\| \d+/\d+", log)
    assert re.search(r"world/dpo-poet/seed-2 100% \|#+\|", log)


def test_manifest_names_what_made_it(finished, small_config):
    manifest = read(finished, "manifest.json")
    text = json.dumps(manifest)
    assert str(finished.folder) not in text
    assert manifest["versions"]["trl"] == "1.16.0"
    assert manifest["config"] == poet_config.load(small_config)
    for rule in (
        "simulate",
        "sft",
        "tokenize",
        "reference",
        "train",
        "generate",
        "evaluate_downstream",
    ):
        assert rule in text


def test_second_run_does_nothing(finished):
    result = finished()
    assert result.returncode == 0
    assert "Nothing to be done" in result.stderr
    before = finished.tables()
    assert "main.csv" in before and "downstream.csv" in before


def test_report_holds_tables_and_figures(finished):
    result = finished("--report", "report.html")
    assert result.returncode == 0, result.stderr[-2000:]
    html = (finished.folder / "report.html").read_text()
    for name in ("main.md", "downstream.md", "win-rates.svg", "training-world.svg"):
        assert name in html


def test_lost_output_is_made_again_the_same(finished):
    before = finished.tables()
    for path in ("models/world/dpo/seed-1/model.safetensors", "tables/main.csv"):
        (finished.folder / "results" / path).unlink()
    # Snakemake sees the missing table; the model's folder is still there, so it is asked for.
    result = finished("--forcerun", "results/models/world/dpo/seed-1", "all")
    assert result.returncode == 0, result.stderr[-3000:]
    assert finished.tables() == before
