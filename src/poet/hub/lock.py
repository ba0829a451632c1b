"""What the hub has to deliver: each repository's commit, and size and sha256 of each file.

The lock file is YAML. Its keys name repositories as the hub's addresses do: ``owner/name`` is a
model, ``datasets/owner/name`` a data set. Only `make lock` (:mod:`poet.plan.lock`) writes it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import yaml

from poet.files import UserError, write_text

UNPINNED = "unpinned"
HEADER = """\
# What the hub has to deliver. Written by `make lock CONFIG=FILE`; everything else only reads it.
# To take a repository's newest commit, delete its entry and run `make lock` again.
"""
# Weights as safetensors; configuration, tokenizer and chat template as text. No pickles, no code.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
# Of a model's config.json: what says how large it is (poet.sizes.architecture).
SHAPE = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "tie_word_embeddings",
    "n_embd", "n_inner", "n_layer", "n_head",
)  # fmt: skip
DATA_FILES = ("*.parquet", "*.json", "*.jsonl", "*.jsonl.gz", "*.csv", "*.md")


def is_hub_id(name: str) -> bool:
    """Does a model's name mean a hub repository (``owner/name``) rather than a local folder?"""
    return bool(re.fullmatch(r"\w[\w.-]*/[\w.-]+", name)) and not Path(name).exists()


def pinned(lock: str | Path, name: str, revision: str | None) -> str:
    """The commit of a repository: the one asked for, or where that is unpinned, the lock's."""
    if revision in (None, UNPINNED):
        return read(lock).get(name, {}).get("revision", UNPINNED)
    return revision


def entry(lock: str | Path, name: str) -> dict:
    """``{"revision": commit, "files": {path: {"size": bytes, "sha256": hex}}}`` of a repository.

    Raises:
        UserError: the lock has no such entry; it says what to do.
    """
    entries = read(lock)
    if name not in entries:
        raise UserError(
            f"{name} is not in the lock file {lock}, which says what the hub has to deliver.\n"
            "Run `make lock CONFIG=FILE` once, with access to the hub and the configuration that "
            "names it (with ARGS='--config model=...' where the command line does)."
        )
    return entries[name]


def read(lock: str | Path) -> dict:
    """The entries of a lock file; none where there is no file yet.

    Raises:
        UserError: the file is not what `make lock` writes.
    """
    path = Path(lock)
    return _parse(path, path.stat().st_mtime_ns) if path.exists() else {}


@lru_cache(maxsize=4)
def _parse(path: Path, changed: int) -> dict:
    try:
        entries = yaml.safe_load(path.read_text()) or {}
        sound = all(
            re.fullmatch("[0-9a-f]{40}", found["revision"])
            and all(re.fullmatch("[0-9a-f]{64}", f["sha256"]) for f in found["files"].values())
            and all(isinstance(f["size"], int) for f in found["files"].values())
            for found in entries.values()
        )
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise UserError(
            f"{path} is not a lock file as `make lock` writes it; restore it, or delete it and run "
            "`make lock` again"
        )
    return entries


def write(entries: dict, lock: str | Path) -> None:
    """Write a lock file's entries."""
    write_text(HEADER + yaml.safe_dump(entries), lock)
