"""config/paper.yaml against a served hub: all settings and main methods, in small, to the table."""

import copy
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import paper_hub
from served_hub import TOKEN, Fault, ServedHub

ROOT = Path(__file__).parents[2]
GATED = {"meta-llama/Meta-Llama-3-8B-Instruct", "google/gemma-2-9b-it"}
MAIN = ["sft", "dpo", "dpo-poet", "simpo", "simpo-poet"]


def cut_small(config: dict) -> dict:
    """The configuration with its sizes overridden, the judge without a key, no GPU's engine."""
    config = copy.deepcopy(config)
    config |= {"lock": "hub.lock.yaml", "torch_threads": 1}
    for setting in config["settings"].values():
        setting["preference"] |= {"global_batch_size": 4, "reference_batch_size": 32}
        setting["preference"] |= {"max_length": 96, "max_prompt_length": 64}
        setting["generation"] |= {"max_new_tokens": 8, "batch_size": 50}
        setting["generation"] |= {"backend": "transformers"}
        setting["annotators"] = ["skywork"]
    return config


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    paper_hub.make(root)
    with ServedHub(root, gated=set(GATED)) as server:
        yield server


@pytest.fixture(scope="module")
def run(served, tmp_path_factory):
    """Run a program in the workflow's folder, with the served hub as its hub."""
    folder = tmp_path_factory.mktemp("paper")
    config = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
    (folder / "paper.yaml").write_text(yaml.safe_dump(cut_small(config), sort_keys=False))

    def run(*command, **environment):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder, capture_output=True, text=True,
            env={**inherited, **served.environment, "HF_HOME": str(folder / "home"), **environment},
        )  # fmt: skip

    run.folder = folder
    run.snakemake = lambda *targets, **environment: run(
        "snakemake", *targets, "--snakefile", str(ROOT / "Snakefile"), "--cores", "2",
        "--configfile", "paper.yaml", **environment,
    )  # fmt: skip
    return run


@pytest.fixture(scope="module")
def finished(run, served):
    """Locked once, then run to the main table; the hub fails now and then on the way."""
    locked = run("poet.plan.lock", "--configfile", "paper.yaml", HF_TOKEN=TOKEN)
    assert locked.returncode == 0, locked.stderr
    served.asked.clear()
    served.faults += [Fault("zephyr", "cut", 1, 200), Fault("ultrafeedback_binarized", 503)]
    served.faults += [Fault("google/gemma", "corrupt")]
    result = run.snakemake("results/tables/main.csv", HF_TOKEN=TOKEN)
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]
    return run.folder / "results"


def test_without_a_lock_a_job_names_make_lock(run):
    result = run.snakemake("results/hub/google/gemma-2-9b-it")
    assert result.returncode == 1
    assert "google/gemma-2-9b-it is not in the lock file hub.lock.yaml" in result.stderr
    assert "make lock" in result.stderr


def test_a_gated_model_names_page_and_variable(run, served, finished):
    result = run.snakemake("results/hub/google/gemma-2-9b-it", "--forcerun", "download")
    assert result.returncode == 1
    page = f"{served.url}/google/gemma-2-9b-it"
    assert f"accept its terms at {page}" in result.stderr and "HF_TOKEN" in result.stderr


def test_main_table_is_shaped_like_the_papers(finished):
    with (finished / "tables" / "main.csv").open() as file:
        rows = {(row["setting"], row["method"]): row for row in csv.DictReader(file)}
    facts = yaml.safe_load((ROOT / "paper" / "settings.yaml").read_text())
    assert list(rows) == [(setting, method) for setting in facts["settings"] for method in MAIN]
    with (ROOT / "paper" / "reported.csv").open() as file:
        reported = [row for row in csv.DictReader(file) if row["table"] == "main"]
    assert len(reported) == 16
    for row in reported:
        ours = rows[row["setting"], row["method"]]
        assert ours["paper_lc_win_rate"] == row["value"]
        assert 0 <= float(ours["lc_win_rate"]) <= 100 and ours["annotator"] == "skywork"
        assert ours["n_prompts"] == str(paper_hub.N_PROMPTS)
    markdown = (finished / "tables" / "main.md").read_text()
    assert "12.9" in markdown and "24.7" in markdown


def test_defective_rows_are_dropped_and_counted(finished):
    for setting in finished.joinpath("data").iterdir():
        summary = json.loads((setting / "summary.json").read_text())
        assert sum(summary["dropped"].values()) == paper_hub.DEFECTS
        assert (summary["train"]["pairs"], summary["test"]["pairs"]) == (8, 4)


def test_each_method_trained_from_its_own_setting(finished, served):
    for setting in finished.joinpath("models").iterdir():
        start = json.loads((setting / "sft" / "train.json").read_text())["record"]
        assert start["model_revision"] == served.commit(start["model"])
        weights = [next(setting.glob("sft/*.safetensors"))]
        for method in MAIN[1:]:
            folder = setting / method / "seed-42"
            record = json.loads((folder / "train.json").read_text())["record"]
            assert record["model"] == start["model"]
            assert record["dataset_revision"] == served.commit(f"datasets/{record['dataset']}")
            weights.append(folder / "model.safetensors")
        # Five models that differ: a step was taken in each.
        assert len({path.read_bytes() for path in weights}) == 5


def test_only_what_the_lock_lists_was_asked_for(finished, served, run):
    lock = yaml.safe_load((run.folder / "hub.lock.yaml").read_text())
    listed = {
        f"/{name}/resolve/{entry['revision']}/{path}"
        for name, entry in lock.items()
        for path in entry["files"]
    }
    asked = set(served.downloads())
    assert asked <= listed
    assert not any(path.endswith((".bin", ".py")) for path in asked)
    # The main table needs no lm-eval data; all else was fetched.
    tasks = ("mmlu", "ai2_arc", "hellaswag", "truthful_qa", "winogrande", "gsm8k")
    assert {path for path in listed - asked if not any(t in path for t in tasks)} == set()


def test_no_token_in_any_file(finished, run):
    for path in run.folder.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
