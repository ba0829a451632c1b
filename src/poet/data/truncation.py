"""POET's truncation: both responses of a pair to equal length (arXiv 2506.09457, section 4).

k = min(|y_w|, |y_l|); the objective is left alone. Applied to token ids after chat template, EOS
and length limits, this gives the loss of the released code, which masks the same tokens instead:
in a causal model a prefix's log-probabilities do not depend on its suffix.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import ceil

from poet.data.layout import Layout, add_flags
from poet.files import UserError, cli, publish

STRATEGIES = ("none", "poet", "own")
ROWS = 4096  # rows of a table worked on at a time


def kept_lengths(
    n_chosen: int, n_rejected: int, strategy: str = "poet", keep: float = 1.0
) -> tuple[int, int]:
    """Number of response tokens kept of each response of a pair.

    - ``none``: all of both.
    - ``poet``: ceil(keep * min(n_chosen, n_rejected)) of both; ``keep=1`` is the paper's method.
    - ``own``:  ceil(keep * n) of each, the ablation's baseline.

    At least one token of each is kept.

    Raises:
        ValueError: unknown strategy, keep outside (0, 1], or an empty response.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown truncation strategy {strategy!r}, expected one of {STRATEGIES}")
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}, expected a share in (0, 1]")
    if min(n_chosen, n_rejected) < 1:
        raise ValueError(f"empty response: {n_chosen} chosen and {n_rejected} rejected tokens")
    if strategy == "none":
        return n_chosen, n_rejected
    if strategy == "poet":
        n_chosen = n_rejected = min(n_chosen, n_rejected)
    return _share(keep, n_chosen), _share(keep, n_rejected)


def _share(keep: float, n: int) -> int:
    # Rounding first: 0.1 * 30 is 3.0000000000000004 in floats, and its ceiling would be 4.
    return max(1, ceil(round(keep * n, 9)))


def truncate_pair(
    chosen: Sequence[int], rejected: Sequence[int], strategy: str = "poet", keep: float = 1.0
) -> tuple[Sequence[int], Sequence[int]]:
    """Prefixes of both responses (sequences of token ids); see :func:`kept_lengths`.

    >>> truncate_pair([1, 2, 3], [4, 5, 6, 7, 8])
    ([1, 2, 3], [4, 5, 6])
    """
    n_chosen, n_rejected = kept_lengths(len(chosen), len(rejected), strategy, keep)
    return chosen[:n_chosen], rejected[:n_rejected]


def prefixes(column, counts):
    """The first ``counts[i]`` elements of row i, for a pyarrow column of lists.

    Works on the offsets, ROWS rows at a time: no Python object per element, bounded memory. No row
    may be shorter than its count.
    """
    import numpy as np
    import pyarrow as pa

    chunks = []
    for start in range(0, len(column), ROWS):
        rows = column.slice(start, ROWS).combine_chunks()
        lengths = counts[start : start + ROWS]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = np.arange(offsets[-1]) + np.repeat(
            rows.offsets.to_numpy()[:-1] - offsets[:-1], lengths
        )
        values = pa.array(rows.values.to_numpy()[index])
        chunks.append(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values))
    return pa.chunked_array(chunks, column.type)


def truncate_table(table, strategy: str = "poet", keep: float = 1.0):
    """``truncate_pair`` on the columns ``chosen_ids`` and ``rejected_ids`` of a pyarrow table.

    Other columns pass unchanged.
    """
    import numpy as np
    import pyarrow.compute as pc

    names = ("chosen_ids", "rejected_ids")
    lengths = [pc.list_value_length(table[name]).to_pylist() for name in names]
    kept = [kept_lengths(c, r, strategy, keep) for c, r in zip(*lengths, strict=True)]
    for name, counts in zip(names, np.array(kept).reshape(-1, 2).T, strict=True):
        place = table.column_names.index(name)
        table = table.set_column(place, table.field(place), prefixes(table[name], counts))
    return table


def truncate_file(source, target, strategy: str = "poet", keep: float = 1.0) -> None:
    """Truncate a tokens parquet file row group by row group, so memory stays bounded.

    Raises:
        UserError: no parquet file, or a column is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(source)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{source}: not a readable parquet file ({error}); expected tokenized pairs as "
            "poet.data.tokenization writes them. Texts are read by --pairs."
        ) from None
    with opened as file, publish(target) as temporary:
        missing = {"chosen_ids", "rejected_ids"} - set(file.schema_arrow.names)
        if missing:
            raise UserError(
                f"{source} has no column {', '.join(sorted(missing))}; "
                "expected tokenized pairs as poet.data.tokenization writes them."
            )
        with pq.ParquetWriter(temporary, file.schema_arrow) as writer:
            row = 1
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                _check_responses(table, source, row)
                writer.write_table(truncate_table(table, strategy, keep))
                row += len(table)


def _check_responses(table, source, first: int) -> None:
    """Refuse what is no list of token ids, or has none; ``first`` is the number of the first row.

    Raises:
        UserError: naming the column and the row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in ("chosen_ids", "rejected_ids"):
        kind = table.schema.field(name).type
        if not (pa.types.is_list(kind) and pa.types.is_integer(kind.value_type)):
            raise UserError(f"{source}: {name} is {kind}; expected lists of token ids.")
        lengths = pc.fill_null(pc.list_value_length(table[name]), 0)
        if (empty := pc.index(lengths, 0).as_py()) >= 0:
            raise UserError(
                f"{source}, row {first + empty}: {name} is empty; expected one token id or more. "
                "Leave the row out."
            )


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Truncate preference pairs, file to parquet.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--tokens", help="parquet with chosen_ids and rejected_ids")
    source.add_argument("--pairs", help="JSON lines, a JSON array or parquet; docs/own-data.md")
    add_flags(parser)
    parser.add_argument("--tokenizer", help="folder or hub id, for --pairs")
    parser.add_argument("--strategy", choices=STRATEGIES, default="poet")
    parser.add_argument("--keep", type=float, default=1.0, help="share of the length, (0, 1]")
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    try:
        kept_lengths(1, 1, args.strategy, args.keep)
    except ValueError as error:
        raise UserError(f"--keep: {error}") from None
    if args.tokens:
        truncate_file(args.tokens, args.output, args.strategy, args.keep)
        return
    if not args.tokenizer:
        raise UserError("--pairs needs --tokenizer: the folder or hub id whose tokens are counted")

    from poet.data.examples import write_equal_length
    from poet.data.repositories import named_tokenizer

    tokenizer = named_tokenizer(args.tokenizer)
    layout = Layout(args.format, tuple(args.ignored_columns))
    dropped = write_equal_length(
        args.pairs, args.output, tokenizer, args.strategy, args.keep, layout, args.bad_rows
    )
    for reason, n in sorted(dropped.items()):
        print(f"left out {n} rows: {reason}")


if __name__ == "__main__":
    cli(main)
