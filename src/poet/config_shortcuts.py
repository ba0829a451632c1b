"""The command line's shortcuts: ``pairs`` and ``model`` in the place of the only setting's."""

from __future__ import annotations

import argparse
from contextlib import suppress
from functools import partial

import yaml

from poet.files import UserError

SHORTCUTS = {"pairs": "a file of preference pairs", "model": "a folder or a hub id"}

WORDS = {"": None, "True": True, "False": False}  # of the command line, as Snakemake reads them

TRAINED = ("sft", "preference", "reward_model")  # sections with a learning rate


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
        _give_model(setting, model, f"{source}: settings.{name}")


def _give_model(setting: dict, model: str, where: str) -> None:
    """Put a model in the place of a setting's own, with what ``given_model`` says of it."""
    instead = setting.pop("given_model", {})
    unsaid = [name for name in TRAINED if name in setting and name not in instead]
    if "scratch" in setting["model"] and unsaid:
        raise UserError(
            f"{where} is for a model from scratch, whose learning rates would destroy {model}. "
            "Give the setting a section `given_model` with `sft: null` (the model is taken as it "
            "is) or `sft` (it is fine-tuned), `preference` and `reward_model` for a pretrained "
            f"model, as in config/own-data.yaml; found none of {', '.join(unsaid)}."
        )
    setting["model"] = {"name": model}
    for section, value in instead.items():
        if value is None:
            setting.pop(section, None)
        else:
            setting[section] = value
