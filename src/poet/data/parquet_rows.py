"""Rows of a parquet file, of which only those columns are read that somebody wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from poet.files import UserError


def read_parquet(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, dict]]:
    """Yield ("row 2", row); of the columns that are not ``wanted`` each cell is None.

    Raises:
        UserError: a damaged file, two wanted columns of one name, a value that Python cannot hold.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        # One thread: the file is checked in Snakemake's main process, which should stay small.
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if twice := [name for name, n in Counter(names).items() if n > 1 and wanted(name)]:
            raise UserError(
                f"{path}: several columns are named {', '.join(twice)}. Rename or remove one."
            )
        columns = [name for name in names if wanted(name)] or names[:1]
        unread = dict.fromkeys(set(names) - set(columns))
        for batch in file.iter_batches(1000, columns=columns, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", {**unread, **row} if unread else row
    except pyarrow.ArrowException as error:
        raise UserError(
            f"{path}: not a readable parquet file ({error}). Is it cut off? Write it anew."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: text that is not UTF-8 in one of the rows from {number + 1} on ({error}). "
            "Write it anew."
        ) from None
    except (ValueError, OverflowError) as error:  # dates of no calendar, fields of one name
        raise UserError(
            f"{path}: a value that cannot be read in one of the rows from {number + 1} on "
            f"({error}). Leave its column out, or write it as text."
        ) from None
