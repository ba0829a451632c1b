"""Bad input ends with a message of one screen and exit code 1, before any job starts."""

import copy
import json
import re
import shlex
import shutil
import subprocess

import pytest

GOOD = {"prompt": "Name a river.", "chosen": "The Morin.", "rejected": "A lake."}


def changed(config, path, value):
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    node = config
    for key in parents:
        node = node[key]
    node[last] = value
    return config


def assert_refused(workflow, result, *parts):
    assert result.returncode == 1
    message = result.stderr + result.stdout
    for part in parts:
        assert part in message
    assert len(message.splitlines()) < 25 and "Traceback" not in message
    assert not (workflow.folder / "results").exists()
    lines = message.splitlines()
    first = next(i for i, line in enumerate(lines) if "Error in" in line) + 1
    last = next(i for i, line in enumerate(lines) if i > first and line.startswith("  File"))
    return "\n".join(lines[first:last])


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("sedes", [1], ("unknown key sedes", "known keys", "seeds")),
        ("settings.world.preference.bata", 1, ("settings.world.preference", "unknown key bata")),
        ("settings.world.data.pears", 3, ("settings.world.data", "unknown key pears")),
        ("grid.world", ["sft", "dpo-peot"], ("unknown method", "dpo-peot", "dpo-poet")),
        ("settings.world.downstream.tasks", ["world_chioce"], ("world_chioce", "world_choice")),
        ("methods.dpo.objective", "ppo", ("methods.dpo.objective", "ppo", "simpo")),
        ("settings.world.preference.per_device_batch_size", 5, ("32", "(5) does not divide")),
        ("seeds", "three", ("seeds", "three", "array")),
        ("extends", "conifg.yaml", ("conifg.yaml", "config.yaml extends it", "No such file")),
    ],
)
def test_configuration(workflow, small_config, path, value, parts, planted):
    run = workflow(changed(small_config, path, value))
    seen = assert_refused(run, run(), *parts)
    planted(f"configuration: `{path}: {value}`", seen, "no job starts")


@pytest.mark.parametrize("name", ["main", "train", "tables"])
def test_a_setting_with_the_name_of_a_rule(workflow, small_config, name):
    settings = {name: small_config["settings"]["world"]}
    run = workflow(small_config | {"settings": settings, "grid": {name: ["sft"]}, "gains": {}})
    part = f"config.yaml: settings.{name} has the name of a rule or a target; expected another one"
    assert_refused(run, run("-n"), part)


def test_a_main_table_of_no_method_of_the_grid(workflow, small_config):
    run = workflow(small_config | {"grid": {"world": ["sft"]}, "tables": {"main": ["dpo"]}})
    assert_refused(run, run(), "config.yaml: tables.main names no method of the grid")


def lines(*rows):
    return "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (lines(GOOD, {"prompt": "a", "chosen": "b"}), ("line 2", "rejected")),
        (lines(GOOD, {**GOOD, "chosen": " "}), ("line 2", "empty")),
        (lines(GOOD, {**GOOD, "rejected": GOOD["chosen"]}), ("line 2", "chosen")),
        (lines(GOOD, '{"prompt": "broken\n'), ("line 2", "JSON")),
        (lines(GOOD, {**GOOD, "system": "Be kind."}), ("line 2", "column system", "format: orca")),
        (
            lines(*({**GOOD, "prompt": f"Name river {n}."} for n in range(20))),
            ("evaluation prompts would be left", "Set test_fraction to"),
        ),
        (lines(GOOD).replace("Morin", "Mörin").encode("latin-1"), ("line 1", "expected UTF-8")),
        ("", ("pairs.jsonl", "empty")),
        (None, ("settings.own.data.path is pairs.jsonl", "no such file")),
    ],
)
def test_pairs_file(workflow, own_config, content, parts, planted):
    run = workflow(own_config)
    if content is not None:
        content = content if isinstance(content, bytes) else content.encode()
        (run.folder / "pairs.jsonl").write_bytes(content)
    seen = assert_refused(run, run("--config", "pairs=pairs.jsonl"), *parts)
    planted(f"pairs file: {', '.join(parts)}", seen, "no job starts")


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("", ("`model=` is empty", "`model=$UNSET`")),
        ("smol", ("smol: no such folder", "and no hub id")),
        (
            "few",
            ("has 64 positions", "preference.max_length: 160", "reward_model.max_length: 192"),
        ),
        ("scores", ("LlamaForSequenceClassification", "expected a causal language model")),
    ],
)
@pytest.mark.parametrize("target", ["all", "diagnose"])
def test_model(workflow, own_model_config, chat_model, model, parts, target, planted):
    run = workflow(own_model_config)
    (run.folder / "pairs.jsonl").write_text(lines(GOOD, {**GOOD, "prompt": "Name a lake."}))
    written = {"few": ("1024", "64"), "scores": ("ForCausalLM", "ForSequenceClassification")}
    if model in written:
        config = chat_model / "config.json"
        config.write_text(config.read_text().replace(*written[model]))
        chat_model.rename(run.folder / model)
    result = run("--config", "pairs=pairs.jsonl", f"model={model}", "--", target)
    seen = assert_refused(run, result, *parts)
    planted(f"`model={model}`: {parts[0]}", seen, "no job starts")


