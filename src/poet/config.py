"""The configuration: validated once, resolved into one flat record per setting and method.

``load`` is the only place that resolves ``extends``, validates and applies defaults; the Snakefile
and ``python -m poet.config show`` both use it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

from poet import config_extends, config_shortcuts
from poet.config_checks import check_references, known
from poet.config_schema import validate
from poet.files import cli
from poet.hub import lock
from poet.hub.folders import ALPACAEVAL_REFERENCE
from poet.methods.objectives import OBJECTIVES
from poet.methods.truncation import NONE
from poet.methods.weighting import UNIFORM

# What each program needs of the record, so that a change re-runs the rules that it concerns.
_RUN = ("setting", "torch_threads")
_LOADING = ("attn_implementation", "trust_remote_code")
_TEXT = ("length_policy", "chat_template_kwargs")
_CHATS = ("dataset", "revision", "split", "bad_rows", "ignored_columns")  # of the section `sft`
STAGES = {
    "data": ("setting", "data"),
    "chats": ("chats",),
    "sft": (
        *_RUN, "model", "model_revision", *_LOADING, "scratch", "sft", "sft_seed",
        "chat_template_kwargs", "bad_rows",
    ),
    "start": (
        "setting", "model", "model_revision", "trust_remote_code", "chat_template_kwargs",
    ),
    "tokenize": ("setting", *_TEXT, "bad_rows", "max_length", "max_prompt_length"),
    "reference": (
        *_RUN, *_LOADING, "matrix_products", "reference_batch_size", "forward", "token_budget",
        "dtype",
    ),
    "train": (
        *_RUN, "matrix_products", "method", "model", "model_revision", *_LOADING, "dataset",
        "dataset_revision", "objective", "parameters", "weighting", "truncation", "learning_rate",
        "global_batch_size", "per_device_batch_size", "max_length", "max_prompt_length",
        "length_policy", "lr_scheduler_type", "warmup_ratio", "num_train_epochs", "optim",
        "forward", "token_budget", "gradient_checkpointing", "dtype", "lora", "seed",
    ),
    "generate": (*_RUN, "method", *_TEXT, "generation", *_LOADING),
    "annotate": (*_RUN, "method", "reference_name"),
    "reward_model": (*_RUN, "reward_model", "chat_template_kwargs"),
    "downstream": (*_RUN, "method", "downstream", "chat_template_kwargs", *_LOADING),
    "diagnose": ("setting", "data", "scratch", *_TEXT, "max_length", "max_prompt_length"),
    "prefix_quality": (
        *_RUN, *_LOADING, *_TEXT, "analysis", "data", "generation", "sft_seed",
    ),
    "reward_gap": (*_RUN, *_LOADING, "analysis", "reference_batch_size", "dtype"),
}  # fmt: skip


def load(config: dict, source: str = "config") -> dict:
    """Resolve ``extends``, validate against the schema, check cross-references, fill in defaults.

    The command line's shortcuts ``pairs`` (a file) and ``model`` (an id or a folder) replace those
    of the only setting. ``~`` is expanded in paths. The argument itself stays as it is.

    Raises:
        UserError: naming the key, what was found and what was expected.
    """
    # A copy, in which YAML's dates are text as in JSON.
    found = config_extends.resolved(config, source)
    source = config_extends.source_of(config, source)
    config = json.loads(json.dumps(found, default=str))
    config_shortcuts.refuse_no_text(config, source)
    validate(config, source)
    config_shortcuts.apply(config, source)
    for method in config.get("sweep", {}).get("methods", []):
        known(method, config["methods"], "method (in sweep.methods)")
        arm = config["methods"][method]
        for name, factors in sweep_cells(config["sweep"], method).items():
            scale = {key: of * arm.get("scale", {}).get(key, 1) for key, of in factors.items()}
            config["methods"][name] = arm if name == method else {**arm, "scale": scale}
    check_references(config, source)
    return config


def read(path: str | Path, **said) -> dict:
    """Load a YAML configuration file, with what the command line says beside it; see :func:`load`.

    Raises:
        UserError: the file is missing or no YAML mapping.
    """
    return load(config_extends.merged(config_extends.read_mapping(path), said), str(path))


def resolve(config: dict, setting: str, method: str, seed: int | None = None) -> dict:
    """One flat record: everything that decides the result of ``method`` in ``setting``.

    ``seed=None`` stands for the first of the configured seeds.

    Raises:
        UserError: unknown setting or method.
    """
    known(setting, config["settings"], "setting")
    methods = {"sft": {}, **config["methods"]}
    known(method, methods, "method")
    chosen, choice = config["settings"][setting], methods[method]
    preference = dict(chosen["preference"])
    objective = choice.get("objective")
    parameters = dict(preference.get(objective, {}))
    for key, factor in choice.get("scale", {}).items():
        parameters[key] = float(f"{parameters[key] * factor:.6g}")  # 0.3, not 0.30000000000000004
    learning_rate = parameters.pop("learning_rate", None)
    for name in OBJECTIVES:
        preference.pop(name, None)
    data, model, sft = chosen["data"], chosen["model"], chosen.get("sft")
    return {
        "setting": setting,
        "method": method,
        "model": model.get("name", "scratch"),
        "model_revision": _commit(config, model.get("name"), model.get("revision")),
        "attn_implementation": model.get("attn_implementation"),
        "trust_remote_code": model.get("trust_remote_code", False),
        "scratch": model.get("scratch"),
        "dataset": data.get("dataset") or data.get("path") or f"world:{data.get('variant')}",
        "dataset_revision": _commit(config, data.get("dataset"), data.get("revision"), "datasets/"),
        "data": data,
        "bad_rows": data.get("bad_rows", "error"),
        "chat_template_kwargs": chosen["chat_template_kwargs"],
        "objective": objective,
        "parameters": parameters,
        "learning_rate": learning_rate,
        "truncation": choice.get("truncation", NONE),
        "weighting": choice.get("weighting", UNIFORM),
        **preference,
        "seed": config["seeds"][0] if seed is None else seed,
        "sft_seed": config["seeds"][0],
        "chats": sft and {key: sft.get(key) for key in _CHATS},
        "sft": sft,
        "generation": chosen["generation"],
        "reward_model": chosen.get("reward_model"),
        "downstream": chosen.get("downstream"),
        "analysis": chosen.get("analysis"),
        "reference_name": _reference_name(data),
        "torch_threads": config["torch_threads"],
        "matrix_products": config["matrix_products"],
    }


def _commit(config: dict, name: str | None, revision: str | None, kind: str = "") -> str | None:
    """The commit of a hub repository, "unpinned" where nobody has looked it up; None elsewhere."""
    if name is None or (not kind and not lock.is_hub_id(name)):
        return None
    return lock.pinned(config["lock"], kind + name, revision)


def _reference_name(data: dict) -> str:
    """Who wrote the reference answers that a setting's answers are compared with."""
    if "evaluation" in data:
        return ALPACAEVAL_REFERENCE
    return "world_reference" if data["kind"] == "world" else "chosen"


