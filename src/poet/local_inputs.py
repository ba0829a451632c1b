"""Files and folders that a configuration names on this machine: are they there, with what in them?

They are no inputs of Snakemake's, which compares times: a file that an older one replaces is no
change to it, and braces in a path are wildcards. Their rules have the digests of what is in them
as a parameter instead.
"""

from __future__ import annotations

from pathlib import Path

from poet.config_checks import RATES, scorer_of
from poet.data.model_limits import check_class
from poet.digests import digest
from poet.evaluate.judges import check_use, labels, load_judge
from poet.files import UserError, read_json
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
        for rate in RATES:
            for key, rows in setting.get(rate, {}).items():
                if key != "annotator" and "path" in rows:
                    _check_file(rows["path"], f"{where}.{rate}.{key}.path")
        for use, annotator in _annotators(config, name):
            where = f"{source}: annotators.{annotator}"
            _check_annotator(config["annotators"][annotator], use, where)


def _annotators(config: dict, name: str) -> list[tuple[str, str]]:
    """Who judges or scores what in a setting: its annotators, and those of one benchmark each."""
    setting = config["settings"][name]
    found = [("annotators", annotator) for annotator in setting["annotators"]]
    if "analysis" in setting:
        found.append(("annotators", scorer_of(config, name)))
    return found + [(rate, setting[rate]["annotator"]) for rate in RATES if rate in setting]


def _check_annotator(annotator: dict, use: str, where: str) -> None:
    name = annotator.get("name")
    check_model_name(name, f"{where}.name")
    if name and not is_hub_id(name):
        check_judging_model(Path(name), annotator["kind"], f"{where}.name is {name}")
    for file in annotator.get("files", ()):
        _check_file(file, f"{where}.files")
    if "judge" in annotator:
        judge = load_judge(annotator["judge"])
        try:
            check_use(judge, use)
        except UserError as error:
            raise UserError(f"{where}.judge is {annotator['judge']}, for {use}: {error}") from None
        if annotator["kind"] == "local_judge":
            labels(judge)
            (each,) = judge.values()
            if not each["prompt_template"].lstrip().startswith("<|im_start|>"):
                raise UserError(
                    f"{where}.judge is {annotator['judge']}: its prompt template is no ChatML; "
                    "expected chat messages, <|im_start|>user ... <|im_end|>"
                )


def check_judging_model(folder: Path, kind: str, where: str) -> None:
    """Refuse before the trainings what a judge is refused for once it is loaded, after them.

    Raises:
        UserError: ``where``, and that the folder's files have no chat template, or are those of a
            classifier with several outputs in the place of a reward model.
    """
    if not _has_template(folder):
        raise UserError(f"{where}: its tokenizer has no chat template; a judge needs one")
    config = read_json(folder / "config.json")
    if kind != "reward_model":
        check_class(config, folder, where)
    else:
        made_for = config.get("architectures") or ["ForSequenceClassification"]
        if not any("ForSequenceClassification" in each for each in made_for):
            raise UserError(
                f"{where}, whose config.json names {', '.join(made_for)}; expected a sequence "
                "classifier, because the head of another kind of model would not be read"
            )
        outputs = len(config.get("id2label") or ()) or config.get("num_labels", 2)
        if outputs != 1:
            raise UserError(f"{where}, with {outputs} outputs; expected a reward model with one")


def _has_template(folder: Path) -> bool:
    patterns, settings = ("chat_template.*", "additional_chat_templates/*"), {}
    if (folder / "tokenizer_config.json").is_file():
        settings = read_json(folder / "tokenizer_config.json")
    return any(any(folder.glob(each)) for each in patterns) or bool(settings.get("chat_template"))


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
