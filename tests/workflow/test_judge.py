"""A bought judge in the workflow: asked over HTTP; no file and no log ever holds its key."""

import copy
import os
import shutil

import pytest

from judge_server import JudgeServer
from poet.files import read_json

KEY = "sk-neverWrittenAnywhere"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with JudgeServer() as running:
        yield running


def test_the_key_is_in_no_file_and_the_answers_outlive_the_outputs(
    finished, workflow, small_config, server
):
    config = copy.deepcopy(small_config)
    config["annotators"]["bought"] = {
        "kind": "api",
        "judge": "weighted_alpaca_eval_deepseek_v3_0324",
        "base_url": server.url,
        "key_variable": "TEST_JUDGE_KEY",
        "price": {"prompt": 1, "completion": 1},
        "max_cost": 1,
        "attempts": 2,
        "backoff": {"initial": 0.01, "longest": 0.01},
    }
    config["settings"]["world"]["annotators"].append("bought")
    run = workflow(config)
    for name in ("results", ".snakemake"):
        shutil.copytree(finished.folder / name, run.folder / name, dirs_exist_ok=True)
    rows, usage = (
        f"results/annotations/world/bought/sft/{name}.json" for name in ("seed-1", "usage")
    )
    server.faults = lambda asked, number: "401" if number == 20 else None  # it repeats the key
    failed = run("--printshellcmds", rows, usage)
    assert failed.returncode != 0 and "HTTP 401" in failed.stderr
    server.faults = lambda asked, number: "garbage" if number == 30 else None
    result = run("--printshellcmds", rows, usage)
    assert result.returncode == 0, result.stderr[-3000:]
    assert server.keys == {f"Bearer {KEY}"}
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    places = {path.relative_to(run.folder).parts[0] for path in files}
    assert {"results", ".snakemake"} <= places
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not any(KEY in text for r in (failed, result) for text in (r.stdout, r.stderr))
    written = read_json(run.folder / rows)
    assert {row["annotator"] for row in written} == {"bought"}
    assert {row["judge_model"] for row in written if row["preference"] != 1.5} == {
        "deepseek-ai/DeepSeek-V3-0324-0324"
    }
    asked = len(server.bodies)
    before = (run.folder / rows).read_bytes()
    os.remove(run.folder / rows)
    assert run("--printshellcmds", rows).returncode == 0 and len(server.bodies) == asked
    assert (run.folder / rows).read_bytes() == before
    assert read_json(run.folder / usage)["n_calls"] == len(server.answered)
    # A higher ceiling asks nobody again, another price is another cost.
    for key, value, again in (
        ("max_cost", 2, False),
        ("price", {"prompt": 2, "completion": 1}, True),
    ):
        config["annotators"]["bought"][key] = value
        result = workflow(config)("--dry-run", "--", rows)
        assert result.returncode == 0 and ("buy_annotations" in result.stdout) == again
