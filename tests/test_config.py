"""The configuration: every wrong key and reference is refused by name, defaults, records."""

import argparse
import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_config

from poet.config import (
    STAGES,
    load,
    main,
    read,
    resolve,
    stage,
    sweep_cells,
)
from poet.config_extends import resolved
from poet.config_schema import schema
from poet.config_shortcuts import add_flag
from poet.data.templates import DATE
from poet.files import UserError

ROOT = Path(__file__).parents[1]
SCHEMA = schema()
FILES = [ROOT / "config.yaml", *sorted((ROOT / "config").glob("*.yaml"))]
FILES = [path for path in FILES if path.name != "config.schema.yaml"]

# Keys of the record that others may rely on.
RECORD = """model model_revision dataset dataset_revision objective truncation parameters
learning_rate global_batch_size max_length max_prompt_length length_policy lr_scheduler_type
warmup_ratio num_train_epochs seed generation chat_template_kwargs""".split()


def raw(name="config.yaml"):
    config = yaml.safe_load((ROOT / name).read_text())
    if "extends" in config:
        config = resolved({**config, "extends": str(ROOT / config["extends"])}, name)
    shortcuts = {"pairs": "pairs.jsonl"} if "own-" in name else {}
    return {**config, **shortcuts} | ({"model": "org/model"} if "own-model" in name else {})


def everything():
    """A configuration that has each optional section once: all kinds of data, both of models."""
    config, own = raw(), load(raw("config/own-data.yaml"))
    world = config["settings"]["world"]
    world["downstream"]["num_fewshot"] = {"world_choice": 0}
    config["settings"]["own"] = own["settings"]["own"]
    config["settings"]["hub"] = {
        **copy.deepcopy(own["settings"]["own"]),
        "data": {
            "kind": "hub",
            "dataset": "org/pairs",
            "revision": "0" * 40,
            "splits": {"train": "train_prefs", "test": "test_prefs"},
        },
        "model": {"name": "org/model", "revision": "1" * 40},
    }
    del config["settings"]["hub"]["sft"]
    config["annotators"].update(own["annotators"])
    return config


def mappings(value, path=()):
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            yield from mappings(inner, (*path, key))


def at(config, path):
    for key in path:
        config = config[key]
    return config


def changed(path, value):
    """``everything()`` with one value replaced, or removed where ``value`` is None."""
    config = everything()
    *where, key = path.split("/")
    if value is None:
        del at(config, where)[key]
    else:
        at(config, where)[key] = value
    return config


