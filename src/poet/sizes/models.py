"""The shape and the parameters of a model by its name, before or after it is downloaded."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import yaml

from poet.files import read_json
from poet.hub import lock
from poet.sizes.architecture import SHAPES, Architecture


def folders_of(name: str) -> list[Path]:
    """Where a model's files may be: the folder of that name, and where the hub's are kept."""
    return [Path(name), Path("results/hub", name)]


def shape_of(name: str, lock_file: str | Path) -> Architecture | None:
    """A model's shape: by its folder, by the lock, or as paper/models.yaml has it; else None."""
    written = [file for f in folders_of(name) if (file := f / "config.json").is_file()]
    known = read_json(written[0]) if written else lock.read(lock_file).get(name, {}).get("shape")
    known = known or _listed().get(name)
    return Architecture.found(known) if known else None


@cache
def _listed() -> dict[str, dict]:
    return yaml.safe_load(SHAPES.read_text())


def parameters_of(name: str, lock_file: str | Path) -> float:
    """At least so many parameters a model has: its files', its shape's, or by the lock's sizes."""
    for folder in folders_of(name):
        if files := list(folder.glob("*.safetensors")):
            return sum(map(_stored, files))
    if shape := shape_of(name, lock_file):
        return shape.parameters
    files = lock.read(lock_file).get(name, {"files": {}})["files"]
    return sum(f["size"] for path, f in files.items() if path.endswith(".safetensors")) / 4


def _stored(path: Path) -> int:
    """Numbers in a safetensors file, by its header."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(of["shape"]) for name, of in header.items() if name != "__metadata__")
