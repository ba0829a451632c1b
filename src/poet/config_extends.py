"""``extends``: a configuration, or a setting of it, that holds only what differs from another."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml

from poet.config_checks import known
from poet.files import UserError


def read_mapping(path: str | Path, said: str | None = None) -> dict:
    """The mapping of keys in a YAML file, which an error calls what is ``said``.

    Raises:
        UserError: the file is missing or no YAML mapping.
    """
    said = said or str(path)
    try:
        found = yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{said}: {error.strerror}; expected a configuration file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{said} is not valid YAML: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{said} holds a {type(found).__name__}, expected a mapping of keys")
    return found


def source_of(config: dict, source: str) -> str:
    """What errors call a configuration: its file, and the one that it extends."""
    return f"{source} (extends {config['extends']})" if "extends" in config else source


def resolved(config: dict, source: str) -> dict:
    """A configuration with all that it and its settings take over from what they extend.

    A configuration extends a file, whose path is relative to the working directory as that of every
    file in a configuration; a setting extends another one of the result.

    Raises:
        UserError: what is extended is missing, no mapping, or extends something itself.
    """
    config = _extended(config, source, partial(_file, source))
    settings = config.get("settings")
    if not isinstance(settings, dict):
        return config  # the schema refuses it
    found = {}
    for name, setting in settings.items():
        where = f"{source}: settings.{name}"
        found[name] = _extended(setting, where, partial(_setting, settings, where))
    return {**config, "settings": found}


def _file(source: str, name: str) -> dict:
    path = Path(os.path.expanduser(name)).absolute()
    return read_mapping(path, f"{name} ({path}; {source} extends it)")


def _setting(settings: dict, where: str, name: str) -> dict:
    known(name, settings, f"setting (in {where}.extends)")
    return settings[name]


def _extended(section: dict, source: str, base_of: Callable[[str], dict]) -> dict:
    """A section with what its base has beside it; the schema refuses what is no mapping."""
    if not isinstance(section, dict) or "extends" not in section:
        return section
    name = section["extends"]
    if not isinstance(name, str):
        raise UserError(f"{source}: extends is {name!r}, expected one name")
    base = base_of(name)
    if not isinstance(base, dict) or "extends" in base:
        found = f"extends {base['extends']}" if isinstance(base, dict) else f"is {base!r}"
        raise UserError(
            f"{source} extends {name}, which {found}; expected a mapping that extends nothing. "
            "Name one, and write here all that differs from it."
        )
    return merged(base, {key: value for key, value in section.items() if key != "extends"})


def merged(base: dict, change: dict) -> dict:
    """``base`` with ``change`` in it: mappings key by key, anything else in place of what was.

    A null takes out what the base has. Where it has nothing, or null, it is a value like others.
    """
    found = dict(base)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            found[key] = merged(base[key], value)
        elif value is None and base.get(key) is not None:
            del found[key]
        else:
            found[key] = value
    return found
