"""A language model behind a server that speaks OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poet.evaluate.annotators.kind import Kind
from poet.evaluate.api import Api
from poet.evaluate.judges import JUDGE
from poet.evaluate.store import Store

_COST = {"type": "number", "minimum": 0}
_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"$ref": "#/$defs/count"}
SCHEMA = {
    "required": ["judge", "base_url", "price", "max_cost"],
    "properties": {
        "judge": JUDGE,
        "base_url": {
            "type": "string",
            "pattern": r"^https?://[^@?\s]+$",
            "description": "the address of an OpenAI-compatible server, without a secret in it",
        },
        "model": {
            **_TEXT, "description": "the server's name for it; without it, the judge's own",
        },
        "key_variable": {
            "type": "string",
            "pattern": "^[A-Z][A-Z0-9_]*$",
            "description": "the name of the environment variable that holds the key, not the "
            "secret itself; left out, the server needs none",
        },
        "price": {
            "type": "object",
            "additionalProperties": False,
            "required": ["prompt", "completion"],
            "description": "US dollars per million tokens",
            "properties": {"prompt": _COST, "completion": _COST},
        },
        "max_cost": {
            **_COST, "description": "US dollars, for all that this annotator's store holds",
        },
        "concurrency": {**_COUNT, "default": 8},
        "requests_per_minute": {
            "type": ["number", "null"], "exclusiveMinimum": 0, "default": None,
        },
        "timeout": {"$ref": "#/$defs/rate", "default": 120, "description": "seconds"},
        "attempts": {**_COUNT, "default": 8},
        "backoff": {
            "type": "object",
            "additionalProperties": False,
            "default": {"initial": 1, "longest": 60},
            "required": ["initial", "longest"],
            "description": "seconds; random between 0 and a limit that doubles",
            "properties": {"initial": _COST, "longest": _COST},
        },
        "allow_model_change": {
            "type": "boolean", "default": False,
            "description": "of the server's, within one table",
        },
        "store": {**_TEXT, "format": "path", "default": "results/store/annotations"},
    },
}  # fmt: skip


@contextmanager
def ask(name: str, settings: dict, configs: dict, model: None) -> Iterator[Api]:
    """A server, and the store of what was bought from it."""
    with Store(Path(settings["store"]) / name) as store:
        yield Api(name, settings, store)


KIND = Kind("api", SCHEMA, ask=ask, bought=True)
