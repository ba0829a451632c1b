"""The configuration's schema: config/config.schema.yaml, with the choices that the code offers."""

from __future__ import annotations

import copy
import os
import re
from functools import cache
from pathlib import Path

import yaml

from poet.data.formats import FORMATS
from poet.evaluate.annotators import KINDS
from poet.evaluate.benchmarks import BENCHMARKS
from poet.files import UserError
from poet.methods.objectives import OBJECTIVES
from poet.methods.truncation import TRUNCATIONS
from poet.methods.weighting import WEIGHTINGS

# In a schema that is filled in: of an objective, see poet.train.rates.
RATE = {"$ref": "#/$defs/rate"}
SCHEMA = Path(__file__).parents[2] / "config" / "config.schema.yaml"


def schema() -> dict:
    """The whole schema: names and parameters of the methods' choices are those of their records."""
    found = yaml.safe_load(SCHEMA.read_text())
    definitions = found["$defs"]
    definitions["format"]["enum"] = [*FORMATS]
    method = definitions["method"]["properties"]
    method["objective"]["enum"] = [*OBJECTIVES]
    for name, objective in OBJECTIVES.items():
        section = _closed({**objective.parameters, "learning_rate": RATE})
        section["required"] = [*section["properties"]]
        definitions["preference"]["properties"][name] = section
    numbers = {name: w.parameter for name, w in WEIGHTINGS.items() if w.parameter}
    method["weighting"]["then"] |= _closed(numbers)
    method["weighting"]["else"] = {"enum": [name for name in WEIGHTINGS if name not in numbers]}
    method["truncation"]["properties"] = {"strategy": {"enum": [*TRUNCATIONS]}}
    method["truncation"]["allOf"] = [
        _where("strategy", name, _closed({"strategy": True, **truncation.parameters}))
        for name, truncation in TRUNCATIONS.items()
    ]
    sections = {name: benchmark.section() for name, benchmark in BENCHMARKS.items()}
    definitions["setting"]["properties"] |= sections
    definitions["annotator"] |= {
        "properties": {"kind": {"enum": [*KINDS]}},
        "allOf": [_where("kind", name, kind.section()) for name, kind in KINDS.items()],
    }
    return found


def _closed(properties: dict) -> dict:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _where(key: str, value: str, then: dict) -> dict:
    """What an object is where its key has a value; what is no object is told elsewhere, once."""
    of = {"type": "object", "properties": {key: {"const": value}}, "required": [key]}
    return {"if": of, "then": then}


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

    # JSON schema takes 1.0 for an integer; as a seed it would have another name in paths.
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, of: type(of) is int)
    filling = {"properties": fill_defaults}
    return validators.extend(Draft202012Validator, filling, type_checker=types)(schema())


def _expand_home(path):
    """``~`` in a path, or in each of a list; what is no text is left to the schema."""
    if isinstance(path, list):
        return [_expand_home(each) for each in path]
    return os.path.expanduser(path) if isinstance(path, str) else path


def validate(config: dict, source: str) -> None:
    """Check ``config`` against the schema; fill in its defaults and expand ``~`` in paths.

    Raises:
        UserError: naming up to eight keys, with what was found and what was expected.
    """
    errors = sorted(_validator().iter_errors(config), key=lambda error: list(map(str, error.path)))
    if errors:
        places = [".".join(map(str, error.absolute_path)) or "top level" for error in errors[:8]]
        lines = [f"  {at}: {_message(e)}" for at, e in zip(places, errors, strict=False)]
        more = [f"  ... and {len(errors) - 8} more"] if len(errors) > 8 else []
        raise UserError(
            "\n".join([f"{source} is not valid:", *lines, *more, "See config/config.schema.yaml."])
        )


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
    if error.validator_value == "^auto$":
        text = f"{error.instance!r} is neither a number nor `auto`"
    else:
        text = error.message if len(error.message) < 300 else error.message[:300] + " ..."
    meant = error.validator in ("type", "pattern") and isinstance(error.instance, str)
    if meant and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", error.instance):
        text += "; YAML takes it for text without a point, so write 2.0e-4 for 2e-4"
    return text
