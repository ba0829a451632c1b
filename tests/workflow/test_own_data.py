"""Own pairs through the real Snakemake: a local file, a given model, a reward model."""

import csv
import gzip
import json

import pytest

from poet.world.simulate import main as simulate


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Real-shaped pairs: strings made by the embedded world."""
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("world")
    data = {"variant": "early", "seed": 0, "sft_examples": 10, "pairs": 150, "test_pairs": 10}
    record = {"data": {"kind": "world", **data, "prompts": 10}}
    names = ("pairs.parquet", "corpus.parquet", "prompts.jsonl", "gamed.csv", "tasks")
    flags = ("--pairs", "--corpus", "--prompts", "--gamed", "--tasks")
    simulate(
        ["--record", json.dumps(record)]
        + [x for f, n in zip(flags, names, strict=True) for x in (f, str(folder / n))]
    )
    return [
        {name: row[name][0]["content"] for name in ("prompt", "chosen", "rejected")}
        for row in pq.read_table(folder / "pairs.parquet").to_pylist()
    ]


def test_own_pairs_and_a_given_model_end_to_end(workflow, own_model_config, rows, chat_model):
    own_model_config["settings"]["own"]["data"] |= {"bad_rows": "drop", "max_prompts": 12}
    run = workflow(own_model_config)
    broken = {**rows[0], "rejected": rows[0]["chosen"]}
    with gzip.open(run.folder / "pairs.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in [*rows, broken])
    result = run("--config", "pairs=pairs.jsonl.gz", f"model={chat_model}")
    assert result.returncode == 0, result.stderr[-5000:]
    results = run.folder / "results"
    with (results / "tables" / "main.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["method"] for row in table] == ["sft", "dpo-poet"]
    for row in table:
        assert (row["annotator"], row["n_prompts"]) == ("reward_model", "12")
        assert row["lc_kind"] == "length_controlled_minimal"
        assert row["true_reward"] == ""  # nobody knows it here
    summary = json.loads((results / "data" / "own" / "summary.json").read_text())
    assert "1" in json.dumps(summary["dropped"])
    judge = json.loads((results / "models" / "own" / "reward_model" / "train.json").read_text())
    assert 0 <= judge["test_accuracy"]["accuracy"] <= 1 and judge["test_accuracy"]["n"] > 0
    below = (results / "tables" / "main.md").read_text().partition("\n\n")[2]
    assert below.startswith("Caution: own: judged by reward_model, a reward model trained on")
    assert not (results / "tables" / "downstream.csv").exists()
    trained = json.loads((results / "models/own/dpo-poet/seed-1/train.json").read_text())
    assert trained["record"]["learning_rate"] == trained["record"]["token_budget"] == "auto"
    assert trained["learning_rate"] == 3e-5  # 30 times the recipe's, in a few steps
    assert trained["computed_in"] in ("float32", "bfloat16")


def test_a_model_given_on_the_command_line_is_taken_as_it_is(
    workflow, own_model_config, rows, chat_model
):
    run = workflow(own_model_config)
    (run.folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ("--config", "pairs=pairs.jsonl", f"model={chat_model}")
    result = run(*given, "--", "results/models/own/sft")
    assert result.returncode == 0, result.stderr[-3000:]
    taken = run.folder / "results/models/own/sft"
    record = json.loads((taken / "train.json").read_text())["record"]
    assert record["model"] == str(chat_model)
    assert not {"scratch", "sft", "sft_seed"} & set(record)
    weights = [folder / "model.safetensors" for folder in (taken, chat_model)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_chats_of_its_own_train_the_start_model(workflow, own_config, rows, tmp_path):
    chats = tmp_path / "chats.jsonl"
    turns = [("user", "Name a river."), ("assistant", "The Morin."), ("user", "Another?")]
    messages = [{"role": role, "content": text} for role, text in turns]
    row = {"messages": [*messages, {"role": "assistant", "content": "The Arl."}]}
    chats.write_text((json.dumps(row) + "\n") * 20)
    own_config["settings"]["own"]["sft"] |= {"dataset": str(chats), "packing": True}
    run = workflow(own_config)
    (run.folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run("--config", "pairs=pairs.jsonl", "--", "results/models/own/sft")
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((run.folder / "results/models/own/sft/train.json").read_text())
    assert (report["examples"], report["examples_used"]) == (20, 20)
    assert "rule load:" not in result.stderr  # the pairs are not needed for it


def test_a_diagnosis_is_said_again(workflow, own_config, rows):
    """Where nothing is to be done there is still an answer."""
    run = workflow(own_config)
    (run.folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ("--config", "pairs=pairs.jsonl", "--", "diagnose")
    first, second = run(*asked), run(*asked)
    assert first.returncode == second.returncode == 0, first.stderr[-3000:]
    path = run.folder / "results" / "analysis" / "own" / "diagnosis.json"
    reasons = json.loads(path.read_text())["recommendation"]["reasons"]
    assert "rule diagnose_pairs" in first.stderr and "rule diagnose_pairs" not in second.stderr
    for result in (first, second):
        said = result.stderr[result.stderr.index("\nown: ") :]
        assert "POET" in said.splitlines()[1] and len(reasons) >= 3
        assert all(f"- {reason}\n" in said for reason in reasons)
