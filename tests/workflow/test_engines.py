"""The engine of `generation.backend` reaches the rule; what is paid for it is written beside."""

import json


def test_vllm_dry_runs_with_its_own_interpreter(workflow, small_config):
    config = json.loads(json.dumps(small_config))
    config["settings"]["world"]["generation"]["backend"] = "vllm"
    config["vllm_python"] = "elsewhere/bin/python"
    target = "results/generations/world/dpo-poet/seed-1.json"
    result = workflow(config)("--dry-run", "--printshellcmds", "--", target)
    assert result.returncode == 0, result.stderr[-3000:]
    (command,) = [line for line in result.stdout.splitlines() if "evaluate.generation" in line]
    assert '"backend": "vllm"' in command
    assert "--vllm-python elsewhere/bin/python" in command
    assert "--tokens-info results/data/world/tokens.json" in command


def test_a_missing_vllm_is_said_before_the_trainings(workflow, small_config, planted):
    config = json.loads(json.dumps(small_config))
    config["settings"]["world"]["generation"]["backend"] = "vllm"
    run = workflow(config)
    result = run("--", "main")
    assert result.returncode == 1 and not (run.folder / "results" / "data").exists()
    message = result.stderr[result.stderr.index("vllm_python is") :].split("\n")[0]
    planted("vLLM is not set up", message, "no job starts")
    assert run("--dry-run", "--", "main").returncode == 0


def test_summaries_count_what_was_generated(finished):
    folder = finished.folder / "results" / "generations" / "world"
    tokens = json.loads((finished.folder / "results/data/world/tokens.json").read_text())
    for method in ("sft", "dpo-poet"):
        summary = json.loads((folder / method / "summary.json").read_text())
        for seed, run in zip((1, 2), summary["runs"], strict=True):
            rows = json.loads((folder / method / f"seed-{seed}.json").read_text())
            assert run["new_tokens"] == sum(row["n_tokens"] for row in rows)
            assert sum(run["finish_reasons"].values()) == run["n_prompts"] == len(rows)
            assert run["chat_template_sha256"] == tokens["chat_template_sha256"]
