"""A language model behind a server that speaks OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poet.evaluate.annotators.kind import Kind
from poet.evaluate.api import Api
from poet.evaluate.judges import JUDGE
from poet.evaluate.records import COUNT, FLAG, PATH, TEXT, closed
from poet.evaluate.store import Store

_COST = {"type": "number", "minimum": 0}
_ADDRESS = "the address of an OpenAI-compatible server, without a secret in it"
_KEY = (
    "the name of the environment variable that holds the key, not the secret itself; left out, "
    "the server needs none"
)
SCHEMA = {
    "required": ["judge", "base_url", "price", "max_cost"],
    "properties": {
        "judge": JUDGE,
        "base_url": {"type": "string", "pattern": r"^https?://[^@?\s]+$", "description": _ADDRESS},
        "model": TEXT | {"description": "the server's name for it; without it, the judge's own"},
        "key_variable": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$", "description": _KEY},
        "price": closed(prompt=_COST, completion=_COST)
        | {"description": "US dollars per million tokens"},
        "max_cost": _COST | {"description": "US dollars, for all that its store holds"},
        "concurrency": COUNT | {"default": 8},
        "requests_per_minute": {"type": ["number", "null"], "exclusiveMinimum": 0, "default": None},
        "timeout": {"$ref": "#/$defs/positive", "default": 120, "description": "seconds"},
        "attempts": COUNT | {"default": 8},
        "backoff": closed(initial=_COST, longest=_COST)
        | {
            "default": {"initial": 1, "longest": 60},
            "description": "seconds; random between 0 and a limit that doubles",
        },
        "allow_model_change": FLAG | {"description": "of the server's, within one table"},
        "store": PATH | {"default": "results/store/annotations"},
    },
}
LIMITS = (
    "key_variable", "max_cost", "concurrency", "requests_per_minute", "timeout", "attempts",
    "backoff", "store",
)  # fmt: skip


@contextmanager
def ask(name: str, settings: dict, configs: dict, model: None) -> Iterator[Api]:
    """A server, and the store of what was bought from it."""
    with Store(Path(settings["store"]) / name) as store:
        yield Api(name, settings, store)


KIND = Kind("api", SCHEMA, ask=ask, bought=True, limits=LIMITS)
