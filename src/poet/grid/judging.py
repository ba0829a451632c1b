"""What a rule that judges or scores is told of an annotator: its model, its section, its checks."""

from __future__ import annotations

import json

from poet.config_checks import scorer_of
from poet.evaluate.annotators import KINDS
from poet.evaluate.benchmarks.record import PROGRAM
from poet.grid import members, paths
from poet.grid.sources import hub_folder
from poet.hub import lock, wanted
from poet.local_inputs import content_of_annotator


def section_of(config: dict, annotator: str) -> dict:
    """Its section; empty for a benchmark's own program."""
    return {} if annotator == PROGRAM else config["annotators"][annotator]


def trained_here(section: dict) -> bool:
    """Whether it is the reward model that is trained on the setting's own pairs."""
    return KINDS[section["kind"]].loads and "name" not in section


def model(config: dict, annotator: str, setting: str) -> list[str]:
    """The folder of an annotator's model: the hub's, the setting's own reward model, or none."""
    section = section_of(config, annotator)
    if section and trained_here(section):
        return [f"results/models/{setting}/reward_model"]
    return hub_folder(config, section.get("name"))


def limits(config: dict, annotator: str) -> dict:
    """What of its section decides no verdict; see :class:`poet.evaluate.annotators.kind.Kind`."""
    section = section_of(config, annotator)
    keys = KINDS[section["kind"]].limits if section else ()
    return {key: value for key, value in section.items() if key in keys}


def settings(config: dict, annotator: str) -> str:
    """The rest of it as JSON, an unpinned revision looked up: its change re-runs a rule."""
    others, section = limits(config, annotator), section_of(config, annotator)
    section = {key: value for key, value in section.items() if key not in others}
    if section.get("name") in wanted.repositories(config):
        section["revision"] = lock.pinned(config["lock"], section["name"], section.get("revision"))
    if section.get("backend") == "vllm":
        section["vllm_python"] = config["vllm_python"]
    return json.dumps(section, sort_keys=True)


def content(config: dict, annotator: str) -> list[str]:
    """Digests of what it has on this machine: model, judge, annotations to replay."""
    return content_of_annotator(section_of(config, annotator))


def check(config: dict, annotator: str, setting: str, use: str) -> list[str]:
    """What the rule check_judge says of a model or a replay; nothing of what is ours, or bought."""
    section = section_of(config, annotator)
    checked = section and KINDS[section["kind"]].beforehand and not trained_here(section)
    return [f"results/checks/{setting}/{use}/{annotator}.json"] if checked else []


def prompts(setting: str, use: str) -> str:
    """The prompts whose answers an annotator judges, for a use: its own or that of a benchmark."""
    return f"results/{'data' if use == 'annotators' else use}/{setting}/prompts.jsonl"


def scorers_annotations(config: dict, setting: str) -> dict[str, list[str]]:
    """What the scorer found of the analysed answers; nothing where it does not annotate them."""
    name = scorer_of(config, setting)
    if name not in config["settings"][setting]["annotators"]:
        return {}
    return paths.annotations(config, setting, name, members.methods_of(config, "main", setting))