NAMED_BY_USER = {("settings",), ("methods",), ("grid",), ("gains",), ("annotators",)}
FEWSHOT = ("settings", "world", "downstream", "num_fewshot")
OPEN = {*NAMED_BY_USER, FEWSHOT}
CLOSED = [
    p for p in mappings(everything()) if p not in OPEN and p[-1:] != ("chat_template_kwargs",)
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shipped_files_are_valid(path):
    config = raw(path.relative_to(ROOT).as_posix())
    loaded = load(config, path.name)
    assert loaded["grid"] == config["grid"]
    assert loaded["torch_threads"] == config.get("torch_threads", 1)  # the schema's default


def test_everything_is_valid():
    load(everything())
    assert len(CLOSED) > 25


@pytest.mark.parametrize("path", CLOSED, ids=lambda path: ".".join(path) or "top")
def test_unknown_key_is_refused_at_every_level(path):
    config = everything()
    mapping = at(config, path)
    known = sorted(mapping)
    mapping["bogus"] = 1
    with pytest.raises(UserError) as error:
        load(config, "my.yaml")
    place, message = str(error.value).splitlines()[1].split(": ", 1)
    assert str(error.value).startswith("my.yaml is not valid:\n")
    assert place.strip() == (".".join(path) or "top level")
    found, keys = message.split("; known keys: ")
    assert found == "unknown key bogus"
    assert set(known) - {"bogus"} <= set(keys.split(", "))
    assert len(str(error.value).splitlines()) <= 5


def objects_of_schema(schema, place="top"):
    """Place of every object in the schema, and whether it refuses keys that it does not list."""
    if not isinstance(schema, dict):
        return
    if "properties" in schema and place.rpartition(".")[2] not in (
        "if",
        "data",
        "annotator",
        "truncation",
    ):
        yield place, schema.get("additionalProperties") is False
    for key, inner in schema.items():
        for i, part in enumerate(inner if isinstance(inner, list) else [inner]):
            yield from objects_of_schema(
                part, f"{place}.{key}{i if isinstance(inner, list) else ''}"
            )


def test_no_object_of_the_schema_is_open():
    closed = dict(objects_of_schema(SCHEMA))
    assert len(closed) > 10
    kept = [place for place, refuses in closed.items() if not refuses]
    assert kept == ["top.$defs.setting.properties.chat_template_kwargs"]  # a template's own


REFERENCES = [
    ("grid/nowhere", ["sft"], "unknown setting (in grid) `nowhere`; known: hub, own, world"),
    ("grid/world", ["sft", "ppo"], "unknown method (in grid.world) `ppo`; known: dpo, dpo-poet"),
    ("gains/ppo", "dpo", "unknown method (in gains) `ppo`; known: dpo"),
    ("gains/dpo-poet", "ppo", "unknown method (in gains.dpo-poet) `ppo`"),
    ("settings/world/annotators", ["gpt"], "(settings.world.annotators) `gpt`; known: oracle"),
    (
        "/".join(FEWSHOT),
        {"mmlu": 5},
        "unknown task (settings.world.downstream.num_fewshot) `mmlu`; known: world_answer",
    ),
    (
        "settings/world/downstream/apply_chat_template",
        ["ifeval"],
        "unknown task (settings.world.downstream.apply_chat_template) `ifeval`; known: world_ans",
    ),
    ("settings/world/preference/simpo", None, "grid.world has method simpo, but settings.world"),
    ("settings/own/annotators", ["oracle"], "the oracle knows the embedded world only"),
    ("settings/own/reward_model", None, "needs a `name` (hub id or folder), or a section"),
    ("settings/own/data/path", None, "settings.own.data names no file; give one with `--config"),
    ("settings/own/sft", None, "settings.own: a model from scratch needs a section `sft`"),
    ("settings/own/model/scratch/hidden_size", 130, "hidden_size is 130, expected a multiple of"),
    ("settings/world/preference/max_prompt_length", 192, "is 192, expected less than max_length"),
]


@pytest.mark.parametrize(("path", "value", "message"), REFERENCES, ids=[r[0] for r in REFERENCES])
def test_references_are_checked(path, value, message):
    with pytest.raises(UserError) as error:
        load(changed(path, value), "my.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize("section", ["world/sft", "world/preference", "own/reward_model"])
def test_global_batch_has_to_divide(section):
    path = f"settings/{section}/per_device_batch_size"
    message = f"settings.{section.replace('/', '.')}.global_batch_size is "
    with pytest.raises(UserError, match=rf"{message}\d+, which per_device_batch_size \(7\) does"):
        load(changed(path, 7))


WRONG = [
    ("seeds", [], "seeds: [] should be non-empty"),
    ("seeds", [1, 1], "seeds: [1, 1] has non-unique elements"),
    ("settings/own/data/max_pairs", 1, "settings.own.data.max_pairs: 1 is less than the minimum"),
    ("settings/hub/data/revision", "main", "settings.hub.data.revision: 'main' does not match"),
    ("settings/hub/model/name", None, "settings.hub.model: 'name' is a dependency of 'revision'"),
    (
        "settings/world/model/scratch",
        None,
        "settings.world.model: expected exactly one of the keys",
    ),
    ("settings/own/model/name", "org/model", "settings.own.model: expected exactly one of the key"),
    # YAML reads a number without a dot as text.
    ("settings/world/preference/dpo/learning_rate", "5e-7", "nor `auto`; YAML takes it for text"),
    ("settings/world/data/variant", "usual", "settings.world.data.variant: 'usual' is not one of"),
    ("settings/world/data/kind", "folder", "settings.world.data.kind: 'folder' is not one of"),
    ("settings/world/generation/max_new_tokens", None, "'max_new_tokens' is a required property"),
    ("methods/sft", {"objective": "dpo"}, "'sft' should not be valid under"),
    ("methods/a b", {"objective": "dpo"}, "'a b' does not match"),
    ("methods/dpo/objective", "ipp", "methods.dpo.objective: 'ipp' is not one of"),
    ("methods/dpo/truncation", {"strategy": "poet", "keep": 0}, "truncation.keep: 0 is less"),
    ("methods/dpo/truncation", {"strategy": "none", "keep": 0.5}, "truncation: unknown key keep"),
    ("methods/dpo/truncation", {"strategy": "all"}, "truncation.strategy: 'all' is not one of"),
    ("annotators/oracle", {"kind": "human"}, "annotators.oracle.kind: 'human' is not one of"),
    ("methods/dpo/truncation", "poet", "methods.dpo.truncation: 'poet' is not of type 'object'"),
    ("methods/dpo/truncation", {"strategy": "random", "seed": 3.0}, "3.0 is not of type 'integer'"),
    ("seeds", [1.0], "seeds.0: 1.0 is not of type 'integer'"),
    ("settings/world/data", "world", "settings.world.data: 'world' is not of type 'object'"),
    ("annotators/oracle", "oracle", "annotators.oracle: 'oracle' is not of type 'object'"),
    ("annotators/program", {"kind": "oracle"}, "'program' should not be valid under"),
    ("annotators/answers", {"kind": "oracle"}, "'answers' should not be valid under"),
    ("methods/other", 1, "methods.other: 1 is not of type 'object'"),
    ("settings/other", 1, "settings.other: 1 is not of type 'object'"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG, ids=[f"{r[0]}={r[1]}" for r in WRONG])
def test_wrong_values_are_named(path, value, message):
    with pytest.raises(UserError) as error:
        load(changed(path, value))
    assert str(error.value).count(message) == 1


def test_many_errors_fit_a_screen():
    config = everything()
    for path in CLOSED:
        at(config, path)["bogus"] = 1
    with pytest.raises(UserError, match=r"\.\.\. and \d+ more") as error:
        load(config)
    assert len(str(error.value).splitlines()) == 11


def test_defaults_are_filled_in():
    config = load(raw())
    world = config["settings"]["world"]
    assert world["preference"]["warmup_ratio"] == 0.1
    assert world["preference"]["lr_scheduler_type"] == "cosine"
    assert world["generation"]["stop_token_ids"] == []
    assert config["methods"]["dpo-poet"]["truncation"] == {"strategy": "poet", "keep": 1.0}
    hub = load(everything())["settings"]["hub"]["data"]
    assert (hub["bad_rows"], hub["test_fraction"], hub["max_pairs"]) == ("error", 0.1, None)
    minimal = load({k: v for k, v in raw().items() if k not in ("gains", "torch_threads")})
    assert (minimal["gains"], minimal["torch_threads"]) == ({}, 1)


def test_the_date_of_templates_has_one_default_and_may_be_written_as_yaml_writes_dates():
    config = raw()
    assert load(config)["settings"]["world"]["chat_template_kwargs"] == {"strftime_now": DATE}
    config["settings"]["world"]["chat_template_kwargs"] = yaml.safe_load(
        "{strftime_now: 2025-01-31, enable_thinking: false}"
    )
    found = {"strftime_now": "2025-01-31", "enable_thinking": False}
    for name in ("sft", "tokenize", "generate", "reward_model", "diagnose", "prefix_quality"):
        record = stage(resolve(load(config), "world", "dpo"), name)
        assert record["chat_template_kwargs"] == found
    config["settings"]["world"]["chat_template_kwargs"]["strftime_now"] = "yesterday"
    with pytest.raises(UserError, match=r"settings.world.chat_template_kwargs.strftime_now: "):
        load(config)


def test_two_configurations_share_no_default():
    first, second = load(raw()), load(raw())
    first["settings"]["world"]["generation"]["stop_token_ids"].append(7)
    assert second["settings"]["world"]["generation"]["stop_token_ids"] == []


@pytest.mark.parametrize("make", [raw, lambda: raw("config/own-data.yaml"), everything])
def test_load_is_idempotent_and_leaves_its_argument(make):
    config = make()
    before = copy.deepcopy(config)
    loaded = load(config)
    assert config == before
    assert load(loaded) == loaded


def test_shortcuts_replace_the_only_settings_data_and_model():
    config = {**raw("config/own-model.yaml"), "pairs": "mine.jsonl", "model": "org/other"}
    setting = load(config)["settings"]["own"]
    assert setting["data"]["path"] == "mine.jsonl"
    assert setting["model"] == {"name": "org/other"}
    assert not {"pairs", "model"} & set(load(config))


@pytest.mark.parametrize("name", ["config.yaml", "config/own-data.yaml"])
def test_a_model_from_scratch_gives_its_rates_to_no_other(name):
    with pytest.raises(UserError, match="would destroy org/m.*config/own-model.yaml"):
        load({**raw(name), "model": "org/m"})


def test_a_named_model_gives_way_and_its_setting_stays():
    config = raw("config/own-model.yaml")
    own = config["settings"]["own"]
    own |= {"model": {"name": "org/one", "revision": "1" * 40}}
    own["preference"]["dpo"]["learning_rate"] = 3e-6
    loaded = load({**config, "model": "org/other"})["settings"]["own"]
    assert loaded["model"] == {"name": "org/other"}
    assert loaded["preference"]["dpo"]["learning_rate"] == 3e-6  # as the configuration says by name


@pytest.mark.parametrize("name", ["pairs", "model"])
@pytest.mark.parametrize("text", ["12", "1e3", "[a]", "a: b"])
def test_a_shortcut_that_snakemake_takes_for_a_value(name, text):
    """Names as files have them; Snakemake reads YAML, and numbers within quotes, too."""
    from snakemake.cli import parse_config

    (value,) = parse_config([f"{name}={text}"]).values()
    config = {**raw("config/own-data.yaml"), name: value}
    with pytest.raises(UserError, match=rf"`{name}=` is read as YAML.*`{name}=\./\.\.\.`"):
        load(config)
    if text[0] != "a":
        (value,) = parse_config([f"{name}=./{text}"]).values()
        assert value == f"./{text}"


@pytest.mark.parametrize("name", ["pairs", "model"])
@pytest.mark.parametrize("value", [None, "", " "])
def test_an_empty_shortcut_is_an_unset_variable(name, value, tmp_path):
    """Snakemake makes None of `model=$UNSET`, the programs' `--config` the empty text."""
    config = {**raw("config/own-data.yaml"), name: value}
    with pytest.raises(UserError, match=rf"`{name}=` is empty.*`{name}=\$UNSET`"):
        load(config)


def test_home_is_expanded_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = everything()
    own, world = config["settings"]["own"], config["settings"]["world"]
    own["data"]["path"] = own["sft"]["dataset"] = "~/a.jsonl"
    config["settings"]["hub"]["model"] = {"name": "~/m"}
    rows = {"path": "~/a.jsonl", "column": "text", "id": "id"}
    judge = {"kind": "local_judge", "name": "~/m", "judge": "~/j.yaml"}
    world |= {"safety": {"annotator": "judge", "prompts": rows}, "annotators": ["oracle", "paid"]}
    api = {"kind": "api", "base_url": "http://x/v1", "price": {"prompt": 0, "completion": 0}}
    config["annotators"] |= {
        "judge": judge,
        "paid": {"kind": "replay", "files": ["~/a.json", "b.json", "x/~/c.json"]},
        "bought": {**api, "max_cost": 0, "judge": "~/j.yaml", "store": "~/s"},
    }
    config |= {"lock": "~/l.yaml", "vllm_python": "~/v/bin/python"}
    text = json.dumps(load(config))
    assert text.count(f'"{tmp_path}/') == json.dumps(config).count('"~/') and '"~' not in text
    assert '"b.json", "x/~/c.json"' in text
    given = load({**raw("config/own-model.yaml"), "pairs": "~/a.jsonl", "model": "~/m"})
    assert given["settings"]["own"]["data"]["path"] == f"{tmp_path}/a.jsonl"
    assert given["settings"]["own"]["model"]["name"] == f"{tmp_path}/m"


def test_programs_read_the_command_line_as_snakemake_does(capsys):
    parser = argparse.ArgumentParser()
    add_flag(parser)
    texts = ["a=b.jsonl", "", "True", "true", "7", "1e3", "[1, x]", "{a: {b: 1}}", "a: b: c", "~"]
    for text in texts:
        args = parser.parse_args(["--config", f"pairs={text}"])
        assert dict(args.config) == parse_config([f"pairs={text}"])
    with pytest.raises(SystemExit):
        parser.parse_args(["--config", "pairs.jsonl"])
    assert "expected KEY=VALUE, found 'pairs.jsonl'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**raw(), "pairs": "mine.jsonl"}, "found kind world; add `--configfile config/own-data"),
        ({**everything(), "model": "org/model"}, "with one setting, found 3: world, own, hub"),
    ],
)
def test_shortcuts_that_fit_nothing_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        load(config)


@pytest.mark.parametrize("seed", [None, 2])
def test_records_are_complete(seed):
    config = load(everything())
    for setting in config["settings"]:
        for method in ("sft", *config["methods"]):
            record = resolve(config, setting, method, seed)
            assert set(RECORD) <= set(record)
            assert record["seed"] == (seed or 1)
            for name in STAGES:
                assert set(stage(record, name)) == set(STAGES[name])
                json.dumps(stage(record, name))


def test_records_hold_the_methods_values():
    config = load(everything())
    record = resolve(config, "world", "simpo-poet")
    preference = raw()["settings"]["world"]["preference"]
    rate = {"learning_rate": record["learning_rate"]}
    assert record["parameters"] | rate == preference["simpo"]
    assert record["global_batch_size"] == preference["global_batch_size"]
    assert record["truncation"] == {"strategy": "poet", "keep": 1.0}
    assert record["generation"] == config["settings"]["world"]["generation"]
    assert (record["model"], record["dataset"]) == ("scratch", "world:early")
    dpo = resolve(config, "world", "dpo")
    assert dpo["parameters"] == {"beta": 0.1}  # nothing of other objectives
    assert dpo["truncation"] == {"strategy": "none"}
    hub = resolve(config, "hub", "dpo")
    assert (hub["model"], hub["model_revision"]) == ("org/model", "1" * 40)
    assert (hub["dataset"], hub["dataset_revision"]) == ("org/pairs", "0" * 40)
    assert resolve(config, "world", "sft")["objective"] is None
    # A method differs from another in what its name says and in nothing else.
    poet = resolve(config, "world", "dpo-poet")
    assert {k for k in poet if poet[k] != dpo[k]} == {"method", "truncation"}


def test_resolve_names_what_it_does_not_know():
    config = load(raw())
    with pytest.raises(UserError, match="unknown setting `moon`; known: world"):
        resolve(config, "moon", "dpo")
    with pytest.raises(UserError, match="unknown method `ppo`; known: dpo, dpo-poet, sft, simpo"):
        resolve(config, "world", "ppo")


def test_show_takes_what_the_command_line_says_beside_the_file(capsys):
    nested = "settings={world: {generation: {backend: vllm}}}"
    main(["show", "--configfile", str(FILES[0]), "--config", "protect=True", nested])
    shown = yaml.safe_load(capsys.readouterr().out)
    expected = read(FILES[0])
    expected["protect"] = True
    expected["settings"]["world"]["generation"]["backend"] = "vllm"
    assert shown == expected
    with pytest.raises(UserError, match="`pairs=` is read as YAML, and so as 2024"):
        main(["show", "--configfile", str(FILES[0]), "--config", "pairs=2024"])


def test_show_prints_the_record(capsys):
    main(["show", "--configfile", str(FILES[0]), "--setting", "world", "--method", "dpo-poet"])
    record = json.loads(capsys.readouterr().out)
    assert record == resolve(read(FILES[0]), "world", "dpo-poet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory; expected a configuration file"),
        ("a: [1", "is not valid YAML"),
        ("- 1", "holds a list, expected a mapping of keys"),
        ("", "holds a NoneType, expected a mapping"),
        ("seed: [1]", "unknown key seed; known keys: annotators"),
    ],
)
def test_command_fails_with_a_message(tmp_path, content, message):
    path = tmp_path / "my.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        main(["show", "--configfile", str(path), "--setting", "world", "--method", "dpo"])
    assert str(path) in str(error.value)


def test_command_line():
    command = [sys.executable, "-m", "poet.config", "show", "--setting", "world", "--method"]
    good = subprocess.run([*command, "dpo"], cwd=ROOT, capture_output=True, text=True)
    assert good.returncode == 0
    assert set(RECORD) <= set(json.loads(good.stdout))
    bad = subprocess.run([*command, "ppo"], cwd=ROOT, capture_output=True, text=True)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("error: unknown method `ppo`")
    assert len(bad.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["ablation", "sweep", "worlds"])
def test_configurations_of_the_world_share_the_defaults_results(name):
    default, other = load(raw()), load(raw(f"config/{name}.yaml"))
    for method in ("sft", *(set(default["methods"]) & set(other["methods"]))):
        for seed in default["seeds"]:
            mine, theirs = (resolve(c, "world", method, seed) for c in (other, default))
            # What only the default asks for, and no other program reads.
            optional = {"downstream", "analysis"}
            assert {k: v for k, v in mine.items() if k not in optional} == {
                k: v for k, v in theirs.items() if k not in optional
            }


def test_a_sweep_makes_a_method_of_every_cell():
    config = load(raw("config/sweep.yaml"))
    sweep = config["sweep"]
    section = config["settings"]["world"]["preference"]
    for arm in sweep["methods"]:
        cells = sweep_cells(sweep, arm)
        assert len(cells) == 9 and arm in cells
        plain = resolve(config, "world", arm)
        found = set()
        for name, factors in cells.items():
            record = resolve(config, "world", name)
            flat, was = (r | r["parameters"] | {"parameters": {}} for r in (record, plain))
            changed = {k for k in was if flat[k] != was[k]} - {"method"}
            assert changed == {k for k, factor in factors.items() if factor != 1}
            found.add((flat["beta"], flat["learning_rate"]))
        own = section[config["methods"][arm]["objective"]]
        betas = sorted(own["beta"] * factor for factor in sweep["beta"])
        assert sorted({beta for beta, _ in found}) == pytest.approx(betas)
        assert len(found) == 9
    assert resolve(config, "world", "dpo-beta-x0.3-lr-x1")["parameters"]["beta"] == 0.03


def test_the_cells_of_a_scaled_arm_are_scaled_on_top():
    config = raw("config/sweep.yaml")
    config["methods"]["dpo"]["scale"] = {"beta": 2}
    config = load(config)
    found = [resolve(config, "world", name) for name in ("dpo", "dpo-beta-x3-lr-x2")]
    assert [record["parameters"]["beta"] for record in found] == [0.2, 0.6]
    assert [record["learning_rate"] for record in found] == [2e-4, 4e-4]
    assert load(config) == config


def test_sweeps_that_name_nothing_are_refused():
    config = raw("config/sweep.yaml")
    with pytest.raises(UserError, match=r"unknown method \(in sweep.methods\) `pdo`"):
        load({**config, "sweep": {**config["sweep"], "methods": ["pdo"]}})
    other = {"methods": {**config["methods"], "ipo": {"objective": "ipo"}}}
    with pytest.raises(UserError, match=r"sweep.methods has method ipo, but settings.world.pref"):
        load({**config, **other, "sweep": {**config["sweep"], "methods": ["ipo"]}})
    with pytest.raises(UserError, match=r"unknown setting \(in sweep.settings"):
        load({**config, "sweep": {**config["sweep"], "settings": ["moon"]}})
    own = raw("config/own-data.yaml")
    with pytest.raises(UserError, match="only data of kind world have"):
        load({**own, "sweep": {**config["sweep"], "settings": ["own"]}})