def test_reward_model_longer_than_a_model_from_scratch(workflow, own_config, planted):
    setting = own_config["settings"]["own"]
    for section in ("sft", "preference"):
        setting[section]["max_length"] = 256
    setting["preference"]["max_prompt_length"] = 128
    run = workflow(own_config)
    (run.folder / "pairs.jsonl").write_text(lines(GOOD, {**GOOD, "prompt": "Name a lake."}))
    seen = assert_refused(
        run, run("--config", "pairs=pairs.jsonl"), "reward_model.max_length: 1024"
    )
    planted("reward model longer than a model from scratch", seen, "no job starts")


@pytest.mark.parametrize("target", ["all", "diagnose"])
def test_a_model_that_the_lock_lacks(workflow, own_model_config, target, planted):
    """A mistyped folder looks like a hub id; what was there stays."""
    run = workflow(own_model_config)
    rows = ({**GOOD, "prompt": f"Name river {n}."} for n in range(100))
    (run.folder / "pairs.jsonl").write_text(lines(*rows))
    kept = run.folder / "results/models/own/sft/model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_text("540 MB")
    result = run("--config", "pairs=pairs.jsonl", "model=models/smol", "--", target)
    assert result.returncode == 1 and kept.read_text() == "540 MB"
    message = result.stderr[result.stderr.index("models/smol is not") :]
    assert "make lock CONFIG=" in message and "pairs=pairs.jsonl model=models/smol" in message
    assert f"there is no {run.folder}/models/smol" in message
    assert "Traceback" not in result.stderr and "rule load:" not in result.stderr
    seen = "\n".join(message.splitlines()[:3])
    planted("`model=models/smol`, not in the lock", seen, "no job starts")


def test_the_command_for_the_lock_can_be_pasted(workflow, own_model_config):
    """With a program in the place of make, which says what it was given."""
    run = workflow(own_model_config)
    rows = ({**GOOD, "prompt": f"Name river {n}."} for n in range(100))
    (run.folder / "my pairs.jsonl").write_text(lines(*rows))
    (run.folder / "it's.yaml").write_text("seeds: [2]\n")
    files = ("--configfile", str(run.config), "it's.yaml")
    said = ("--config", "pairs=my pairs.jsonl", "model=models/smol", "protect=True")
    (command,) = re.findall("^  (make lock .*)", run(*files, *said, "--", "diagnose").stderr, re.M)
    pasted = f"make() {{ printf '%s\\n' \"$@\"; }}; {command}"
    done = subprocess.run(["bash", "-c", pasted], cwd=run.folder, capture_output=True, text=True)
    given = done.stdout.splitlines()
    assert given[::3] == ["lock"] * 2 and given[1::3] == ["CONFIG=config.yaml", "CONFIG=it's.yaml"]
    for arguments in given[2::3]:
        assert shlex.split(arguments.removeprefix("ARGS=")) == [*said]


def test_a_judges_key_that_is_not_set(workflow, small_config, monkeypatch, planted):
    monkeypatch.delenv("UNSET_KEY", raising=False)
    config = copy.deepcopy(small_config)
    config["annotators"]["bought"] = {
        "kind": "api",
        "judge": "weighted_alpaca_eval_deepseek_v3_0324",
        "key_variable": "UNSET_KEY",
        "base_url": "http://127.0.0.1:1/v1",
        "price": {"prompt": 0, "completion": 0},
        "max_cost": 0,
    }
    config["settings"]["world"]["annotators"].append("bought")
    run = workflow(config)
    result = run()
    assert result.returncode == 1 and not (run.folder / "results/data").exists()
    message = result.stderr[result.stderr.index("annotators.bought:") :].splitlines()[0]
    assert "UNSET_KEY is empty" in message
    planted("a judge's key is not set", message, "no job starts")


BOUGHT = {
    "kind": "api",
    "judge": "weighted_alpaca_eval_deepseek_v3_0324",
    "base_url": "http://127.0.0.1:1/v1",
    "price": {"prompt": 0, "completion": 0},
    "max_cost": 0,
}


