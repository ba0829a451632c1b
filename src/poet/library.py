"""POET for other people's scripts: a TRL preference data set with responses of equal length.

See docs/library.md; ``from poet import equal_length`` is this module's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poet.data.templates import Chat, options_of
from poet.data.tokenization import encode_pairs, encode_texts, limit_lengths, pair_hash
from poet.data.truncation import truncate_pair

if TYPE_CHECKING:
    from datasets import Dataset


def equal_length(
    dataset: Dataset,
    tokenizer,
    strategy: str = "poet",
    keep: float = 1.0,
    max_length: int | None = None,
    chat_template_kwargs: dict | None = None,
) -> Dataset:
    """Tokenize a preference data set and truncate both responses of a pair; see ``truncate_pair``.

    Any of TRL's preference formats: chat messages, which the tokenizer's template renders, or plain
    strings, which are taken as they are; with a column ``prompt``, or with the prompt inside
    ``chosen`` and ``rejected``. Responses end with EOS.

    Args:
        max_length: tokens of prompt and response, a plain cut before the truncation; a prompt that
            leaves no room keeps its last half of that. None: no limit.
        chat_template_kwargs: variables of the chat template, for all rows; a row's own, in the
            columns ``chat_template_kwargs`` and ``tools``, go before them. ``strftime_now`` is the
            date that a template writes which asks for today's, by default 2024-07-26.

    Returns:
        ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` (token ids) and ``pair_hash`` in place of
        ``prompt``, ``chosen``, ``rejected``; other columns as they are.

    Raises:
        UserError: the chat template refuses the messages.
        ValueError: unknown strategy, or keep outside (0, 1].
    """
    from trl.data_utils import is_conversational, maybe_extract_prompt

    chat = Chat(tokenizer, "keep_start", chat_template_kwargs or {})
    known = [name for name in ("prompt", "chosen", "rejected") if name in dataset.column_names]

    def convert(batch: dict) -> dict:
        rows = zip(*(batch[name] for name in known), strict=True)
        pairs = [maybe_extract_prompt(dict(zip(known, row, strict=True))) for row in rows]
        columns = [[pair[name] for pair in pairs] for name in ("prompt", "chosen", "rejected")]
        prompts, *sides = columns
        if is_conversational(pairs[0]):
            encoded = [encode_pairs(chat, prompts, side, options_of(batch)) for side in sides]
        else:
            encoded = [encode_texts(chat, prompts, side) for side in sides]
        (prompt_ids, chosen), (_, rejected) = encoded
        out = {name: [] for name in ("prompt_ids", "chosen_ids", "rejected_ids", "pair_hash")}
        for ids in zip(prompt_ids, chosen, rejected, strict=True):
            if max_length:
                ids = limit_lengths(*ids, max_length, max_length // 2, "keep_start")
            row = (ids[0], *truncate_pair(*ids[1:], strategy, keep), pair_hash(*ids))
            for name, value in zip(out, row, strict=True):
                out[name].append(value)
        return out

    return dataset.map(convert, batched=True, remove_columns=known)


def with_reference(dataset: Dataset, model, tokenizer, batch_size: int = 16) -> Dataset:
    """Add the reference's per-token log-probabilities, which ``PreferenceTrainer`` reads.

    Args:
        dataset: what :func:`equal_length` gives.
        model: the reference, mostly the start model before its training, on the device to use.
        batch_size: responses per forward pass.

    Returns:
        The data set with the columns ``ref_chosen_logps`` and ``ref_rejected_logps``.
    """
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from trl.trainer.utils import add_fused_lm_head

    from poet.train.reference import compute

    add_fused_lm_head(model)
    table = dataset.with_format("arrow")[:]
    columns = compute(model.eval(), table, batch_size, tokenizer.pad_token_id, "reference")
    for name, column in columns.items():
        table = table.append_column(name, column)
    return Dataset(InMemoryTable(table))
