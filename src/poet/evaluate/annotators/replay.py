"""Annotations that someone already paid for, in alpaca-eval's ``annotations.json`` format."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import commonprefix

from poet.evaluate.annotators.kind import Judge, Kind
from poet.evaluate.prompts import read_rows, require
from poet.files import UserError

SCHEMA = {
    "required": ["files"],
    "properties": {
        "files": {
            "type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1,
            "format": "path", "description": "alpaca-eval's annotations, .json or .json.gz",
        },
        "allow_model_change": {
            "type": "boolean", "default": False,
            "description": "verdicts of several judges in one table",
        },
    },
}  # fmt: skip


def replay(name: str, settings: dict, model: None) -> Judge:
    """A judge of pairs that looks its verdicts up.

    Args:
        settings: ``files``, whose rows are put together, and ``allow_model_change``: take verdicts
            of several annotators into one table.

    Raises:
        UserError: a file is no annotations file, or the verdicts are of several annotators.
    """
    verdicts, known = _read(settings)
    source = ", ".join(map(str, settings["files"]))

    def judge(prompts: Sequence[dict], rows: Sequence[dict]) -> list[dict]:
        return [_found(verdicts, known, row, source) for row in rows]

    return judge


def beforehand(name: str, settings: dict, model: None, rows: Sequence[dict], needs) -> dict:
    """Check what of a replay is known before there are answers: prompts and their references.

    Raises:
        UserError: as :func:`replay`, and naming a prompt that has no verdict whatever is answered.
    """
    files = settings["files"]
    verdicts, known = _read(settings)
    judged = {pair[:2] for pair in verdicts}
    for prompt in rows:
        instruction, reference = prompt["instruction"], prompt["reference"]
        if (instruction, reference) not in judged:
            row = {"instruction": instruction, "output_1": reference}
            raise UserError(_difference(known.get(instruction), row, ", ".join(map(str, files))))
    return {"files": files}


def _read(settings: dict) -> tuple[dict[tuple, dict], dict]:
    """(instruction, output_1, output_2) -> its row, and instruction -> one of its rows."""
    from poet.evaluate.alpaca import COLUMNS

    files = settings["files"]
    verdicts: dict[tuple, dict] = {}
    known: dict[str, dict] = {}
    for file in files:
        rows = read_rows(file)
        require(rows, (*COLUMNS, "annotator"), file)
        for row in rows:
            known[row["instruction"]] = row
            pair = row["instruction"], row["output_1"], row["output_2"]
            if verdicts.setdefault(pair, row)["preference"] != row["preference"]:
                raise UserError(f"{file}: two verdicts on one pair, {row['instruction'][:60]!r}")
    found = sorted({str(row["annotator"]) for row in verdicts.values()})
    if len(found) > 1 and not settings["allow_model_change"]:
        raise UserError(
            f"{', '.join(map(str, files))}: verdicts of {' and of '.join(found)}; one table would "
            "hold several judges. Choose one, or allow it (allow_model_change: true)."
        )
    return verdicts, known


def _found(verdicts: dict, known: dict, row: dict, source: str) -> dict:
    verdict = verdicts.get((row["instruction"], row["output_1"], row["output_2"]))
    if verdict is None:
        raise UserError(_difference(known.get(row["instruction"]), row, source))
    return {
        "preference": verdict["preference"],
        "judge_model": verdict["annotator"],
        "preference_raw_completion": verdict.get("preference_raw_completion"),
    }


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
