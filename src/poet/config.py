"""The configuration: validated once, resolved into one flat record per setting and method.

``load`` is the only place that resolves ``extends``, validates and applies defaults; the Snakefile
and ``python -m poet.config show`` both use it.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
from functools import cache
from pathlib import Path

import yaml

from poet import config_extends, config_shortcuts
from poet.config_checks import check_references, known
from poet.files import UserError, cli
from poet.hub import lock
from poet.hub.folders import ALPACAEVAL_REFERENCE

SCHEMA = Path(__file__).parents[2] / "config" / "config.schema.yaml"

OBJECTIVES = ("dpo", "simpo", "ipo", "ln_dpo", "rpo")  # each with its section under `preference`

# What each program needs of the record, so that a change re-runs the rules that it concerns.
_RUN = ("setting", "torch_threads")
_LOADING = ("attn_implementation", "trust_remote_code")
_TEXT = ("length_policy", "chat_template_kwargs")
_PARAMETERS = ("beta", "gamma_beta_ratio", "rpo_alpha")
STAGES = {
    "data": ("setting", "data"),
    "chats": ("chats",),
    "sft": (
        *_RUN, "model", "model_revision", *_LOADING, "scratch", "sft", "sft_seed",
        "chat_template_kwargs", "bad_rows",
    ),
    "tokenize": ("setting", *_TEXT, "bad_rows", "max_length", "max_prompt_length"),
    "reference": (
        *_RUN, *_LOADING, "matrix_products", "reference_batch_size", "forward", "token_budget",
        "dtype",
    ),
    "train": (
        *_RUN, "matrix_products", "method", "model", "model_revision", *_LOADING, "dataset",
        "dataset_revision", "objective", "weighting", "truncation", *_PARAMETERS, "learning_rate",
        "global_batch_size", "per_device_batch_size", "max_length", "max_prompt_length",
        "length_policy", "lr_scheduler_type", "warmup_ratio", "num_train_epochs", "optim",
        "forward", "token_budget", "gradient_checkpointing", "dtype", "lora", "seed",
    ),
    "generate": (*_RUN, "method", *_TEXT, "generation", *_LOADING),
    "annotate": (*_RUN, "method", "reference_name"),
    "reward_model": (*_RUN, "reward_model", "chat_template_kwargs"),
    "downstream": (*_RUN, "method", "downstream", *_LOADING),
    "diagnose": ("setting", "data", "scratch", *_TEXT, "max_length", "max_prompt_length"),
    "prefix_quality": (
        *_RUN, *_LOADING, *_TEXT, "analysis", "data", "generation", "sft_seed",
    ),
    "reward_gap": (*_RUN, *_LOADING, "analysis", "reference_batch_size", "dtype"),
}  # fmt: skip


def load(config: dict, source: str = "config") -> dict:
    """Resolve ``extends``, validate against the schema, check cross-references, fill in defaults.

    The command line's shortcuts ``pairs`` (a file) and ``model`` (an id or a folder) replace those
    of the only setting; with ``model``, what its ``given_model`` says takes the place of what fits
    a model from scratch. ``~`` is expanded in paths. The argument itself stays as it is.

    Raises:
        UserError: naming the key, what was found and what was expected.
    """
    # A copy, in which YAML's dates are text as in JSON.
    found = config_extends.resolved(config, source)
    source = config_extends.source_of(config, source)
    config = json.loads(json.dumps(found, default=str))
    config_shortcuts.refuse_no_text(config, source)
    _validate(config, source)
    config_shortcuts.apply(config, source)
    for method in config.get("sweep", {}).get("methods", []):
        known(method, config["methods"], "method (in sweep.methods)")
        for name, scale in sweep_cells(config["sweep"], method).items():
            if name != method:
                config["methods"][name] = {**config["methods"][method], "scale": scale}
    check_references(config, source)
    return config


def read(path: str | Path, **shortcuts: str) -> dict:
    """Load a YAML configuration file, with the command line's shortcuts; see :func:`load`.

    Raises:
        UserError: the file is missing or no YAML mapping.
    """
    config = config_extends.read_mapping(path)
    return load({**config, **shortcuts}, str(path))


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
    per_objective = {name: preference.pop(name, {}) for name in OBJECTIVES}
    objective = choice.get("objective")
    for key, factor in choice.get("scale", {}).items():
        values = per_objective[objective] = dict(per_objective[objective])
        values[key] = float(f"{values[key] * factor:.6g}")  # 0.3, not 0.30000000000000004
    data, model = chosen["data"], chosen["model"]
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
        "truncation": choice.get("truncation", {"strategy": "none", "keep": 1.0}),
        "weighting": choice.get("weighting", "uniform"),
        **dict.fromkeys((*_PARAMETERS, "learning_rate")),
        **preference,
        **per_objective.get(objective, {}),
        "seed": config["seeds"][0] if seed is None else seed,
        "sft_seed": config["seeds"][0],
        "chats": _chats(chosen.get("sft")),
        "sft": chosen.get("sft"),
        "generation": chosen["generation"],
        "reward_model": chosen.get("reward_model"),
        "downstream": chosen.get("downstream"),
        "analysis": chosen.get("analysis"),
        "reference_name": _reference_name(data),
        "torch_threads": config["torch_threads"],
        "matrix_products": config["matrix_products"],
    }


def _chats(sft: dict | None) -> dict | None:
    """What of the section ``sft`` says which chats are read."""
    keys = ("dataset", "revision", "split", "bad_rows", "ignored_columns")
    return sft and {key: sft.get(key) for key in keys}


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


def truncation_name(truncation: dict) -> str:
    """The file name of a truncation: ``none``, ``poet-100``, ``own-25``, ..."""
    if truncation["strategy"] == "none":
        return "none"
    return f"{truncation['strategy']}-{round(truncation['keep'] * 100)}"


@cache
def _validator():
    from jsonschema import Draft202012Validator, validators

    # jsonschema leaves `default` to its callers; its documentation's own recipe fills them in.
    def fill_defaults(validator, properties, instance, schema):
        if isinstance(instance, dict):
            for key, sub in properties.items():
                if isinstance(sub, dict) and "default" in sub:
                    instance.setdefault(key, copy.deepcopy(sub["default"]))
                if isinstance(sub, dict) and sub.get("format") == "path" and key in instance:
                    instance[key] = _expand_home(instance[key])
        yield from Draft202012Validator.VALIDATORS["properties"](
            validator, properties, instance, schema
        )

    schema = yaml.safe_load(SCHEMA.read_text())
    return validators.extend(Draft202012Validator, {"properties": fill_defaults})(schema)


def _expand_home(path):
    """``~`` in a path, or in each of a list; what is no text is left to the schema."""
    if isinstance(path, list):
        return [_expand_home(each) for each in path]
    return os.path.expanduser(path) if isinstance(path, str) else path


def _validate(config: dict, source: str) -> None:
    errors = sorted(_validator().iter_errors(config), key=lambda error: list(map(str, error.path)))
    if errors:
        lines = [f"  {_place(error)}: {_message(error)}" for error in errors[:8]]
        more = [f"  ... and {len(errors) - 8} more"] if len(errors) > 8 else []
        raise UserError(
            "\n".join([f"{source} is not valid:", *lines, *more, "See config/config.schema.yaml."])
        )


def _place(error) -> str:
    return ".".join(map(str, error.absolute_path)) or "top level"


def _message(error) -> str:
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        found = sorted(set(error.instance) - set(known))
        return f"unknown key {', '.join(found)}; known keys: {', '.join(known)}"
    if error.validator == "oneOf":
        choices = [key for choice in error.validator_value for key in choice["required"]]
        return f"expected exactly one of the keys {', '.join(choices)}"
    if error.validator == "pattern" and "secret" in error.schema.get("description", ""):
        return f"expected {error.schema['description']}"  # what stands there may be one
    if error.validator == "type" and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", str(error.instance)):
        return f"{error.message}; YAML takes it for text without a point, so write 2.0e-4 for 2e-4"
    return error.message if len(error.message) < 300 else error.message[:300] + " ..."


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
