"""config/paper.yaml: every fact of paper/settings.yaml, nothing of the default, the whole grid."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from poet import config as poet_config
from poet import config_schema

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "config" / "paper.yaml"
FACTS = yaml.safe_load((ROOT / "paper" / "settings.yaml").read_text())
SETTINGS = list(FACTS["settings"])
MAIN = ["sft", "dpo", "dpo-poet", "simpo", "simpo-poet"]


@pytest.fixture(scope="module")
def config():
    return poet_config.read(PAPER)


COMMON = {name for name in FACTS["common"] if name != "seed"}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("method", MAIN[1:])
def test_every_hyperparameter(config, setting, method):
    record, facts = poet_config.resolve(config, setting, method), FACTS["settings"][setting]
    objective, _, poet = method.partition("-")
    for name in COMMON:
        assert record[name] == FACTS["common"][name], name
    found = {**record["parameters"], "learning_rate": record["learning_rate"]}
    assert found == {name: facts[objective][name] for name in found}
    for name in ("temperature", "top_p", "max_new_tokens"):
        assert record["generation"][name] == facts["generation"][name], name
    assert record["generation"]["stop_token_ids"] == facts["generation"].get("stop_token_ids", [])
    assert record["seed"] == FACTS["common"]["seed"] and config["seeds"] == [record["seed"]]
    assert record["model"] == facts["model"]
    assert (record["dataset"], record["data"]["splits"]) == (facts["dataset"], facts["splits"])
    assert record["attn_implementation"] == facts.get("attn_implementation")
    assert record["objective"] == objective
    expected = {"strategy": "poet", "keep": 1.0} if poet else {"strategy": "none"}
    assert record["truncation"] == expected
    assert record["length_policy"] == "paper"
    assert record["reference_name"] == FACTS["alpacaeval2"]["reference"]
    assert record["downstream"]["num_fewshot"] == FACTS["lm_eval"]
    assert set(record["downstream"]["tasks"]) == set(FACTS["lm_eval"])


def test_the_grid(config):
    assert list(config["grid"]) == SETTINGS
    for methods in config["grid"].values():
        assert methods[: len(MAIN)] == MAIN
    ablation = config["tables"]["ablation"]
    for strategy in FACTS["truncation_ablation"]["strategies"]:
        for keep in FACTS["truncation_ablation"]["keep"]:
            name = {"own": "dpo", "poet": "dpo-poet"}[strategy]
            if keep < 1:
                name = f"dpo-{strategy}-{round(100 * keep)}"
                truncation = config["methods"][name]["truncation"]
                assert truncation == {"strategy": strategy, "keep": keep}
            assert config["methods"][name]["objective"] == "dpo"
            assert name in ablation and name in config["grid"]["mistral-7b-base"]
    assert len(ablation) == 8


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def dry_run(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.endswith(("_KEY", "_TOKEN"))}
    return subprocess.run(
        [
            sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n",
            *arguments, "--directory", str(folder), "--cores", "1", "--configfile", str(PAPER),
        ],
        capture_output=True, text=True, cwd=ROOT, env={**environment, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


def test_nothing_of_the_default_leaks(config, tmp_path):
    """Each value that the workflow works with is the file's own or the schema's default."""
    result = dry_run(tmp_path, "--printshellcmds", "write_manifest")
    assert result.returncode == 0, result.stderr
    command = re.search(r"--config-json '(\{.*\})' --benchmarks", result.stdout + result.stderr)
    used = json.loads(command.group(1))
    assert used == config
    assert set(config["settings"]) == set(SETTINGS) and config["seeds"] == [42]
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    ours = dict(leaves(yaml.safe_load(PAPER.read_text())))
    schema = json.dumps(config_schema.schema())
    for path, value in leaves(used):
        if path in ours:
            assert ours[path] == value
        else:  # a default of the schema, under a key that it names
            assert f'"{path[-1]}": ' in schema and path not in dict(leaves(default))


@pytest.mark.parametrize(
    ("target", "n_train", "n_generate"),
    [
        ("all", 24, 28),
        ("main", 16, 20),
        ("ablation", 8, 8),
        ("baselines", 4, 4),
        ("downstream", 16, 0),
        ("analysis", 8, 10),
        ("mistral-7b-base", 12, 13),
        ("gemma-2-9b-it", 4, 5),
    ],
)
def test_targets_list_their_jobs_without_hub_key_or_lock(tmp_path, target, n_train, n_generate):
    result = dry_run(tmp_path, target)
    assert result.returncode == 0, result.stderr[-3000:]
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.MULTILINE))
    assert int(jobs["train"]) == n_train
    assert int(jobs.get("generate", 0)) == n_generate


def test_the_rules_resources_choose_the_launch(tmp_path):
    """Plain by default; with several GPUs accelerate, as the resource `sharding` says."""
    target = "results/models/gemma-2-9b-it/dpo-poet/seed-42"
    flags = ("--set-resources", "train:gpu=4", "train:sharding=zero3")
    launched = "poet.train.launch --gpus {} --sharding {} poet.train.preference --record"
    for more, expected in (((), launched.format(0, "fsdp")), (flags, launched.format(4, "zero3"))):
        result = dry_run(tmp_path, target, "--printshellcmds", *more)
        assert result.returncode == 0, result.stderr
        assert expected in result.stdout + result.stderr
