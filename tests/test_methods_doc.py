"""docs/methods.md: a row for all that the code and the configurations offer, and its tests."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from poet.methods.objectives import OBJECTIVES
from poet.methods.truncation import TRUNCATIONS
from poet.methods.weighting import WEIGHTINGS
from poet.report.titles import of

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/methods.md").read_text()
CONFIGS = [ROOT / "config.yaml", *(ROOT / "config").glob("*.yaml")]


def quoted(text):
    return re.findall(r"`([^`]+)`", text)


ROWS = [
    dict(zip(("methods", "choices", "equation", "source", "tests"), cells, strict=True))
    for line in TEXT.splitlines()
    if line.startswith("| `")
    and (cells := [cell.strip() for cell in line.strip("| ").split(" | ")])
]
BY_METHOD = {name: row for row in ROWS for name in quoted(row["methods"])}


def methods():
    for path in CONFIGS:
        for name, method in yaml.safe_load(path.read_text()).get("methods", {}).items():
            if method is not None:  # not taken out of what is extended
                yield pytest.param(name, method, id=f"{path.name}-{name}")


def test_the_ablations_caption_says_every_truncation():
    caption = of("ablation")[1]
    assert set(re.findall("``([a-z]+)``", caption)) >= set(TRUNCATIONS)


@pytest.mark.parametrize(("name", "method"), methods())
def test_every_configured_method_has_its_row(name, method):
    choices = quoted(BY_METHOD[name]["choices"])
    assert f"objective: {method['objective']}" in choices
    weighting = method.get("weighting")
    if weighting:
        (weighting,) = [weighting] if isinstance(weighting, str) else weighting
        assert f"weighting: {weighting}" in choices
    if "truncation" in method:
        assert f"strategy: {method['truncation']['strategy']}" in choices


@pytest.mark.parametrize(
    ("kind", "names"),
    [("objective", OBJECTIVES), ("weighting", WEIGHTINGS), ("strategy", TRUNCATIONS)],
)
def test_every_choice_of_the_code_has_a_row(kind, names):
    found = {
        choice.removeprefix(f"{kind}: ")
        for row in ROWS
        for choice in quoted(row["choices"])
        if choice.startswith(f"{kind}: ")
    }
    assert found == set(names)


def test_equations_speak_the_codes_terms():
    """An objective's row names its parameters."""
    for name, objective in OBJECTIVES.items():
        assert set(objective.parameters) <= set(re.findall(r"\w+", BY_METHOD[name]["equation"])) | (
            {"beta"} if name == "rpo" else set()  # in dpo's
        )


@pytest.mark.parametrize("name", sorted(set(re.findall(r"tests/[\w/]+\.py::\w+", TEXT))))
def test_named_tests_exist(name):
    path, function = name.split("::")
    tree = ast.parse((ROOT / path).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_is_tested():
    assert ROWS
    for row in ROWS:
        assert all("::test_" in test for test in quoted(row["tests"])) and quoted(row["tests"])
        assert "arXiv" in row["source"] or "POET" in row["source"]
