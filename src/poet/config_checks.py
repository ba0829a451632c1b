"""Cross-references of a configuration, beyond what its JSON schema can say."""

from __future__ import annotations

from poet.files import UserError
from poet.world.tasks import WORLD_TASKS

SCALAR = ("oracle", "reward_model")  # annotators that give every answer a reward
RATES = {"safety": ("api", "local_judge"), "arena": ("api",)}  # and the annotators that judge them


def check_references(config: dict, source: str) -> None:
    """Check that every name in a schema-valid configuration exists and that sizes divide.

    Raises:
        UserError: naming the key, what was found and what was expected.
    """
    for name, setting in config["settings"].items():
        where = f"{source}: settings.{name}"
        if setting["data"]["kind"] == "file" and "path" not in setting["data"]:
            raise UserError(
                f"{where}.data names no file; give one with `--config pairs=FILE` or the key `path`"
            )
        if setting["model"].get("trust_remote_code") and setting["model"]["revision"] == "unpinned":
            raise UserError(
                f"{where}.model: trust_remote_code needs a full commit hash as revision, found "
                "unpinned; code that may change is not run"
            )
        if "scratch" in setting["model"]:
            _check_scratch(setting, where)
        elif "given_model" in setting:
            raise UserError(
                f"{where} has a model.name and a section given_model, which is for the command "
                "line's `--config model=...` in place of a model from scratch. Write what it says "
                "into the setting's own sections, and delete given_model."
            )
        for section in ("sft", "preference", "reward_model"):
            _check_batch(setting.get(section), f"{where}.{section}")
        preference = setting["preference"]
        if preference["max_prompt_length"] >= preference["max_length"]:
            raise UserError(
                f"{where}.preference.max_prompt_length is {preference['max_prompt_length']}, "
                f"expected less than max_length ({preference['max_length']})"
            )
        for annotator in setting["annotators"]:
            known(annotator, config["annotators"], f"annotator (settings.{name}.annotators)")
            _check_annotator(config["annotators"][annotator], setting, f"{where}: {annotator}")
        if "analysis" in setting:
            _check_annotator(
                config["annotators"][scorer_of(config, name, source)], setting, f"{where}.analysis"
            )
        for rate in RATES:
            _check_rate(rate, setting, config["annotators"], where)
        downstream = setting.get("downstream", {})
        for task in downstream.get("tasks", ()) if setting["data"]["kind"] == "world" else ():
            known(task, ("world", *WORLD_TASKS), f"task (settings.{name}.downstream.tasks)")
        for task in downstream.get("num_fewshot", {}):
            known(task, downstream["tasks"], f"task (settings.{name}.downstream.num_fewshot)")
    methods = {"sft", *config["methods"]}
    for name, listed in config["grid"].items():
        known(name, config["settings"], "setting (in grid)")
        for method in listed:
            known(method, methods, f"method (in grid.{name})")
            objective = config["methods"].get(method, {}).get("objective")
            if objective and objective not in config["settings"][name]["preference"]:
                raise UserError(
                    f"{source}: grid.{name} has method {method}, but "
                    f"settings.{name}.preference has no section `{objective}`"
                )
    for table, listed in config["tables"].items():
        for method in listed:
            known(method, methods, f"method (in tables.{table})")
    for name in config.get("sweep", {}).get("settings", []):
        known(name, config["grid"], "setting (in sweep.settings; it needs a grid)")
        if config["settings"][name]["data"]["kind"] != "world":
            raise UserError(
                f"{source}: sweep.settings has {name}, but the sweep chooses by true rewards, "
                "which only data of kind world have"
            )
    for method, baseline in config["gains"].items():
        known(method, methods, "method (in gains)")
        known(baseline, methods, f"method (in gains.{method})")


def _check_scratch(setting: dict, where: str) -> None:
    if "sft" not in setting:
        raise UserError(f"{where}: a model from scratch needs a section `sft`")
    scratch = setting["model"]["scratch"]
    if scratch["hidden_size"] % (2 * scratch["num_attention_heads"]):  # rotary embedding: pairs
        raise UserError(
            f"{where}.model.scratch.hidden_size is {scratch['hidden_size']}, expected a multiple "
            f"of twice num_attention_heads ({scratch['num_attention_heads']})"
        )


def _check_batch(section: dict | None, where: str) -> None:
    if section and section["global_batch_size"] % section["per_device_batch_size"]:
        raise UserError(
            f"{where}.global_batch_size is {section['global_batch_size']}, which "
            f"per_device_batch_size ({section['per_device_batch_size']}) does not divide"
        )


def _check_annotator(annotator: dict, setting: dict, where: str) -> None:
    if annotator["kind"] == "oracle" and setting["data"]["kind"] != "world":
        raise UserError(f"{where}: the oracle knows the embedded world only; use a reward_model")
    if annotator["kind"] == "reward_model" and "name" not in annotator:
        if "reward_model" not in setting:
            raise UserError(
                f"{where}: needs a `name` (hub id or folder), or a section `reward_model` in the "
                "setting to train one on its pairs"
            )


def scorer_of(config: dict, setting: str, source: str = "config") -> str:
    """Name of the annotator that gives an analysis its rewards: an oracle or a reward model.

    Raises:
        UserError: ``analysis.annotator`` is none, or no annotator of the setting is.
    """
    section = config["settings"][setting]
    wanted = section["analysis"].get("annotator")
    if wanted is not None:
        known(wanted, config["annotators"], f"annotator (settings.{setting}.analysis.annotator)")
    names = section["annotators"] if wanted is None else [wanted]
    for name in names:
        if config["annotators"][name]["kind"] in SCALAR:
            return name
    raise UserError(
        f"{source}: settings.{setting}.analysis needs an annotator of kind {' or '.join(SCALAR)}, "
        f"found {', '.join(names)}; name one in analysis.annotator"
    )


def _check_rate(rate: str, setting: dict, annotators: dict, where: str) -> None:
    section = setting.get(rate)
    if not section:
        return
    known(section["annotator"], annotators, f"annotator ({where}.{rate})")
    annotator = annotators[section["annotator"]]
    if annotator["kind"] not in RATES[rate]:
        raise UserError(
            f"{where}.{rate}: annotator {section['annotator']} is of kind {annotator['kind']}; "
            f"expected {' or '.join(RATES[rate])}"
        )
    _check_annotator(annotator, setting, f"{where}.{rate}: {section['annotator']}")
    for name in ("prompts", "baseline"):
        rows = section.get(name, {})
        if rate == "arena" and "id" not in rows:
            raise UserError(f"{where}.arena.{name} needs the key `id`, to join them by")


def known(name: str, names, what: str) -> None:
    """Raise a UserError unless ``name`` is among ``names``; ``what`` says what it names."""
    if name not in names:
        raise UserError(f"unknown {what} `{name}`; known: {', '.join(sorted(names))}")