def sweep_cells(sweep: dict, method: str) -> dict[str, dict[str, float]]:
    """The names of a method's variants in a sweep, with their factors; at 1 and 1, the method's."""
    cells = {}
    for beta in sweep["beta"]:
        for rate in sweep["learning_rate"]:
            name = method if beta == rate == 1 else f"{method}-beta-x{beta:g}-lr-x{rate:g}"
            cells[name] = {"beta": beta, "learning_rate": rate}
    return cells


def stage(record: dict, name: str) -> dict:
    """The part of a resolved record that one program reads."""
    return {key: record[key] for key in STAGES[name]}


def stage_of(config: dict, name: str, setting: str, method="sft", seed=None, **others) -> str:
    """What :func:`stage` takes of the record of a rule's wildcards, of which it needs no others.

    JSON, sorted: the order of keys in a configuration re-runs nothing.
    """
    record = resolve(config, setting, method, None if seed is None else int(seed))
    return json.dumps(stage(record, name), sort_keys=True)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description="Validate a configuration and show it as it is resolved, or one of its records."
    )
    parser.add_argument("command", choices=["show"])
    parser.add_argument("--configfile", default="config.yaml")
    config_shortcuts.add_flag(parser)
    parser.add_argument("--setting", help="with --method: their record, as JSON")
    parser.add_argument("--method")
    args = parser.parse_args(argv)
    if (args.setting is None) != (args.method is None):
        parser.error("--setting and --method name a record together")
    config = read(args.configfile, **dict(args.config))
    if args.setting is None:
        print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), end="")
    else:
        print(json.dumps(resolve(config, args.setting, args.method), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    cli(main)
