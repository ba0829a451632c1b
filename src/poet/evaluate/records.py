"""The records that the modules of a folder hold, found by looking: a new one is one module."""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules


def records(package: str, path: Iterable[str], constant: str) -> dict:
    """name -> record of the modules of a package, in their names' order; helpers have no record."""
    modules = [import_module(f"{package}.{found.name}") for found in iter_modules(path)]
    found = [getattr(module, constant) for module in modules if hasattr(module, constant)]
    return {record.name: record for record in found}
