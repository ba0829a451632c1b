"""The records that the modules of a folder hold, found by looking, and words of their schemas."""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules

TEXT = {"type": "string", "minLength": 1}
PATH = {**TEXT, "format": "path"}
FLAG = {"type": "boolean", "default": False}
COUNT = {"$ref": "#/$defs/count"}
REVISION = {"$ref": "#/$defs/revision"}


def closed(**properties: dict) -> dict:
    """JSON schema of an object with just these keys, all of them required."""
    of_keys = {"required": [*properties], "properties": properties}
    return {"type": "object", "additionalProperties": False, **of_keys}


def records(package: str, path: Iterable[str], constant: str) -> dict:
    """name -> record of the modules of a package, in their names' order; helpers have no record."""
    modules = [import_module(f"{package}.{found.name}") for found in iter_modules(path)]
    found = [getattr(module, constant) for module in modules if hasattr(module, constant)]
    return {record.name: record for record in found}
