"""What comes from outside. Of the hub: where it is put, and who reads it. Of this machine: digests
of what is in files and folders, as parameters of rules (see :mod:`poet.local_inputs`).
"""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

from poet.digests import digest
from poet.evaluate.benchmarks import BENCHMARKS
from poet.hub import lock, wanted
from poet.local_inputs import content_of_model


def hub_folder(config: dict, name: str | None) -> list[str]:
    """The folder of a hub repository; none for a local folder, or for None."""
    return [f"results/hub/{name}"] if name in wanted.repositories(config) else []


def pinned(config: dict, repository: str) -> str:
    """What the lock says of a repository; null before `make lock`, which its job then asks for."""
    return json.dumps(lock.read(config["lock"]).get(repository), sort_keys=True)


def _section(config: dict, setting: str, *keys: str) -> dict:
    """The section below these keys of a setting; empty where there is none."""
    found = config["settings"][setting]
    for key in keys:
        found = found.get(key, {})
    return found


def folder(config: dict, setting: str, *keys: str) -> list[str]:
    """The folder of the data set that a section of a setting names, where it is the hub's."""
    name = _section(config, setting, *keys).get("dataset")
    return hub_folder(config, f"datasets/{name}") if name else []


def content(config: dict, setting: str, *keys: str) -> list[str]:
    """The digest of the file of this machine that a section of a setting names, if it does."""
    if folder(config, setting, *keys):
        return []
    section = _section(config, setting, *keys)
    file = section.get("path") or section.get("dataset")
    return [digest(file)] if file else []


def each_file(of, config: dict, setting: str, benchmark: str) -> list[str]:
    """What ``of`` finds of a further benchmark's prompts, and of its baseline's answers."""
    keys = BENCHMARKS[benchmark].files
    return [found for key in keys for found in of(config, setting, benchmark, key)]


def base_model(config: dict, setting: str) -> list[str]:
    """The folder of the published model that a setting starts from, where it is the hub's."""
    return hub_folder(config, config["settings"][setting]["model"].get("name"))


def base_content(config: dict, setting: str) -> list[str]:
    """The digest of the published model's folder, where it is not the hub's."""
    return content_of_model(config["settings"][setting]["model"].get("name"))


def engine_flag(config: dict, setting: str) -> str:
    """`--vllm-python INTERPRETER`, where the setting's answers are vLLM's."""
    vllm = config["settings"][setting]["generation"]["backend"] == "vllm"
    return f"--vllm-python {quote(config['vllm_python'])}" if vllm else ""


def diagnosis_flags(config: dict, setting: str, corpus: str) -> str:
    """What poet.analyse.diagnose finds of a setting's model before it is trained."""
    model = config["settings"][setting]["model"]
    if "scratch" in model:
        return f"--corpus {corpus}"
    return f"--tokenizer {quote(model['name'])}" if Path(model["name"]).is_dir() else ""


def task_datasets(config: dict, setting: str) -> dict[str, list[str]]:
    """Data set of a setting's lm-eval tasks -> its folder."""
    names = config["settings"][setting].get("downstream", {}).get("datasets", {})
    return {name: hub_folder(config, f"datasets/{name}") for name in names}


def question_flags(config: dict, benchmark: str, setting: str) -> str:
    """What poet.evaluate.questions is told: the sections on prompts and, if the benchmark has one,
    the baseline's answers, with the path of each file.
    """
    found = []
    for name in BENCHMARKS[benchmark].files:
        rows = config["settings"][setting][benchmark][name]
        path = rows.get("path") or f"results/hub/datasets/{rows['dataset']}/{rows['file']}"
        found.append(f"--{name} {quote(json.dumps({**rows, 'path': path}, sort_keys=True))}")
    return " ".join(found)
