"""docs/judges.md: its configurations are valid, and its defaults are the schema's."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from poet.config import load
from poet.evaluate.annotators import KINDS
from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.benchmarks.record import PROGRAM
from poet.hub.wanted import repositories

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/judges.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]


def files_of(node):
    """Local files that a configuration names."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("path", "files"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from files_of(value)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: next(iter(block["annotators"])))
def test_a_configuration_with_the_example_is_valid(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in files_of(block):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    config = copy.deepcopy(yaml.safe_load((ROOT / "config.yaml").read_text()))
    config["annotators"] |= block["annotators"]
    world = config["settings"]["world"]
    world["annotators"] += [
        name for name, section in block["annotators"].items()
        if section.get("judge") not in ("safety", "arena_hard")
    ]  # fmt: skip
    for section in block.get("settings", {}).values():
        world |= section
    loaded = load(config)
    for name, section in block["annotators"].items():
        assert section.items() <= loaded["annotators"][name].items()


def test_what_the_examples_take_from_the_hub_is_in_the_lock_s_list():
    world = copy.deepcopy(yaml.safe_load((ROOT / "config.yaml").read_text()))
    world["annotators"] |= BLOCKS[-1]["annotators"]
    world["settings"]["world"] |= BLOCKS[-1]["settings"]["mine"]
    (repository,) = repositories(load(world)).items()
    assert repository[0] == "datasets/lmarena-ai/arena-hard-auto"
    assert repository[1]["files"] == (
        "data/arena-hard-v0.1/question.jsonl",
        "data/arena-hard-v0.1/model_answer/gpt-4-0314.jsonl",
    )


def test_kinds_and_defaults_are_the_records():
    kinds = re.findall(r"^\| `(\w+)` \|", TEXT.split("## ")[0], re.MULTILINE)[1:]
    assert sorted(kinds) == list(KINDS)
    api = {name: key.get("default") for name, key in KINDS["api"].schema["properties"].items()}
    for text in (
        f"`concurrency` calls at once ({api['concurrency']})",
        f"`timeout`, {api['timeout']} s",
        f"`attempts` times in all ({api['attempts']})",
        f"`backoff.initial` s ({api['backoff']['initial']})",
        f"`backoff.longest` ({api['backoff']['longest']})",
        api["store"],
    ):
        assert text in TEXT


def test_the_benchmarks_are_the_records():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (`.*`) \| `(\w+)`, (\w+) of", TEXT, re.MULTILINE)
    assert sorted(rows) == [
        (
            name,
            ", ".join(f"`{kind}`" for kind in each.annotators or [PROGRAM]),
            each.metrics[0].name,
            each.unit,
        )
        for name, each in BENCHMARKS.items()
    ]


def test_the_papers_configuration_has_both_judges():
    sections = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())["annotators"]
    for name, section in BLOCKS[0]["annotators"].items():
        assert sections[name] == section
