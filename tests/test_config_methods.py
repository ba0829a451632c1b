"""Methods in the configuration: what the code offers is what the schema takes."""

import copy
from pathlib import Path

import pytest
import yaml

from poet.config import OBJECTIVES, load, resolve
from poet.config_extends import resolved
from poet.files import UserError
from poet.methods import objectives, weighting
from poet.methods.truncation import STRATEGIES
from poet.report.figure_training import REWARD_LABELS

ROOT = Path(__file__).parents[1]
SCHEMA = yaml.safe_load((ROOT / "config/config.schema.yaml").read_text())["$defs"]
METHOD = SCHEMA["method"]["properties"]


def raw(name="config/ablation.yaml"):
    config = yaml.safe_load((ROOT / name).read_text())
    base = {"extends": str(ROOT / config["extends"])} if "extends" in config else {}
    return resolved({**config, **base}, name)


def with_method(method):
    config = raw()
    return {**config, "methods": {"m": method}, "grid": {"world": ["m"]}, "gains": {}, "tables": {}}


def test_schema_and_code_know_the_same_names():
    assert METHOD["objective"]["enum"] == list(OBJECTIVES) == list(objectives.OBJECTIVES)
    assert set(REWARD_LABELS) == set(OBJECTIVES)  # the training figure names each one's reward
    assert METHOD["truncation"]["properties"]["strategy"]["enum"] == list(STRATEGIES)
    plain = METHOD["weighting"]["else"]["enum"]
    with_parameter = METHOD["weighting"]["then"]["properties"]
    assert {*plain, *with_parameter} == set(weighting.WEIGHTINGS)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objectives_section_holds_its_parameters(objective):
    section = SCHEMA["preference"]["properties"][objective]
    parameters = {*objectives.OBJECTIVES[objective].parameters, "learning_rate"}
    assert set(section["properties"]) == set(section["required"]) == parameters
    config = with_method({"objective": objective})
    values = config["settings"]["world"]["preference"].setdefault(
        objective, {"beta": 2.0, "gamma_beta_ratio": 0.5, "learning_rate": 1e-4}
    )
    record = resolve(load(config), "world", "m")
    assert {name: record[name] for name in parameters} == values
    del config["settings"]["world"]["preference"][objective]
    with pytest.raises(UserError, match=f"preference has no section `{objective}`"):
        load(config)


def test_weighting_is_uniform_by_default():
    assert resolve(load(with_method({"objective": "dpo"})), "world", "m")["weighting"] == "uniform"
    for value in ("sampo", {"d2po": 0.98}, {"ld": 0.0}):
        config = load(with_method({"objective": "dpo", "weighting": value}))
        assert resolve(config, "world", "m")["weighting"] == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("d2po", "methods.m.weighting: 'd2po' is not one of ['uniform', 'sampo']"),
        ("samp", "methods.m.weighting: 'samp' is not one of"),
        ({}, "methods.m.weighting: {} should be non-empty"),
        ({"sampo": 1}, "methods.m.weighting: unknown key sampo; known keys: d2po, ld"),
        ({"d2po": 0.9, "ld": 0.5}, "has too many properties"),
        ({"d2po": 0}, "methods.m.weighting.d2po: 0 is less than or equal to the minimum of 0"),
        ({"d2po": 1.1}, "methods.m.weighting.d2po: 1.1 is greater than the maximum of 1"),
        ({"ld": -0.1}, "methods.m.weighting.ld: -0.1 is less than the minimum of 0"),
        ({"ld": "half"}, "methods.m.weighting.ld: 'half' is not of type 'number'"),
    ],
)
def test_wrong_weightings_are_named(value, message):
    with pytest.raises(UserError) as error:
        load(with_method({"objective": "dpo", "weighting": value}))
    assert message in str(error.value)


def test_the_ablation_is_of_the_default_world():
    """The same data, start model and DPO, so that finished parts serve both."""
    default, ablation = raw("config.yaml"), raw()
    assert default["seeds"] == ablation["seeds"]
    world = copy.deepcopy(default["settings"]["world"])
    other = ablation["settings"]["world"]
    for section in ("data", "model", "sft", "generation", "annotators"):
        assert other[section] == world[section]
    shared = set(world["preference"]) & set(other["preference"])
    assert {k: other["preference"][k] for k in shared} == {
        k: world["preference"][k] for k in shared
    }
    assert set(world["preference"]) - shared == {"simpo"}
    shares = {
        (m["truncation"]["strategy"], m["truncation"].get("keep", 1.0))
        for m in ablation["methods"].values()
        if m["objective"] == "dpo" and "truncation" in m
    }
    grid = {(s, k) for s in ("poet", "own") for k in (0.25, 0.5, 0.75, 1.0)}
    assert shares == grid - {("own", 1.0)}  # which is plain DPO
