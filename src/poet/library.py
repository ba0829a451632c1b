"""POET for other people's scripts: a TRL preference data set with responses of equal length.

See docs/library.md; ``from poet import equal_length`` is this module's.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from poet.data.containers import BadRow
from poet.data.examples import BATCH, read_example, token_ids, truncated_columns
from poet.data.formats import FORMATS
from poet.data.layout import Layout, WrongFormat
from poet.data.model_limits import check_ids, check_positions, largest_id, positions
from poet.data.pairs import check_columns, refuse_bad
from poet.data.templates import Chat
from poet.data.together import check_together
from poet.data.tokenization import IDS
from poet.files import UserError
from poet.methods import SIDES
from poet.methods.truncation import kept_lengths

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset


def equal_length(
    dataset: Dataset | IterableDataset | DatasetDict,
    tokenizer,
    strategy: str = "poet",
    *,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    chat_template_kwargs: dict | None = None,
    format: str = "trl",
    ignored_columns: Sequence[str] = (),
    bad_rows: str = "error",
    num_proc: int | None = None,
    **parameters: float,
) -> Dataset | IterableDataset | DatasetDict:
    """Tokenize a preference data set and truncate both responses of a pair; see ``truncate_pair``.

    Any of TRL's preference formats: chat messages, which the tokenizer's template renders, or plain
    strings, which are taken as they are; with a column ``prompt``, or with the prompt inside
    ``chosen`` and ``rejected``. Responses end with EOS. Of several splits each is done.

    Args:
        strategy: a key of :data:`poet.methods.truncation.TRUNCATIONS`.
        max_length: tokens of prompt and response, a plain cut before the truncation. None: no
            limit.
        max_prompt_length: how many of its last tokens a prompt keeps that leaves no room; None:
            half of ``max_length``.
        chat_template_kwargs: variables of the chat template, for all rows; a row's own, in the
            columns ``chat_template_kwargs`` and ``tools``, go before them. ``strftime_now`` is the
            date that a template writes which asks for today's, by default 2024-07-26.
        format: layout of the rows, see docs/own-data.md; those of other formats than ``trl`` are
            chats.
        ignored_columns: columns with content that do not matter; others are refused.
        bad_rows: ``drop`` leaves rows out that cannot be used and warns how many.
        num_proc: processes, as in ``Dataset.map``.
        parameters: the strategy's, ``keep`` for example.

    Returns:
        ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` (token ids) and ``pair_hash`` in place of
        the format's columns; other columns as they are.

    Raises:
        UserError: a row that cannot be used, with its number, counted from 1; rows that are all of
            another kind (not of a stream); the chat template refuses the messages; a response has
            the text of a special token, or both have the same tokens; a stream with ``num_proc`` or
            ``bad_rows="drop"``.
        ValueError: an argument that is out of its range.
    """
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

    kept_lengths(1, 1, strategy, "", **parameters)
    limits = _limits(max_length, max_prompt_length)
    for name, value, choices in (
        ("format", format, FORMATS), ("bad_rows", bad_rows, ("error", "drop"))
    ):  # fmt: skip
        if value not in choices:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(choices)}")
    if isinstance(ignored_columns, str):
        raise ValueError(f"ignored_columns is {ignored_columns!r}, expected a list of names")
    if not hasattr(tokenizer, "added_tokens_encoder"):
        raise UserError(
            f"equal_length needs a tokenizer, found {type(tokenizer).__name__}; a processor has "
            "one in its attribute `tokenizer`."
        )
    layout = Layout(format, tuple(ignored_columns))
    chat = Chat(tokenizer, "keep_start", chat_template_kwargs or {})
    truncation = {"strategy": strategy, **parameters}
    convert = partial(_convert, layout=layout, chat=chat, truncation=truncation, limits=limits)
    used = {"prompt", *SIDES, *FORMATS[format].prompt, *FORMATS[format].beside}

    def one(part):
        if not isinstance(part, Dataset | IterableDataset):
            raise UserError(
                f"equal_length needs a data set, found {type(part).__name__}; make one with "
                "Dataset.from_list or Dataset.from_pandas"
            )
        part = part.with_format(None)  # arrays and tensors are no messages
        names = part.column_names or [*next(iter(part), ())]  # a stream may not know its columns
        check_columns({*names}, "the data set", layout)
        options = {}
        if isinstance(part, Dataset):
            if bad_rows == "drop":
                part = _without_bad_rows(part, layout, chat)
            check_together(_Examples(part, layout), "the data set")
            options = {"num_proc": num_proc}
        elif num_proc or bad_rows == "drop":
            raise UserError(
                "num_proc and bad_rows='drop' need a Dataset, found an IterableDataset, whose "
                "rows are not known beforehand; make one with Dataset.from_list(list(stream))"
            )
        removed = [name for name in names if name in used]
        return part.map(convert, batched=True, with_indices=True, remove_columns=removed, **options)

    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        return type(dataset)({name: one(part) for name, part in dataset.items()})
    return one(dataset)


def _limits(max_length: int | None, max_prompt_length: int | None) -> tuple[int, int] | None:
    if max_length is None:
        if max_prompt_length is not None:
            raise ValueError("max_prompt_length needs max_length: there is no limit without it")
        return None
    if max_prompt_length is None:
        max_prompt_length = max_length // 2
    if not 0 < max_prompt_length < max_length:
        raise ValueError(
            f"max_length is {max_length} and max_prompt_length {max_prompt_length}, expected "
            "0 < max_prompt_length < max_length"
        )
    return max_length, max_prompt_length


class _Examples:
    """The rows of a data set that are pairs, read anew each time they are gone through."""

    def __init__(self, part: Dataset, layout: Layout):
        self.part, self.layout = part, layout

    def __iter__(self) -> Iterator[dict]:
        for row in self.part:
            with suppress(BadRow):
                yield read_example(row, self.layout)


def _tokens(batch: dict, layout: Layout, chat: Chat) -> list[tuple | BadRow]:
    """Token ids of every row of a batch of columns, or what is wrong with the row."""
    found: list = []
    for row in zip(*batch.values(), strict=True):
        try:
            found.append(read_example(dict(zip(batch, row, strict=True)), layout))
        except BadRow as problem:
            found.append(problem)
    good = [i for i, example in enumerate(found) if not isinstance(example, BadRow)]
    for i, ids in zip(good, token_ids(chat, [found[i] for i in good]), strict=True):
        found[i] = ids
    return found


def _convert(batch: dict, indices: list[int], layout: Layout, chat: Chat, **how) -> dict:
    try:
        tokens = _tokens(batch, layout, chat)
    except UserError as error:
        raise UserError(f"rows {indices[0] + 1} to {indices[-1] + 1}: {error}") from None
    for index, found in zip(indices, tokens, strict=True):
        if isinstance(found, BadRow):
            advice = '\nMend it, or leave such rows out with bad_rows="drop".'
            advice = "" if isinstance(found, WrongFormat) else advice
            raise UserError(f"row {index + 1} of the data set: {found}.{advice}")
    return truncated_columns(tokens, **how)


def _without_bad_rows(dataset: Dataset, layout: Layout, chat: Chat) -> Dataset:
    good, bad = [], []
    for batch in dataset.iter(BATCH):
        for found in _tokens(batch, layout, chat):
            number = len(good) + len(bad)
            if isinstance(found, BadRow):
                bad.append((f"row {number + 1}", found))
            else:
                good.append(number)
    dropped = refuse_bad(bad, len(good), "the data set", "drop")
    if dropped:
        reasons = "; ".join(f"{reason} ({n})" for reason, n in sorted(dropped.items()))
        warnings.warn(f"left out {len(bad)} of {len(dataset)} rows: {reasons}", stacklevel=4)
    return dataset.select(good)


def with_reference(
    dataset: Dataset | DatasetDict, model, tokenizer, batch_size: int = 16
) -> Dataset | DatasetDict:
    """Add the reference's per-token log-probabilities, which ``PreferenceTrainer`` reads.

    Args:
        dataset: what :func:`equal_length` gives.
        model: the reference, mostly the start model before its training, on the device to use.
        batch_size: responses per forward pass.

    Returns:
        The data set with the columns ``ref_chosen_logps`` and ``ref_rejected_logps``.

    Raises:
        UserError: the data set is a stream, or not what :func:`equal_length` gives; the model has
            fewer positions than a pair has tokens, or no row for one of them in its embedding.
    """
    from datasets import Dataset, DatasetDict
    from datasets.table import InMemoryTable
    from trl.trainer.utils import add_fused_lm_head

    from poet.train.reference import compute

    if isinstance(dataset, DatasetDict):
        parts = dataset.items()
        return DatasetDict({n: with_reference(d, model, tokenizer, batch_size) for n, d in parts})
    if not isinstance(dataset, Dataset):
        raise UserError(
            f"with_reference needs a Dataset, found {type(dataset).__name__}: the reference is "
            "computed once for all rows. Make one with Dataset.from_list(list(stream))."
        )
    if missing := sorted({*IDS, "pair_hash"} - set(dataset.column_names)):
        raise UserError(
            f"with_reference: no column {', '.join(missing)}; found "
            f"{', '.join(dataset.column_names)}. Expected what equal_length gives."
        )
    of_before = [n for n in dataset.column_names if n in (f"ref_{side}_logps" for side in SIDES)]
    table = dataset.remove_columns(of_before).with_format("arrow")[:]
    if len(table):
        _check_model(model, tokenizer, table)
    add_fused_lm_head(model)
    columns = compute(model.eval(), table, batch_size, tokenizer.pad_token_id, "reference")
    for name, column in columns.items():
        table = table.append_column(name, column)
    return Dataset(InMemoryTable(table))


def _check_model(model, tokenizer, table) -> None:
    """Check that a model takes the tokens of an Arrow table's pairs."""
    import pyarrow.compute as pc

    of = model.config.get_text_config().to_dict()
    lengths = [pc.list_value_length(table[name]).to_numpy() for name in IDS]
    longest = int(max((lengths[0] + side).max() for side in lengths[1:]))
    needs = [("prompt and response, which equal_length(..., max_length=...) cuts", longest, False)]
    name = model.config.name_or_path or "in memory"
    check_positions(positions(of), needs, name, "with_reference")
    for column in IDS:
        check_ids(tokenizer, largest_id(table[column]), of, f"with_reference, {column}")
