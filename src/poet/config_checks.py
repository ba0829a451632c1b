"""Cross-references of a configuration, beyond what its JSON schema can say."""

from __future__ import annotations

from poet.evaluate.annotators import KINDS
from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.benchmarks.record import Benchmark
from poet.files import UserError
from poet.world.tasks import WORLD_TASKS


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
        found = setting["model"].keys() & {"scratch", "name"}
        if len(found) != 1:
            raise UserError(
                f"{where}.model: expected exactly one of the keys scratch, name, or "
                f"`--config model=FOLDER_OR_ID`; found {' and '.join(sorted(found)) or 'none'}"
            )
        if "scratch" in found:
            _check_scratch(setting, where)
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
        for benchmark in BENCHMARKS.values():
            if benchmark.name in setting:
                of = f"{where}.{benchmark.name}"
                _check_benchmark(benchmark, setting, config["annotators"], of)
        downstream = setting.get("downstream", {})
        for task in downstream.get("tasks", ()) if setting["data"]["kind"] == "world" else ():
            known(task, ("world", *WORLD_TASKS), f"task (settings.{name}.downstream.tasks)")
        for task in downstream.get("num_fewshot", {}):
            known(task, downstream["tasks"], f"task (settings.{name}.downstream.num_fewshot)")
        chats = downstream.get("apply_chat_template")
        for task in chats if isinstance(chats, list) else ():
            key = f"settings.{name}.downstream.apply_chat_template"
            known(task, downstream["tasks"], f"task ({key})")
    methods = {"sft", *config["methods"]}
    for name, listed in config["grid"].items():
        known(name, config["settings"], "setting (in grid)")
        _check_methods(config, listed, name, f"grid.{name}", source)
    for table, listed in config["tables"].items():
        for method in listed:
            known(method, methods, f"method (in tables.{table})")
    for name in config.get("sweep", {}).get("settings", []):
        known(name, config["grid"], "setting (in sweep.settings; it needs a grid)")
        _check_methods(config, config["sweep"]["methods"], name, "sweep.methods", source)
        if config["settings"][name]["data"]["kind"] != "world":
            raise UserError(
                f"{source}: sweep.settings has {name}, but the sweep chooses by true rewards, "
                "which only data of kind world have"
            )
    for method, baseline in config["gains"].items():
        known(method, methods, "method (in gains)")
        known(baseline, methods, f"method (in gains.{method})")


def _check_methods(config: dict, listed: list[str], setting: str, where: str, source: str) -> None:
    for method in listed:
        known(method, {"sft", *config["methods"]}, f"method (in {where})")
        objective = config["methods"].get(method, {}).get("objective")
        if objective and objective not in config["settings"][setting]["preference"]:
            raise UserError(
                f"{source}: {where} has method {method}, but "
                f"settings.{setting}.preference has no section `{objective}`"
            )


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
    at_once = section and section["per_device_batch_size"]
    if section and at_once != "auto" and section["global_batch_size"] % at_once:
        raise UserError(
            f"{where}.global_batch_size is {section['global_batch_size']}, which "
            f"per_device_batch_size ({at_once}) does not divide"
        )


def _check_annotator(annotator: dict, setting: dict, where: str) -> None:
    unfit = KINDS[annotator["kind"]].unfit
    if unfit and (reason := unfit(annotator, setting)):
        raise UserError(f"{where}: {reason}")


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
        if KINDS[config["annotators"][name]["kind"]].scalar:
            return name
    kinds = " or ".join(kind.name for kind in KINDS.values() if kind.scalar)
    raise UserError(
        f"{source}: settings.{setting}.analysis needs an annotator of kind {kinds}, "
        f"found {', '.join(names)}; name one in analysis.annotator"
    )


def _check_benchmark(benchmark: Benchmark, setting: dict, annotators: dict, where: str) -> None:
    section = setting[benchmark.name]
    if benchmark.annotators:
        name = section["annotator"]
        known(name, annotators, f"annotator ({where})")
        kind = annotators[name]["kind"]
        if kind not in benchmark.annotators:
            raise UserError(
                f"{where}: annotator {name} is of kind {kind}; "
                f"expected {' or '.join(benchmark.annotators)}"
            )
        _check_annotator(annotators[name], setting, f"{where}: {name}")
    for key in benchmark.files:
        if benchmark.baseline and "id" not in section[key]:
            raise UserError(f"{where}.{key} needs the key `id`, to join them by")


def known(name: str, names, what: str) -> None:
    """Raise a UserError unless ``name`` is among ``names``; ``what`` says what it names."""
    if name not in names:
        raise UserError(f"unknown {what} `{name}`; known: {', '.join(sorted(names))}")
