"""Prompts of a further benchmark from any file of rows: safety prompts, or arena questions."""

from __future__ import annotations

import argparse
from pathlib import Path

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

    try:
        table = pd.read_csv(path) if str(path).endswith(".csv") else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    return table.to_dict(orient="records")


def read_texts(path: str | Path, column: str, id_column: str | None) -> dict[str, str]:
    """id -> text of every row, in the file's order; without an id column a text is its own id.

    Raises:
        UserError: naming the row (from 0) without an id or a text, or with an id seen before.
    """
    texts = {}
    for number, row in enumerate(read_file(path)):
        place = f"{path}, row {number}"
        for name in (column, id_column or column):
            if name not in row:
                raise UserError(f"{place}: no column {name}; found {', '.join(map(str, row))}")
        text = _first_text(row[column], f"{place}, column {column}")
        key = text if id_column is None else str(row[id_column])
        if key in texts:
            raise UserError(f"{place}: {key[:60]!r} comes twice")
        texts[key] = text
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


def make_prompts(texts: dict[str, str], dataset: str, references: dict[str, str] | None):
    """Rows as in prompts.jsonl; ``reference``, where there are any, is the baseline's answer.

    Raises:
        UserError: naming prompts without a baseline's answer.
    """
    rows = [
        {
            "index": index,
            "dataset": dataset,
            "instruction": text,
            "prompt": [{"role": "user", "content": text}],
        }
        for index, text in enumerate(texts.values())
    ]
    if references is not None:
        if missing := [key for key in texts if key not in references]:
            raise UserError(
                f"the baseline answers {len(texts) - len(missing)} of {len(texts)} questions; "
                f"missing: {', '.join(repr(key[:60]) for key in missing[:5])}"
            )
        for row, key in zip(rows, texts, strict=True):
            row["reference"] = references[key]
    return rows


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", required=True, help=".json, .jsonl (.gz), .parquet or .csv")
    parser.add_argument("--column", required=True, help="the text, or turns or messages with it")
    parser.add_argument("--id", help="the column that names a row")
    parser.add_argument("--baseline", help="file of the baseline's answers, likewise")
    parser.add_argument("--baseline-column", help="the answers in it")
    parser.add_argument("--baseline-id", help="the column that says which question is answered")
    parser.add_argument("--output", required=True, help="prompts.jsonl")
    args = parser.parse_args(argv)
    of_baseline = (args.baseline, args.baseline_column, args.baseline_id)
    if any(of_baseline) and not (args.id and all(of_baseline)):
        parser.error("--baseline, --baseline-column, --baseline-id and --id belong together")
    texts = read_texts(args.file, args.column, args.id)
    references = read_texts(*of_baseline) if args.baseline else None
    if len(set(texts.values())) < len(texts):
        raise UserError(f"{args.file}: the same prompt stands there under several ids")
    write_jsonl(make_prompts(texts, Path(args.file).name, references), args.output)


if __name__ == "__main__":
    cli(main)
