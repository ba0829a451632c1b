"""Methods in the configuration: what the code offers is what the schema takes."""

import copy
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from poet.config import load, resolve
from poet.config_extends import resolved
from poet.files import UserError
from poet.methods.objectives import OBJECTIVES
from poet.methods.truncation import TRUNCATIONS

ROOT = Path(__file__).parents[1]


def raw(name="config/ablation.yaml"):
    config = yaml.safe_load((ROOT / name).read_text())
    base = {"extends": str(ROOT / config["extends"])} if "extends" in config else {}
    return resolved({**config, **base}, name)


def with_method(method):
    config = raw()
    return {**config, "methods": {"m": method}, "grid": {"world": ["m"]}, "gains": {}, "tables": {}}


@pytest.mark.parametrize("module", ["objectives", "weighting", "truncation"])
def test_methods_are_read_without_torch(module):
    """The configuration is read at every start of Snakemake."""
    code = f"import sys, poet.methods.{module}"
    code += "; print({'torch', 'numpy'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("set()\n", "")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objectives_section_holds_its_parameters(name):
    """Those that its loss takes by name, and its score."""
    objective = OBJECTIVES[name]
    of_loss = {
        p.name
        for p in inspect.signature(objective.loss).parameters.values()
        if p.kind == p.KEYWORD_ONLY
    }
    assert {*objective.parameters} == of_loss >= {"beta", *objective.of_score}
    config = with_method({"objective": name})
    values = {key: 0.5 for key in of_loss} | {"learning_rate": 1e-4}
    config["settings"]["world"]["preference"][name] = values
    record = resolve(load(config), "world", "m")
    assert record["parameters"] | {"learning_rate": record["learning_rate"]} == values
    for key in values:
        section = {k: v for k, v in values.items() if k != key}
        config["settings"]["world"]["preference"][name] = section
        with pytest.raises(UserError, match=f"preference.{name}: '{key}' is a required property"):
            load(config)
    config["settings"]["world"]["preference"][name] = {**values, "gama": 1}
    with pytest.raises(UserError, match=f"preference.{name}: unknown key gama; known keys: .*beta"):
        load(config)
    del config["settings"]["world"]["preference"][name]
    with pytest.raises(UserError, match=f"preference has no section `{name}`"):
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
        if m["objective"] == "dpo"
        and "keep" in TRUNCATIONS[m.get("truncation", {"strategy": "none"})["strategy"]].parameters
    }
    grid = {(s, k) for s in ("poet", "own") for k in (0.25, 0.5, 0.75, 1.0)}
    assert shares == grid - {("own", 1.0)}  # which is plain DPO
