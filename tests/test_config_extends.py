"""What a configuration and a setting take over from what they extend, and what is refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from poet.config import load, main, read
from poet.config_extends import merged
from poet.files import UserError
from poet.methods.objectives import OBJECTIVES

ROOT = Path(__file__).parents[1]
BASE = {"seeds": [1, 2, 3], "methods": {"dpo": {"objective": "dpo"}}, "protect": False}
VALUES = st.recursive(
    st.integers() | st.booleans() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)
MAPPINGS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    return tmp_path


def difference(base: dict, wanted: dict) -> dict:
    """What has to be written beside a base for the wanted mapping."""
    change = dict.fromkeys(set(base) - set(wanted))
    for key, value in wanted.items():
        if key not in base:
            change[key] = value
        elif value != base[key] or type(value) is not type(base[key]):
            both = isinstance(value, dict) and isinstance(base[key], dict)
            change[key] = difference(base[key], value) if both else value
    return change


@given(MAPPINGS, MAPPINGS)
def test_any_mapping_is_written_by_its_difference_from_any_other(base, wanted):
    before = json.dumps([base, wanted])
    assert json.dumps(merged(base, difference(base, wanted)), sort_keys=True) == json.dumps(
        wanted, sort_keys=True
    )
    assert json.dumps([base, wanted]) == before


def test_mappings_are_merged_and_all_else_is_replaced():
    change = {"seeds": [4], "methods": {"ipo": {"objective": "ipo"}, "dpo": None}}
    assert merged(BASE, change) == {
        "seeds": [4], "methods": {"ipo": {"objective": "ipo"}}, "protect": False
    }  # fmt: skip


def test_a_null_that_takes_nothing_out_is_a_value(folder):
    """`max_pairs: null` takes all pairs; a wrong key is told."""
    base, change = {"data": {"max_pairs": 9}, "seeds": [1]}, {"data": {"max_pairs": None}}
    assert merged({"data": {}}, change) == change
    assert merged(base, change) == {"data": {}, "seeds": [1]}
    with pytest.raises(UserError, match=r"settings\.world: unknown key anaylsis"):
        load({"extends": "config.yaml", "settings": {"world": {"anaylsis": None}}})


def test_ablation_sweep_and_worlds_hold_what_differs(monkeypatch):
    monkeypatch.chdir(ROOT)
    default = read("config.yaml")["settings"]["world"]
    assert "extends" not in yaml.safe_load(Path("config.yaml").read_text())
    for name in ("ablation", "sweep", "worlds"):
        assert yaml.safe_load(Path(f"config/{name}.yaml").read_text())["extends"] == "config.yaml"
    ablation, sweep, worlds = (
        read(f"config/{name}.yaml")["settings"] for name in ("ablation", "sweep", "worlds")
    )
    plain = {key: value for key, value in default.items() if key not in ("analysis", "downstream")}
    assert sweep == {"world": plain}
    assert {key for key in plain if ablation["world"][key] != plain[key]} == {"preference"}
    others = set(OBJECTIVES) - set(plain["preference"])
    assert set(ablation["world"]["preference"]) - set(plain["preference"]) == others
    assert worlds == {
        name: {**default, "data": {**default["data"], "variant": variant}}
        for name, variant in (("world", "early"), ("world-null", "null"), ("world-late", "late"))
    }


REFUSED = [
    (
        {"extends": "base.yaml"},
        "base.yaml ({folder}/base.yaml; my.yaml extends it): No such",
    ),
    ({"extends": "."}, "my.yaml extends it): Is a directory; expected a configuration file"),
    (
        {"extends": "list.yaml"},
        "list.yaml ({folder}/list.yaml; my.yaml extends it) holds a",
    ),
    (
        {"extends": "second.yaml"},
        "my.yaml extends second.yaml, which extends config.yaml; expected a mapping that extends "
        "nothing",
    ),
    ({"extends": ["config.yaml"]}, "my.yaml: extends is ['config.yaml'], expected one name"),
    (
        {"extends": "config.yaml", "settings": {"new": {"extends": "wrold"}}},
        "unknown setting (in my.yaml: settings.new.extends) `wrold`; known: new, world",
    ),
    (
        {"settings": {"a": {"extends": "b"}, "b": {"extends": "a"}}},
        "my.yaml: settings.a extends b, which extends a; expected a mapping that extends nothing",
    ),
    (
        {"settings": {"a": {"extends": "b"}, "b": None}},
        "my.yaml: settings.a extends b, which is None; expected a mapping",
    ),
    (
        {"extends": "config.yaml", "gains": {"dpo-poet": "ppo"}},
        "unknown method (in gains.dpo-poet) `ppo`",
    ),
    (
        {"extends": "config.yaml", "settings": {"world": {"model": {"name": "org/model"}}}},
        "my.yaml (extends config.yaml): settings.world.model: expected exactly one of the keys",
    ),
]


@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_what_cannot_be_extended_is_refused(folder, config, message):
    Path("list.yaml").write_text("- 1\n")
    Path("second.yaml").write_text("extends: config.yaml\n")
    with pytest.raises(UserError) as error:
        load(config, "my.yaml")
    assert message.replace("{folder}", str(folder)) in str(error.value)


def test_the_commands_shortcuts_reach_an_inherited_setting(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    Path("own.yaml").write_text((ROOT / "config/own-model.yaml").read_text())
    Path("mine.yaml").write_text("extends: ~/own.yaml\nseeds: [7]\n")
    found = read("mine.yaml", pairs="p.jsonl", model="org/model")
    assert found == read("own.yaml", pairs="p.jsonl", model="org/model") | {"seeds": [7]}


@pytest.mark.parametrize("name", ["config.yaml", "config/ablation.yaml", "config/sweep.yaml"])
def test_show_prints_what_load_gives(name, capsys, monkeypatch):
    """It can be kept as a configuration: loaded again, it is the same."""
    monkeypatch.chdir(ROOT)
    main(["show", "--configfile", name])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown == read(name) == load(shown)


def test_show_takes_the_shortcuts_and_wants_both_names_of_a_record(capsys):
    own = str(ROOT / "config/own-data.yaml")
    main(["show", "--configfile", own, "--config", "pairs=p.jsonl"])
    assert yaml.safe_load(capsys.readouterr().out)["settings"]["own"]["data"]["path"] == "p.jsonl"
    with pytest.raises(SystemExit):
        main(["show", "--configfile", own, "--setting", "own"])
    assert "--setting and --method name a record together" in capsys.readouterr().err


def test_snakemake_merges_its_files_and_flags_above_the_base(folder):
    """Several --configfile and --config: what they say together stands above what is extended."""
    Path("a.yaml").write_text("extends: config.yaml\nseeds: [7]\ngrid: {world: [sft, dpo]}\n")
    Path("b.yaml").write_text("settings: {world: {downstream: null}}\ngains: {dpo-poet: null}\n")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1",
         "--configfile", "a.yaml", "b.yaml", "--config", "save_steps=5", "-n",
         "--printshellcmds", "write_manifest"],
        capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command = re.search(r"--config-json '(\{.*\})' --benchmarks", done.stdout + done.stderr)
    wanted = yaml.safe_load(Path("config.yaml").read_text())
    wanted |= {"seeds": [7], "grid": {"world": ["sft", "dpo"]}, "save_steps": 5}
    del wanted["settings"]["world"]["downstream"], wanted["gains"]["dpo-poet"]
    assert json.loads(command.group(1)) == load(wanted)
