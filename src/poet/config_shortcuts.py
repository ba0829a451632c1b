"""The command line's shortcuts: ``pairs`` and ``model`` in the place of the only setting's."""

from __future__ import annotations

import argparse
from contextlib import suppress
from functools import partial

import yaml

from poet.files import UserError

SHORTCUTS = {"pairs": "a file of preference pairs", "model": "a folder or a hub id"}

WORDS = {"": None, "True": True, "False": False}  # of the command line, as Snakemake reads them


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--config KEY=VALUE ...``, as on Snakemake's command line, to a program's flags."""
    said = "keys of the configuration, or `pairs` and `model`, as Snakemake reads them"
    pair = {"type": _key_and_value, "metavar": "KEY=VALUE"}
    parser.add_argument("--config", nargs="*", default=[], help=said, **pair)


def _key_and_value(text: str) -> tuple[str, object]:
    name, given, value = text.partition("=")
    if not given:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found {text!r}")
    for parse in (int, float, WORDS.__getitem__, partial(yaml.load, Loader=yaml.BaseLoader)):
        with suppress(ValueError, KeyError, yaml.YAMLError):
            return name, parse(value)
    return name, value


def refuse_no_text(config: dict, source: str) -> None:
    """Refuse a shortcut without a value, which would be taken for one that is not given.

    Raises:
        UserError: naming it; or one that Snakemake, which reads YAML, takes for another value.
    """
    for name in SHORTCUTS:
        value = config.get(name, "")
        if value not in (None, "") and not isinstance(value, str):
            raise UserError(
                f"{source}: `{name}=` is read as YAML, and so as {value!r}; expected "
                f"{SHORTCUTS[name]}. Write its folder before it (`{name}=./...`), or rename it."
            )
        if name in config and not str(value or "").strip():
            raise UserError(
                f"{source}: `{name}=` is empty; expected {SHORTCUTS[name]}. Is a variable unset, "
                f"as in `{name}=$UNSET`? To do without, leave `{name}=` out."
            )


def apply(config: dict, source: str) -> None:
    """Take the shortcuts out of a valid configuration, and put what they say into its setting.

    Raises:
        UserError: there are several settings, or what it says of its own does not fit.
    """
    pairs, model = config.pop("pairs", None), config.pop("model", None)
    if pairs is None and model is None:
        return
    if len(config["settings"]) != 1:
        raise UserError(
            f"{source}: `pairs` and `model` on the command line need a configuration with one "
            f"setting, found {len(config['settings'])}: {', '.join(config['settings'])}"
        )
    name, setting = next(iter(config["settings"].items()))
    if pairs is not None:
        if setting["data"]["kind"] != "file":
            raise UserError(
                f"{source}: `pairs` on the command line needs a setting with data of kind file, "
                f"found kind {setting['data']['kind']}; add `--configfile config/own-data.yaml`"
            )
        setting["data"]["path"] = pairs
    if model is not None:
        if "scratch" in setting["model"]:
            raise UserError(
                f"{source}: settings.{name} is for a model from scratch, whose learning rates "
                f"would destroy {model}. For a given model take `CONFIG=config/own-model.yaml`, "
                "or with a GPU config/own-model-gpu.yaml, with the same --config."
            )
        setting["model"] = {"name": model}
