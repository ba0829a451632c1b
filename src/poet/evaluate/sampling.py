"""Sampling from token ids with transformers, in static batches or by continuous batching."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable
from functools import partial

import numpy as np

from poet.data.ends import closing_text, turn_end
from poet.data.templates import Chat
from poet.devices import in_batches
from poet.files import UserError
from poet.hub.folders import loading, whole_model
from poet.precision import device_and_dtype
from poet.sizes.architecture import Architecture
from poet.sizes.batches import sampling_batch

ROUND = 32  # new tokens before the answers that have ended leave their batch
PAGE = 256  # tokens per page of the continuous batches' cache


def sample(
    model, tokenizer, ids: list[list[int]], sampling: dict, seed: int, label: str
) -> list[tuple[list[int], str]]:
    """Continue token sequences, in batches of like lengths, padded on the left.

    What an answer draws depends on the seed and its place in ``ids`` alone, so that batches may be
    of any size; one that is too large for the memory is halved.

    ``sampling`` has temperature (0 is greedy), top_p, max_new_tokens, batch_size and
    stop_token_ids: all that end an answer, see :func:`poet.data.ends.with_ends`. Returns, in the
    order given, the new token ids (what ended them included) and how they ended: ``stop`` or
    ``length``.
    """
    from poet.progress import track

    size, new = at_once(model, ids, sampling), sampling["max_new_tokens"]
    order = sorted(range(len(ids)), key=lambda row: (len(ids[row]), row))
    answers: list[list[int]] = [[]] * len(ids)
    progress = track(total=len(ids) * new, label=f"{label}, tokens")
    done, pad = 0, pad_id(tokenizer)

    def answer(rows: list[int]) -> list[list[int]]:
        progress.update(done - progress.n)  # what ended early is done, what is repeated is not
        draws = [uniform(seed, row, new) for row in rows]
        return _continued(model, [ids[row] for row in rows], draws, sampling, pad, progress)

    for rows, found in in_batches(order, size, answer):
        done += len(rows) * new
        for row, tokens in zip(rows, found, strict=True):
            answers[row] = tokens
    progress.update(done - progress.n)
    progress.close()
    stop = set(sampling["stop_token_ids"])
    return [(tokens, "stop" if tokens[-1] in stop else "length") for tokens in answers]


def uniform(seed: int, row: int, n: int) -> np.ndarray:
    """n numbers in [0, 1), of a seed and an answer: the counter-based generator Philox, keyed."""
    return np.random.Generator(np.random.Philox(key=[seed, row])).random(n)


def _continued(model, sequences, draws, sampling: dict, pad: int, progress) -> list[list[int]]:
    """What the model writes after each sequence of one batch, what ended it included.

    Keys and values stay between the rounds; sequences that have ended leave the batch.
    """
    import torch
    from transformers import DynamicCache, LogitsProcessorList

    stop, width = set(sampling["stop_token_ids"]), max(map(len, sequences))
    short = [width - len(sequence) for sequence in sequences]
    padded = [[pad] * n + sequence for n, sequence in zip(short, sequences, strict=True)]
    inputs = torch.tensor(padded, device=model.device)
    mask = torch.tensor([[0] * n + [1] * (width - n) for n in short], device=model.device)
    rows, cache = torch.arange(len(sequences)), None
    answers: list[list[int]] = [[] for _ in sequences]
    draws = torch.tensor(np.array(draws), device=model.device)
    while len(rows) and inputs.shape[1] < width + sampling["max_new_tokens"]:
        left = width + sampling["max_new_tokens"] - inputs.shape[1]
        # Set anew, else the model folder's own min_p, penalties, ... creep in.
        model.generation_config = _greedy(sampling, pad, min(ROUND, left))
        steps = _steps(sampling, draws[rows.to(draws.device)], width, progress)
        out = model.generate(
            inputs, attention_mask=mask, past_key_values=cache,
            logits_processor=LogitsProcessorList(steps), return_dict_in_generate=True,
        )  # fmt: skip
        new = out.sequences[:, inputs.shape[1] :]
        alive = []
        for place, (row, tokens) in enumerate(zip(rows.tolist(), new.tolist(), strict=True)):
            ends = [i for i, token in enumerate(tokens) if token in stop]
            answers[row] += tokens[: ends[0] + 1] if ends else tokens
            if not ends:
                alive.append(place)
        keep = torch.tensor(alive, dtype=torch.long, device=model.device)
        inputs, mask = out.sequences[keep], torch.cat([mask, torch.ones_like(new)], 1)[keep]
        rows, cache = rows[keep.cpu()], out.past_key_values
        if isinstance(cache, DynamicCache):
            cache.reorder_cache(keep)  # batch_select_indices lacks the states of hybrid models
        else:  # of a model that keeps something else: read anew
            cache = None
    return answers


def _steps(sampling: dict, draws, width: int, progress) -> list:
    """What is done with the scores of each step: temperature, nucleus, draw; and the progress."""
    import torch
    from transformers import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

    class Draw(LogitsProcessor):
        """The token in whose part of the distribution the step's number lies; greedy finds it.

        One number for a token in place of one for each of the vocabulary.
        """

        def __call__(self, input_ids, scores):
            position = input_ids.shape[1] - width
            shares = scores.double().softmax(-1).cumsum(-1)
            drawn = draws[:, position, None] * shares[:, -1:]
            token = torch.searchsorted(shares, drawn, right=True).clamp(max=scores.shape[1] - 1)
            return torch.full_like(scores, float("-inf")).scatter(1, token, 0.0)

    class Count(LogitsProcessor):
        def __call__(self, input_ids, scores):
            progress.update(len(input_ids))
            return scores

    if sampling["temperature"] == 0:
        return [Count()]
    nucleus = [TopPLogitsWarper(sampling["top_p"])] if sampling["top_p"] < 1 else []
    return [TemperatureLogitsWarper(float(sampling["temperature"])), *nucleus, Draw(), Count()]


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
        _drawing(sampling, pad_id(tokenizer)),
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
    return sampling_batch(Architecture.found(model.config.to_dict()), longest)


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


def _greedy(sampling: dict, pad: int, max_new_tokens: int):
    from transformers import GenerationConfig

    stop = sampling["stop_token_ids"]
    return GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=stop, pad_token_id=pad
    )


def _drawing(sampling: dict, pad: int):
    """The same where the engine draws; without the library's own top_k of 50."""
    found = _greedy(sampling, pad, sampling["max_new_tokens"])
    if sampling["temperature"]:
        found.update(do_sample=True, top_k=0, **{k: sampling[k] for k in ("temperature", "top_p")})
    return found


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
