"""Truncation of files: tokenized pairs, or pairs as people have them, to parquet."""

from __future__ import annotations

import argparse

from poet.data.examples import write_equal_length
from poet.data.layout import Layout, add_flags
from poet.files import UserError, cli, publish
from poet.hub.folders import named_tokenizer
from poet.methods import SIDES
from poet.methods.truncation import TRUNCATIONS, complete, kept_lengths

RESPONSES = tuple(f"{side}_ids" for side in SIDES)
TYPES = {"number": float, "integer": int}  # of parameters; any other is text
ROWS = 4096  # rows of a table worked on at a time


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


def truncate_table(table, strategy: str = "poet", **parameters):
    """``truncate_pair`` on the columns ``chosen_ids`` and ``rejected_ids`` of a pyarrow table.

    Pairs are named by the column ``pair_hash``, where there is one. Other columns pass unchanged.
    """
    import numpy as np
    import pyarrow.compute as pc

    lengths = [pc.list_value_length(table[name]).to_pylist() for name in RESPONSES]
    named = "pair_hash" in table.column_names
    keys = table["pair_hash"].to_pylist() if named else [None] * len(table)
    kept = [
        kept_lengths(n_chosen, n_rejected, strategy, key, **parameters)
        for n_chosen, n_rejected, key in zip(*lengths, keys, strict=True)
    ]
    for name, counts in zip(RESPONSES, np.array(kept).reshape(-1, 2).T, strict=True):
        place = table.column_names.index(name)
        table = table.set_column(place, table.field(place), prefixes(table[name], counts))
    return table


def truncate_file(source, target, strategy: str = "poet", **parameters) -> None:
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
        needed = {*RESPONSES, *(["pair_hash"] if TRUNCATIONS[strategy].drawn else [])}
        missing = needed - set(file.schema_arrow.names)
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
                writer.write_table(truncate_table(table, strategy, **parameters))
                row += len(table)


def _check_responses(table, source, first: int) -> None:
    """Refuse what is no list of token ids, or has none; ``first`` is the number of the first row.

    Raises:
        UserError: naming the column and the row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in RESPONSES:
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
    parser.add_argument("--strategy", choices=TRUNCATIONS, default="poet")
    names = sorted({name for record in TRUNCATIONS.values() for name in record.parameters})
    for name in names:
        having = [strategy for strategy, of in TRUNCATIONS.items() if name in of.parameters]
        parser.add_argument(f"--{name}", help=f"parameter of {', '.join(having)}")
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    given = {name: text for name in names if (text := getattr(args, name)) is not None}
    fragments = TRUNCATIONS[args.strategy].parameters
    try:
        for name in given.keys() & fragments:  # as this strategy has it; others may differ
            given[name] = TYPES.get(fragments[name].get("type"), str)(given[name])
        choice = complete(args.strategy, **given)
        kept_lengths(1, 1, key="", **choice)
    except ValueError as error:
        raise UserError(f"--strategy {args.strategy}: {error}") from None
    if args.tokens:
        truncate_file(args.tokens, args.output, **choice)
        return
    if not args.tokenizer:
        raise UserError("--pairs needs --tokenizer: the folder or hub id whose tokens are counted")

    tokenizer = named_tokenizer(args.tokenizer)
    layout = Layout(args.format, tuple(args.ignored_columns))
    dropped = write_equal_length(args.pairs, args.output, tokenizer, choice, layout, args.bad_rows)
    for reason, n in sorted(dropped.items()):
        print(f"left out {n} rows: {reason}")


if __name__ == "__main__":
    cli(main)
