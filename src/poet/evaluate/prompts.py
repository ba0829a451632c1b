"""A benchmark's files: its prompts in their order, and the gamed rows of its length control."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from poet.files import UserError, read_json, read_jsonl
from poet.hub.download import fetch

GAMED_COLUMNS = (
    "model", "preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline",
)  # fmt: skip
ALPACAEVAL = "datasets/tatsu-lab/alpaca_eval"
LOCK = Path(__file__).parents[3] / "paper" / "hub.lock.yaml"


def read_rows(path: str | Path) -> list[dict]:
    """The rows of a ``.json`` list or a ``.jsonl`` file, gzipped or not.

    Raises:
        UserError: the file is missing, unreadable, or holds something else.
    """
    lines = str(path).removesuffix(".gz").endswith(".jsonl")
    try:
        rows = read_jsonl(path) if lines else read_json(path)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: expected a list of objects, one per prompt")
    return rows


def read_instructions(path: str | Path) -> list[str]:
    """The benchmark's instructions in its order (column ``instruction``).

    Raises:
        UserError: naming the first row without an instruction.
    """
    return [row["instruction"] for row in read_prompts(path, ("instruction",))]


def read_prompts(path: str | Path, columns: Sequence[str]) -> list[dict]:
    """Rows of a file, as :func:`read_rows`.

    Raises:
        UserError: there are none, or naming the first without one of the columns.
    """
    rows = read_rows(path)
    require(rows, columns, path)
    if not rows:
        raise UserError(f"{path} holds no prompts")
    return rows


def require(rows: Sequence[dict], columns: Sequence[str], source: str | Path) -> None:
    """Check that every row has every column.

    Raises:
        UserError: naming the file, the first such row (from 0) and what it lacks.
    """
    for number, row in enumerate(rows):
        if lacking := [column for column in columns if column not in row]:
            raise UserError(
                f"{source}, row {number}: no {', '.join(lacking)}; found {', '.join(row)}"
            )


def conversation(prompt: dict, answers: Sequence[dict]) -> dict:
    """A row of prompts.jsonl whose ``prompt`` goes on to the turn after these answers."""
    messages = [*prompt["prompt"]]
    for said, turn in zip(answers, prompt["turns"][1:], strict=False):
        messages.append({"role": "assistant", "content": said["output"]})
        messages.append({"role": "user", "content": turn})
    return {**prompt, "prompt": messages}


def read_gamed(path: str | Path, n_prompts: int):
    """``df_gamed.csv``: annotations of verbose and concise references, and instruction difficulty.

    Returns:
        A DataFrame with GAMED_COLUMNS. alpaca-eval looks difficulty up by row label, so the first
        row of each prompt comes first, in the benchmark's order: there label and index agree.

    Raises:
        UserError: columns are missing, ``index`` does not run over the benchmark's prompts, or a
            preference is no probability.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if lacking := [column for column in GAMED_COLUMNS if column not in table]:
        raise UserError(f"{path}: no column {', '.join(lacking)}; found {', '.join(table)}")
    found, expected = set(table["index"].tolist()), set(range(n_prompts))
    if found != expected:
        raise UserError(
            f"{path}: its column index does not match the {n_prompts} prompts of the benchmark.\n"
            f"  missing: {some(sorted(expected - found))}\n"
            f"  foreign: {some(sorted(found - expected))}\n"
            "Own data has no such file: --without-gamed."
        )
    if not (table["preference"].between(0, 1) | table["preference"].isna()).all():
        raise UserError(f"{path}: its preferences must lie in [0, 1] (annotations' are in [1, 2])")
    first = ~table.duplicated("index")
    return pd.concat([table[first].sort_values("index"), table[~first]], ignore_index=True)


def add_benchmark_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that :func:`read_benchmark` reads."""
    parser.add_argument("--prompts", help="in order, .json(l)(.gz); default: AlpacaEval 2, locked")
    gamed = parser.add_mutually_exclusive_group()
    gamed.add_argument("--gamed", help="its df_gamed.csv; default: AlpacaEval 2's, locked")
    gamed.add_argument("--without-gamed", action="store_true", help="a regression of our own")
    parser.add_argument("--lock", default=str(LOCK), help="default: paper/hub.lock.yaml, from here")


def read_benchmark(args: argparse.Namespace):
    """The instructions, and the gamed rows or None; see :func:`add_benchmark_flags`.

    A file that no flag names is AlpacaEval 2's, fetched by the lock's revision and checksum; what
    was fetched once is found again, without a connection.

    Raises:
        UserError: see :func:`read_instructions`, :func:`read_gamed` and
            :func:`poet.hub.download.fetch` (no entry in the lock: it names `make lock`).
    """

    def given(path: str | None, filename: str) -> str | Path:
        return path or fetch(ALPACAEVAL, filename, args.lock)

    instructions = read_instructions(given(args.prompts, "alpaca_eval_gpt4_baseline.json"))
    if args.without_gamed:
        return instructions, None
    return instructions, read_gamed(given(args.gamed, "df_gamed.csv"), len(instructions))


def some(items: Sequence, limit: int = 5) -> str:
    """Up to ``limit`` of the items, shortened, and how many there are."""
    if not items:
        return "none"
    shown = [repr(item if len(str(item)) <= 60 else f"{item[:60]}...") for item in items[:limit]]
    return f"{len(items)}: " + ", ".join(shown) + (", ..." if len(items) > limit else "")
