"""Annotators in the configuration: each kind has its keys; mistakes are named before any job."""

import copy
from pathlib import Path

import pytest
import yaml

from poet.config import load
from poet.files import UserError
from poet.local_inputs import check

ROOT = Path(__file__).parents[3]
API = {
    "kind": "api",
    "judge": "weighted_alpaca_eval_gpt4_turbo",
    "base_url": "https://api.openai.com/v1",
    "key_variable": "OPENAI_API_KEY",
    "price": {"prompt": 10, "completion": 30},
    "max_cost": 5,
}


def config(annotator, **setting):
    made = copy.deepcopy(yaml.safe_load((ROOT / "config.yaml").read_text()))
    made["annotators"]["mine"] = annotator
    made["settings"]["world"] |= {"annotators": ["oracle", "mine"], **setting}
    return made


def without(key):
    return {name: value for name, value in API.items() if name != key}


@pytest.mark.parametrize(
    ("annotator", "message"),
    [
        (without("max_cost"), "'max_cost' is a required property"),
        (without("price"), "'price' is a required property"),
        (API | {"price": {"prompt": 1}}, "'completion' is a required property"),
        (API | {"modell": "m"}, "unknown key modell; known keys: allow_model_change, attempts"),
        (API | {"key_variable": "sk-abc123"}, "key_variable: expected the name of the environment"),
        (API | {"base_url": "https://me:sk-abc123@host/v1"}, "base_url: expected the address of"),
        (API | {"base_url": "https://host/v1?key=sk-abc123"}, "base_url: expected the address of"),
        (API | {"base_url": "host/v1"}, "base_url: expected the address of"),
        (API | {"attempts": 0}, "annotators.mine.attempts"),
        (API | {"judge": "weighted"}, "unknown judge weighted; expected a YAML file"),
        ({"kind": "local_judge"}, "'name' is a required property"),
        ({"kind": "local_judge", "name": "a/b", "judge": "none"}, "unknown judge none"),
        ({"kind": "reward_model", "name": "a/b", "files": []}, "unknown key files"),
        ({"kind": "oracle", "name": "a/b"}, "unknown key name"),
        ({"kind": "replay"}, "'files' is a required property"),
        ({"kind": "replay", "files": ["paid.json"]}, "paid.json: no such file"),
        ({"kind": "human"}, "annotators.mine.kind: 'human' is not one of"),
    ],
)
def test_a_mistake_is_named(annotator, message):
    with pytest.raises(UserError) as error:
        check(load(config(annotator)), "my.yaml")
    assert message in str(error.value) and "sk-abc123" not in str(error.value)


def test_defaults_are_filled_in():
    api = load(config(API))["annotators"]["mine"]
    assert api["backoff"] == {"initial": 1, "longest": 60} and api["allow_model_change"] is False
    local = load(config({"kind": "local_judge", "name": "a/b"}))["annotators"]["mine"]
    assert local["judge"] == "weighted_alpaca_eval_gpt4_turbo"


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        (
            "safety",
            {"annotator": "oracle"},
            "oracle is of kind oracle; expected api or local_judge",
        ),
        ("safety", {"annotator": "other"}, "unknown annotator"),
        ("safety", {"prompts": {"path": "none.jsonl", "column": "p"}}, "none.jsonl: no such file"),
        ("safety", {"prompts": {"column": "p"}}, "expected exactly one of the keys path, dataset"),
        ("arena", {"annotator": "local"}, "local is of kind local_judge; expected api"),
        ("arena", {}, "settings.world.arena.prompts needs the key `id`"),
    ],
)
def test_safety_and_arena(tmp_path, section, value, message):
    (tmp_path / "p.jsonl").write_text("")
    rows = {"path": str(tmp_path / "p.jsonl"), "column": "p"}
    right = {"annotator": "mine", "prompts": rows}
    if section == "arena":
        right["baseline"] = {**rows, "id": "id"}
    made = config(API, **{section: right | value})
    made["annotators"]["local"] = {"kind": "local_judge", "name": "a/b"}
    with pytest.raises(UserError) as error:
        check(load(made), "my.yaml")
    assert message in str(error.value)
