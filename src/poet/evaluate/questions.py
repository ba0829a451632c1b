"""Prompts of a further benchmark from any file of rows, with the baseline's answers if it has one.

A file is described as in the configuration (``path``, ``column``, ``id``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.benchmarks.record import Benchmark
from poet.evaluate.prompts import read_rows
from poet.files import UserError, cli, write_jsonl


def read_file(path: str | Path) -> list[dict]:
    """Rows of a .json, .jsonl (gzipped or not), .parquet or .csv file.

    Raises:
        UserError: the file cannot be read.
    """
    if not str(path).endswith((".parquet", ".csv")):
        return read_rows(path)
    import pandas as pd
    from pyarrow import parquet

    try:
        if str(path).endswith(".csv"):
            return pd.read_csv(path).to_dict(orient="records")
        return parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def read_texts(
    rows: dict, columns: Sequence[str] = (), turns: int = 1
) -> dict[str, tuple[list[str], dict]]:
    """id -> the texts of every row, one per turn, and its further columns, in the file's order.

    Args:
        rows: ``path``, ``column`` (a text, or turns or chat messages whose first is taken; with
            several ``turns``, a list of as many) and ``id`` (the column that names a row; without
            it a first text is its own id).

    Raises:
        UserError: naming the row (from 0) without an id, a text for each turn or a column, or with
            an id seen before.
    """
    path, column, named = rows["path"], rows["column"], rows.get("id")
    texts = {}
    for number, row in enumerate(read_file(path)):
        place = f"{path}, row {number}"
        for name in (column, named or column, *columns):
            if name not in row:
                raise UserError(f"{place}: no column {name}; found {', '.join(map(str, row))}")
        found = [row[column]] if turns == 1 else row[column]
        if not isinstance(found, list) or len(found) != turns:
            raise UserError(f"{place}, column {column}: found {found!r}, expected {turns} turns")
        said = [_first_text(turn, f"{place}, column {column}") for turn in found]
        key = said[0] if named is None else str(row[named])
        if key in texts:
            raise UserError(f"{place}: {key[:60]!r} comes twice")
        texts[key] = said, {name: row[name] for name in columns}
    if not texts:
        raise UserError(f"{path} holds no rows")
    return texts


def _first_text(found, place: str) -> str:
    """A string, or the first of turns or chat messages (``[{"turns": [{"content": ...}]}]``)."""
    while not isinstance(found, str):
        if isinstance(found, dict):
            found = found.get("content", found.get("turns"))
        elif hasattr(found, "__len__") and len(found):
            found = found[0]
        else:
            raise UserError(f"{place}: found {found!r}, expected a text")
    if not found.strip():
        raise UserError(f"{place} is empty")
    return found


def make_prompts(benchmark: Benchmark, questions: dict, baseline: dict | None) -> list[dict]:
    """Rows as in prompts.jsonl, from descriptions of files.

    With several turns ``prompt`` is the first, and ``turns`` are all that the user says.

    Args:
        baseline: its answers, which stand as ``reference``, by ``reference_name``: its file's.

    Raises:
        UserError: as :func:`read_texts`; the same prompt has several ids, or no baseline's answer.
    """
    found = read_texts(questions, benchmark.columns, benchmark.turns)
    if len({said[0] for said, _ in found.values()}) < len(found):
        raise UserError(f"{questions['path']}: the same prompt stands there under several ids")
    prompts, dataset = [], Path(questions["path"]).name
    for index, (said, columns) in enumerate(found.values()):
        prompts.append({"index": index, "dataset": dataset, "instruction": said[0]})
        prompts[-1] |= {"prompt": [{"role": "user", "content": said[0]}], **columns}
        if benchmark.turns > 1:
            prompts[-1]["turns"] = said
    if baseline is not None:
        answers, name = read_texts(baseline), Path(baseline["path"]).name.split(".json")[0]
        if missing := [key for key in found if key not in answers]:
            raise UserError(
                f"the baseline answers {len(found) - len(missing)} of {len(found)} questions; "
                f"missing: {', '.join(repr(key[:60]) for key in missing[:5])}"
            )
        for prompt, key in zip(prompts, found, strict=True):
            prompt |= {"reference": answers[key][0][0], "reference_name": name}
    return prompts


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=BENCHMARKS)
    said = ".json, .jsonl (.gz), .parquet or .csv, as JSON: path, column, id"
    parser.add_argument("--prompts", type=json.loads, required=True, help=said)
    parser.add_argument("--baseline", type=json.loads, help="its answers, likewise")
    parser.add_argument("--output", required=True, help="prompts.jsonl")
    args = parser.parse_args(argv)
    benchmark = BENCHMARKS[args.benchmark]
    write_jsonl(make_prompts(benchmark, args.prompts, args.baseline), args.output)


if __name__ == "__main__":
    cli(main)
