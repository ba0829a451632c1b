"""Scoring conversations with a reward model: a sequence classifier with one output."""

from __future__ import annotations

from poet.data.templates import Options, apply_template
from poet.progress import track


def encode(
    tokenizer,
    conversations: list[list[dict]],
    max_length: int,
    template_kwargs: dict,
    options: Options = None,
) -> tuple[list, list]:
    """Token ids of templated conversations, cut to their first ``max_length`` tokens.

    ``template_kwargs``, ``options``: see :func:`poet.data.templates.apply_template`.

    Returns:
        Per conversation its ids, and whether they were cut.
    """
    texts = apply_template(tokenizer, template_kwargs, conversations, options)
    sequences = tokenizer(texts, add_special_tokens=False)["input_ids"]
    was_cut = [len(ids) > max_length for ids in sequences]
    return [ids[:max_length] for ids in sequences], was_cut


def rewards(model, sequences: list[list[int]], batch_size: int, label: str) -> list[float]:
    """The model's reward of each token sequence, in the order given.

    Batches are of similar length and padded on the right with ``model.config.pad_token_id``, so
    that a sequence's reward does not depend on its batch.
    """
    import torch

    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    values = [0.0] * len(sequences)
    pad = torch.nn.utils.rnn.pad_sequence
    model.eval()
    for batch in track(batches, label=label):
        ids = [torch.tensor(sequences[i]) for i in batch]
        padded = pad(ids, batch_first=True, padding_value=model.config.pad_token_id)
        mask = pad([torch.ones_like(row) for row in ids], batch_first=True)
        with torch.inference_mode():
            logits = model(padded.to(model.device), mask.to(model.device)).logits
        for i, value in zip(batch, logits.squeeze(-1).float().tolist(), strict=True):
            values[i] = value
    return values
