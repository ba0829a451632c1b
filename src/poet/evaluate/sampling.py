"""Sampling from token ids with transformers, in static batches or by continuous batching."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable
from functools import partial

from poet.data.ends import closing_text, turn_end
from poet.data.templates import Chat
from poet.files import UserError
from poet.hub.folders import loading, whole_model
from poet.precision import device_and_dtype
from poet.sizes.architecture import Architecture
from poet.sizes.batches import sampling_batch

# New tokens before the answers that have ended leave their batch; each later round is twice as
# long, so that reading a sequence again costs less than writing it did.
FIRST_ROUND = 32
PAGE = 256  # tokens per page of the continuous batches' cache


def sample(
    model, tokenizer, ids: list[list[int]], sampling: dict, seed: int, label: str
) -> list[tuple[list[int], str]]:
    """Continue token sequences, in batches of like lengths, padded on the left.

    ``sampling`` has temperature (0 is greedy), top_p, max_new_tokens, batch_size and
    stop_token_ids: all that end an answer, see :func:`poet.data.ends.with_ends`. Returns, in the
    order given, the new token ids (what ended them included) and how they ended: ``stop`` or
    ``length``.
    """
    from transformers import set_seed

    from poet.progress import track

    stop, pad = sampling["stop_token_ids"], pad_id(tokenizer)
    size, left, steps = at_once(model, ids, sampling), sampling["max_new_tokens"], FIRST_ROUND
    sequences, ended = [list(each) for each in ids], [False] * len(ids)
    pending = list(range(len(ids)))
    set_seed(seed)
    progress = track(total=len(ids), label=label)
    while pending and left > 0:
        steps = min(steps, left)
        # Set anew, else the model folder's own min_p, penalties, ... creep in.
        model.generation_config = _generation_config(sampling, pad, steps)
        pending.sort(key=lambda row: (len(sequences[row]), row))
        for start in range(0, len(pending), size):
            rows = pending[start : start + size]
            batch = [sequences[row] for row in rows]
            for row, tokens in zip(rows, _next_tokens(model, batch, pad), strict=True):
                ends = [i for i, token in enumerate(tokens) if token in stop]
                sequences[row] += tokens[: ends[0] + 1] if ends else tokens
                ended[row] = bool(ends)
            progress.update(len(rows) if steps == left else sum(ended[row] for row in rows))
        pending = [row for row in pending if not ended[row]]
        left, steps = left - steps, 2 * steps
    progress.close()
    return [
        (sequence[len(start) :], "stop" if end else "length")
        for sequence, start, end in zip(sequences, ids, ended, strict=True)
    ]


def _next_tokens(model, sequences: list[list[int]], pad: int) -> list[list[int]]:
    """What the model writes after each sequence of one batch, padding included."""
    import torch

    width = max(map(len, sequences))
    short = [width - len(sequence) for sequence in sequences]
    padded = [[pad] * n + sequence for n, sequence in zip(short, sequences, strict=True)]
    mask = [[0] * n + [1] * (width - n) for n in short]
    out = model.generate(
        torch.tensor(padded, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
    )
    return out[:, width:].tolist()


def sample_continuous(
    model, tokenizer, ids: list[list[int]], sampling: dict, seed: int, label: str
) -> list[tuple[list[int], str]]:
    """:func:`sample` by transformers' continuous batching; ``batch_size`` bounds what runs at once.

    Raises:
        UserError: the engine lost answers (its own words stand in the log).
    """
    from transformers.generation import ContinuousBatchingConfig

    stop, cache, size = sampling["stop_token_ids"], {}, at_once(model, ids, sampling)
    # The library would fill the machine's memory, as it does a GPU's.
    if model.device.type == "cpu":
        longest = max(map(len, ids))
        pages = -(-(longest + sampling["max_new_tokens"]) // PAGE)
        cache = {"num_blocks": size * pages, "max_batch_tokens": max(longest, size)}
    print(f"{label}: {len(ids)} prompts", flush=True)
    found = model.generate_batch(
        ids,
        _generation_config(sampling, pad_id(tokenizer), sampling["max_new_tokens"]),
        ContinuousBatchingConfig(
            seed=seed,
            page_size=PAGE,
            max_requests_per_batch=size,
            drop_unsupported_processors=False,
            **cache,
        ),
    )
    answers = [each.generated_tokens for each in found.values() if each.error is None]
    if len(answers) != len(ids):
        raise UserError(
            f"{label}: continuous batching answered {len(answers)} of {len(ids)} prompts; "
            "`backend: transformers` needs no paged cache"
        )
    return [(tokens, "stop" if tokens[-1] in stop else "length") for tokens in answers]


def at_once(model, ids: list[list[int]], sampling: dict) -> int:
    """How many answers are sampled together: ``batch_size``, or where that is "auto" what fits."""
    if sampling["batch_size"] != "auto":
        return sampling["batch_size"]
    longest = max(map(len, ids)) + sampling["max_new_tokens"]
    return sampling_batch(Architecture.of(model.config.to_dict()), longest)


def described(chat: Chat, answers: list[tuple[list[int], str]]) -> list[dict]:
    """Answers as dicts: ``output`` (text), ``token_ids``, ``n_tokens`` and ``finish_reason``:

    ``stop`` if the answer ended by itself, ``length`` if ``max_new_tokens`` cut it. The ids are
    those that the model wrote, what ended the answer included; the text is without special tokens
    and without the end of the turn, which need not be one. Where the template has a
    :func:`poet.data.ends.closing_text`, an answer has ended there, whatever the model wrote behind.
    """
    end, closing = turn_end(chat), closing_text(chat)

    def closes(tokens: list[int], n: int) -> bool:
        return closing in decode(chat.tokenizer, tokens[:n])

    rows = []
    for tokens, reason in answers:
        if closing and closes(tokens, len(tokens)):
            tokens = tokens[: bisect(range(len(tokens)), False, key=partial(closes, tokens))]
            reason = "stop"
        text = decode(chat.tokenizer, tokens, end, closing)
        rows.append({"output": text, "token_ids": tokens, "n_tokens": len(tokens)})
        rows[-1]["finish_reason"] = reason
    return rows


def pad_id(tokenizer) -> int:
    """What fills a batch; it is masked, so EOS does where a tokenizer has no pad token."""
    pad = tokenizer.pad_token_id
    return tokenizer.eos_token_id if pad is None else pad


def _generation_config(sampling: dict, pad: int, max_new_tokens: int):
    from transformers import GenerationConfig

    greedy = sampling["temperature"] == 0
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=not greedy,
        **({} if greedy else {"temperature": sampling["temperature"], "top_p": sampling["top_p"]}),
        top_k=None if greedy else 0,  # the library's default is 50
        eos_token_id=sampling["stop_token_ids"],
        pad_token_id=pad,
    )


def decode(tokenizer, ids: Iterable[int], end: int | None = None, closing: str = "") -> str:
    """The text of a response's token ids, without special tokens and a turn's ``end``.

    It ends before ``closing``, see :func:`poet.data.ends.closing_text`.
    """
    ids = [token for token in ids if token != end]
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.partition(closing)[0] if closing else text


def load_model(folder: str, record: dict):
    """Tokenizer and causal LM of a folder, ready to generate; ``generation`` says the dtype."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device, dtype = device_and_dtype(record["generation"].get("dtype"))
    model = whole_model(AutoModelForCausalLM, folder, dtype=dtype, **loading(record)).eval()
    return AutoTokenizer.from_pretrained(folder), model.to(device)
