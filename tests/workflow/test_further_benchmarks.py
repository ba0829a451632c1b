"""Safety and arena tables from a server, on local prompt files, through the rules."""

import copy
import csv
import shutil

import pytest

from judge_server import JudgeServer
from poet.files import read_json, write_jsonl


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with JudgeServer() as running:
        yield running


def test_safety_and_arena(finished, workflow, small_config, server, tmp_path):
    write_jsonl([{"prompt": f"Harm {i}?"} for i in range(8)], tmp_path / "harm.jsonl")
    questions = [{"question_id": f"q{i}", "turns": [{"content": f"Q {i}?"}]} for i in range(5)]
    write_jsonl(questions, tmp_path / "questions.jsonl")
    answers = [
        {"question_id": f"q{i}", "choices": [{"turns": [{"content": f"A {i}."}]}]} for i in range(5)
    ]
    write_jsonl(answers, tmp_path / "gpt-4-0314.jsonl")
    config = copy.deepcopy(small_config)
    asked = {"kind": "api", "base_url": server.url, "max_cost": 1}
    asked["price"] = {"prompt": 1, "completion": 1}
    config["annotators"]["guard"] = {**asked, "judge": "safety", "model": "guard"}
    config["annotators"]["referee"] = {**asked, "judge": "arena_hard", "model": "referee"}
    world = config["settings"]["world"]
    world["safety"] = {
        "annotator": "guard",
        "prompts": {"path": str(tmp_path / "harm.jsonl"), "column": "prompt"},
    }
    world["arena"] = {
        "annotator": "referee",
        "prompts": {
            "path": str(tmp_path / "questions.jsonl"), "column": "turns", "id": "question_id",
        },
        "baseline": {
            "path": str(tmp_path / "gpt-4-0314.jsonl"), "column": "choices", "id": "question_id",
        },
    }  # fmt: skip
    config["grid"] = {"world": ["sft"]}
    server.labels = ("A", "B")
    run = workflow(config)
    for name in ("results", ".snakemake"):
        shutil.copytree(finished.folder / name, run.folder / name, dirs_exist_ok=True)
    result = run("--printshellcmds", "results/tables/safety.csv", "results/tables/arena.csv")
    assert result.returncode == 0, result.stderr[-3000:]
    seeds = config["seeds"]
    verdicts = [
        read_json(run.folder / f"results/safety/world/guard/sft/seed-{seed}.json") for seed in seeds
    ]
    with (run.folder / "results/tables/safety.csv").open() as file:
        (row,) = csv.DictReader(file)
    safe = [v["safe"] for rows in verdicts for v in rows]
    assert len(safe) == 8 * len(seeds) and 0 < sum(safe) < len(safe)
    assert float(row["safety_rate"]) == pytest.approx(100 * sum(safe) / len(safe), abs=0.005)
    assert row["judge_model"] == "guard-0324" and row["n_seeds"] == str(len(seeds))
    with (run.folder / "results/tables/arena.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["method"] == "sft" and 0 <= float(row["arena_score"]) <= 100
    battle = read_json(run.folder / f"results/arena/world/referee/sft/seed-{seeds[0]}.json")[0]
    assert battle["generator_1"] == "gpt-4-0314" and battle["output_1"] == "A 0."
