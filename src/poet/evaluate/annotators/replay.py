"""Annotations that someone already paid for, in alpaca-eval's ``annotations.json`` format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os.path import commonprefix

from poet.evaluate.annotators.kind import Judge, Kind
from poet.evaluate.prompts import read_rows, require
from poet.evaluate.records import FLAG, TEXT
from poet.files import UserError

_FILES = {"type": "array", "items": TEXT, "minItems": 1, "format": "path"}
SCHEMA = {
    "required": ["files"],
    "properties": {
        "files": _FILES | {"description": "alpaca-eval's annotations, .json or .json.gz"},
        "allow_model_change": FLAG | {"description": "verdicts of several judges in one table"},
    },
}


def replay(name: str, settings: dict, model: None) -> Judge:
    """A judge of pairs that looks its verdicts up.

    Args:
        settings: ``files``, whose rows are put together, and ``allow_model_change``: take verdicts
            of several annotators into one table.

    Raises:
        UserError: a file is no annotations file, or the verdicts are of several annotators.
    """
    look_up = _read(settings)

    def judge(prompts: Sequence[dict], rows: Sequence[dict]) -> list[dict]:
        return [
            {
                "preference": verdict["preference"],
                "judge_model": verdict["annotator"],
                "preference_raw_completion": verdict.get("preference_raw_completion"),
            }
            for verdict in map(look_up, rows)
        ]

    return judge


def beforehand(name: str, settings: dict, model: None, rows: Sequence[dict], needs) -> dict:
    """Check what of a replay is known before there are answers: prompts and their references.

    Raises:
        UserError: as :func:`replay`, and naming a prompt that has no verdict whatever is answered.
    """
    look_up = _read(settings)
    for prompt in rows:
        look_up({"instruction": prompt["instruction"], "output_1": prompt["reference"]})
    return {"files": settings["files"]}


def _read(settings: dict) -> Callable[[dict], dict]:
    """What finds the annotation of a row with instruction, output_1 and, if known, output_2."""
    from poet.evaluate.alpaca import COLUMNS

    files = settings["files"]
    source, texts = ", ".join(map(str, files)), COLUMNS[:3]
    verdicts: dict[tuple, dict] = {}  # by instruction and outputs, and by the first one or two
    for file in files:
        rows = read_rows(file)
        require(rows, (*COLUMNS, "annotator"), file)
        for row in rows:
            pair = tuple(row[column] for column in texts)
            if verdicts.setdefault(pair, row)["preference"] != row["preference"]:
                raise UserError(f"{file}: two verdicts on one pair, {row['instruction'][:60]!r}")
            verdicts[pair[:1]] = verdicts[pair[:2]] = verdicts[pair]
    found = sorted({str(row["annotator"]) for row in verdicts.values()})
    if len(found) > 1 and not settings["allow_model_change"]:
        raise UserError(
            f"{source}: verdicts of {' and of '.join(found)}; one table would hold several judges. "
            "Choose one, or allow it (allow_model_change: true)."
        )

    def look_up(row: dict) -> dict:
        key = tuple(row[column] for column in texts if column in row)
        if key not in verdicts:
            raise UserError(_difference(verdicts.get(key[:1]), row, source))
        return verdicts[key]

    return look_up


def _difference(other: dict | None, row: dict, source: str) -> str:
    place = f"{source}: no verdict for {row['instruction'][:60]!r}"
    if other is None:
        return f"{place}: the instruction is not in it."
    column = next(c for c in ("output_1", "output_2") if other[c] != row[c])
    ours, theirs = row[column], other[column]
    start = max(len(commonprefix([ours, theirs])) - 10, 0)
    return (
        f"{place}: its {column} is another.\n"
        f"  annotated, from character {start}: {theirs[start : start + 60]!r}\n"
        f"  to judge, from character {start}:  {ours[start : start + 60]!r}\n"
        "A verdict holds for the outputs it was given on; annotate these anew."
    )


KIND = Kind("replay", SCHEMA, judge=replay, beforehand=beforehand)
