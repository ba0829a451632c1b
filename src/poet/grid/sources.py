"""What comes from outside. Of the hub: where it is put, and who reads it. Of this machine: digests
of what is in files and folders, as parameters of rules (see :mod:`poet.local_inputs`).
"""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

from poet.digests import digest
from poet.evaluate.benchmarks import BENCHMARKS
from poet.grid.paths import given
from poet.hub import lock, wanted
from poet.local_inputs import content_of_model


def hub_folder(config: dict, name: str | None) -> list[str]:
    """The folder of a hub repository; none for a local folder, or for None."""
    return [f"results/hub/{name}"] if name in wanted.repositories(config) else []


def pinned(config: dict, repository: str) -> str:
    """What the lock says of a repository; null before `make lock`, which its job then asks for."""
    return json.dumps(lock.read(config["lock"]).get(repository), sort_keys=True)


def pairs_folder(config: dict, setting: str) -> list[str]:
    """The folder of a setting's pairs, where they are a data set of the hub's."""
    data = config["settings"][setting]["data"]
    return hub_folder(config, f"datasets/{data['dataset']}") if data["kind"] == "hub" else []


def pairs_content(config: dict, setting: str) -> str | None:
    """The digest of the file of a setting's pairs, where they are one."""
    data = config["settings"][setting]["data"]
    return digest(data["path"]) if data["kind"] == "file" else None


def chats_folder(config: dict, setting: str) -> list[str]:
    """The folder of a start model's chats, where they are a data set of the hub's."""
    return hub_folder(config, f"datasets/{config['settings'][setting]['sft']['dataset']}")


def chats_content(config: dict, setting: str) -> str | None:
    """The digest of the file of a start model's chats, where they are one."""
    if chats_folder(config, setting):
        return None
    return digest(config["settings"][setting]["sft"]["dataset"])


def alpacaeval_folder(config: dict, setting: str) -> list[str]:
    """The folder of AlpacaEval's data, where a setting is evaluated on its prompts."""
    evaluation = config["settings"][setting]["data"].get("evaluation")
    return hub_folder(config, f"datasets/{evaluation['dataset']}") if evaluation else []


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


def question_files(config: dict, benchmark: str, setting: str) -> dict[str, dict]:
    """The sections on a benchmark's prompts, and on the baseline's answers, if it has one."""
    section = config["settings"][setting][benchmark]
    return {name: section[name] for name in BENCHMARKS[benchmark].files}


def question_folders(config: dict, benchmark: str, setting: str) -> list[str]:
    """The hub's folders that they name."""
    return [
        folder
        for rows in question_files(config, benchmark, setting).values()
        if "dataset" in rows
        for folder in hub_folder(config, f"datasets/{rows['dataset']}")
    ]


def question_content(config: dict, benchmark: str, setting: str) -> list[str]:
    """Digests of the files of this machine that they name."""
    files = question_files(config, benchmark, setting).values()
    return [digest(rows["path"]) for rows in files if "path" in rows]


def question_flags(config: dict, benchmark: str, setting: str) -> str:
    """What poet.evaluate.questions is told of them: the sections, with the path of each file."""
    found = []
    for name, rows in question_files(config, benchmark, setting).items():
        told = json.dumps({**rows, "path": rows_file(rows)}, sort_keys=True)
        found.append(given(f"--{name}", quote(told)))
    return " ".join(found)


def rows_file(rows: dict) -> str:
    """The file that a section names, here or in a folder of the hub's."""
    return rows.get("path") or f"results/hub/datasets/{rows['dataset']}/{rows['file']}"
