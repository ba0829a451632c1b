"""Files and folders that a configuration names on this machine: are they there, with what in them?

They are no inputs of Snakemake's, which compares times: a file that an older one replaces is no
change to it, and braces in a path are wildcards. Their rules have the digests of what is in them
as a parameter instead.
"""

from __future__ import annotations

from pathlib import Path

from poet.config_checks import scorer_of
from poet.digests import digest
from poet.evaluate.annotate import check_judge
from poet.evaluate.annotators import KINDS
from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.judges import load_judge
from poet.files import UserError
from poet.hub.folders import check_model
from poet.hub.lock import is_hub_id
from poet.provenance import value_digest


def check(config: dict, source: str) -> None:
    """Look for all that the settings of the grid and their annotators name here.

    Raises:
        UserError: naming the key and the absolute path of what is not there, or is something else.
    """
    for name in config["grid"]:
        setting, where = config["settings"][name], f"{source}: settings.{name}"
        check_model_name(setting["model"].get("name"), f"{where}.model.name")
        if setting["data"]["kind"] == "file":
            _check_file(setting["data"]["path"], f"{where}.data.path")
        chats = setting.get("sft", {}).get("dataset")
        if chats and not is_hub_id(chats):
            _check_file(chats, f"{where}.sft.dataset")
        for benchmark in BENCHMARKS.values():
            for key in benchmark.files if benchmark.name in setting else ():
                if "path" in (rows := setting[benchmark.name][key]):
                    _check_file(rows["path"], f"{where}.{benchmark.name}.{key}.path")
        for use, annotator in _annotators(config, name):
            where = f"{source}: annotators.{annotator}"
            _check_annotator(config["annotators"][annotator], use, where)


def _annotators(config: dict, name: str) -> list[tuple[str, str]]:
    """Who judges or scores what in a setting: its annotators, and those of one benchmark each."""
    setting = config["settings"][name]
    found = [("annotators", annotator) for annotator in setting["annotators"]]
    if "analysis" in setting:
        found.append(("annotators", scorer_of(config, name)))
    used = [benchmark for benchmark in BENCHMARKS.values() if benchmark.name in setting]
    return found + [
        (each.name, setting[each.name]["annotator"]) for each in used if each.annotators
    ]


def _check_annotator(annotator: dict, use: str, where: str) -> None:
    check_model_name(annotator.get("name"), f"{where}.name")
    for file in annotator.get("files", ()):
        _check_file(file, f"{where}.files")
    configs = None
    if "judge" in annotator:
        configs = load_judge(annotator["judge"])
        check_use = check_judge if use == "annotators" else BENCHMARKS[use].check
        try:
            check_use(configs)
        except UserError as error:
            raise UserError(f"{where}.judge is {annotator['judge']}, for {use}: {error}") from None
    if check := KINDS[annotator["kind"]].check:
        check(annotator, configs, where)


def _check_file(path: str, where: str) -> None:
    if problem := _problem(path, "no such file"):
        raise UserError(f"{where} is {path}: {problem} ({Path(path).absolute()})")


def _problem(path: str | Path, absent: str) -> str | None:
    """Why nothing is found under a path; None if something is."""
    try:
        return None if Path(path).exists() else absent
    except OSError as error:
        return error.strerror


def check_model_name(name: str | None, where: str) -> None:
    """Check a model's name: of the hub (which the lock knows), or a folder with a model in it.

    Raises:
        UserError: neither.
    """
    if name is None or is_hub_id(name):
        return
    folder = Path(name)
    if problem := _problem(folder, "no such folder"):
        raise UserError(
            f"{where} is {name}: {problem} ({folder.absolute()}), and no hub id, which would be "
            "owner/name"
        )
    if not folder.is_dir():
        raise UserError(f"{where} is {name}: found a file, expected a model's folder")
    check_model(folder, f"{folder.absolute()} ({where})")


def content_of_model(name: str | None) -> list[str]:
    """Digests of a model's folder; none of one from the hub or from scratch."""
    return [digest(name)] if name and not is_hub_id(name) else []


def content_of_annotator(annotator: dict) -> list[str]:
    """Digests of a section ``annotators.NAME``: its model's folder, files, judge and templates."""
    found = content_of_model(annotator.get("name"))
    found += [digest(file) for file in annotator.get("files", ())]
    if "judge" in annotator:
        found.append(value_digest(load_judge(annotator["judge"])))
    return found