@pytest.mark.parametrize(
    ("changes", "flags", "part"),
    [
        ({"report_to": ["wandbb"]}, [], "report_to: wandbb cannot be used"),
        (
            {"settings.world.preference.optim": "adamw_bnb_8bit"},
            [],
            "bitsandbytes is not installed",
        ),
        ({}, ["--set-resources", "train:gpu=3"], "gpu: the job asks for 3, found 1"),
        ({}, ["--set-resources", "train:gpu=1", "train:sharding=fsdpp-offload"], "sharding: found"),
        (
            {"annotators.bought": {**BOUGHT, "store": "kept"}},
            [],
            "annotators.bought.store is kept",
        ),
        (
            {"annotators.bought": {**BOUGHT, "price": {"prompt": 1, "completion": 2}}},
            [],
            "annotators.bought.max_cost is 0",
        ),
    ],
)
def test_what_this_machine_lacks(
    workflow, small_config, monkeypatch, changes, flags, part, planted
):
    """Each was said where the training, or the judge after it, came to use it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    config = copy.deepcopy(small_config)
    for path, value in changes.items():
        config = changed(config, path, value)
    if "bought" in config["annotators"]:
        config["settings"]["world"]["annotators"].append("bought")
    run = workflow(config)
    (run.folder / "kept").write_text("a file")
    result = run(*flags)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert not (run.folder / "results" / "data").exists()
    (seen,) = [line for line in result.stderr.splitlines() if part in line]
    planted(f"this machine: {part}", seen, "no job starts")


@pytest.mark.parametrize("kind", ["a file", "a link to no folder"])
def test_results_that_are_no_folder(workflow, small_config, kind, planted):
    run = workflow(small_config)
    path = run.folder / "results"
    path.write_text("") if kind == "a file" else path.symlink_to(run.folder / "unmounted")
    result = run()
    assert result.returncode == 1 and "Traceback" not in result.stderr
    (seen,) = [line for line in result.stderr.splitlines() if "expected a folder" in line]
    planted(f"results is {kind}", seen, "no job starts")


def test_no_pairs_file_given(workflow, own_config):
    run = workflow(own_config)
    assert_refused(run, run(), "--config pairs=FILE")


@pytest.mark.parametrize("case", ["questions", "judge", "tasks"])
def test_what_an_evaluation_cannot_use(workflow, own_model_config, chat_model, case, planted):
    """Its first jobs say it: nothing is trained."""
    config = copy.deepcopy(own_model_config)
    own = config["settings"]["own"]
    own["preference"] |= {"max_length": 96, "max_prompt_length": 64}
    own["reward_model"]["max_length"] = 64
    run = workflow(config)
    rows = ({**GOOD, "prompt": f"Name river {n}."} for n in range(60))
    (run.folder / "pairs.jsonl").write_text(lines(*rows))
    harm = "Harm? " * (400 if case == "questions" else 1)
    (run.folder / "harm.jsonl").write_text(lines({"prompt": harm}))
    chat_model.rename(run.folder / "chat")
    config["annotators"]["guard"] = {"kind": "local_judge", "name": "guard", "judge": "safety"}
    shutil.copytree(run.folder / "chat", run.folder / "guard")
    settings = run.folder / "guard" / "config.json"
    positions = 128 if case == "judge" else 4096
    settings.write_text(settings.read_text().replace("1024", str(positions)))
    own["safety"] = {"annotator": "guard", "prompts": {"path": "harm.jsonl", "column": "prompt"}}
    if case == "tasks":
        del own["safety"]
        own["downstream"] = {"tasks": ["hela_swag"]}
    run = workflow(config)
    target = {"tasks": "downstream"}.get(case, "results/tables/safety.csv")
    result = run("--config", "pairs=pairs.jsonl", "model=chat", "--", target)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert not (run.folder / "results/models/own/dpo-poet").exists()
    assert "rule train:" not in result.stderr
    part = {
        "questions": "tokens", "judge": "annotators.guard", "tasks": "found hela_swag"
    }[case]  # fmt: skip
    (start,) = [m.start() for m in re.finditer("^error: ", result.stderr, re.MULTILINE)][:1]
    said = result.stderr[start:]
    seen = "\n".join(said.splitlines()[: 1 if case == "tasks" else 3])
    assert part in seen
    names = {
        "questions": "a safety prompt longer than the model's positions",
        "judge": "a local judge with fewer positions than its question has tokens",
        "tasks": "`downstream.tasks: [hela_swag]`",
    }
    planted(names[case], seen, "no model is trained")
