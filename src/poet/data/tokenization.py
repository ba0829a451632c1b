"""One tokenization for every method: pairs of chat messages to pairs of token ids.

Two named length policies:

- ``keep_start``: the prompt with its generation prompt, the response up to and including EOS, a
  plain cut of the sequence at ``max_length``. A prompt that would leave no room for a response
  keeps its last ``max_prompt_length`` tokens.
- ``paper``: what the paper's released code does (inherited from SimPO and TRL 0.9.6): the response
  is the chat template of the assistant message alone, an empty system message is inserted where the
  template knows the role, EOS is appended unless it is the last token; if prompt + longer response
  exceed ``max_length``, the prompt keeps its last ``max_prompt_length`` tokens, and if they still
  do, both responses are cut to ``max_length - max_prompt_length``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from os.path import commonprefix

from poet.data.templates import (
    Chat,
    Options,
    check_alone,
    check_day,
    options_of,
    render_prompts,
    template_hash,
    with_system,
)
from poet.files import UserError, cli, load_record, publish, write_json

BATCH = 1000  # pairs rendered and tokenized at a time
IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


def encode(tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids of texts that open a sequence: BOS once, written by the template or added here.

    It is added where the tokenizer itself puts one before a plain text. A text that occurs twice,
    as a pair's prompt does, is tokenized once.
    """
    distinct = list(dict.fromkeys(texts))
    only_ids = {"return_attention_mask": False, "return_token_type_ids": False}
    found = tokenizer(distinct, add_special_tokens=False, **only_ids)["input_ids"]
    bos = tokenizer.bos_token_id
    if bos is not None and tokenizer("")["input_ids"][:1] == [bos]:
        found = [ids if ids[:1] == [bos] else [bos, *ids] for ids in found]
    ids_of = dict(zip(distinct, found, strict=True))
    return [ids_of[text] for text in texts]


def encode_pairs(
    chat: Chat,
    prompts: list[list[dict]],
    responses: list[list[dict]],
    options: Options = None,
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of chat messages, prompts and their responses, before length limits.

    Raises:
        UserError: see :func:`poet.data.templates.apply_template` and, with the policy ``paper``,
            :func:`poet.data.templates.check_alone`.
    """
    render = _render_paper if chat.length_policy == "paper" else _render
    return encode_texts(chat, *render(chat, prompts, responses, options))


def encode_texts(
    chat: Chat, prompt_texts: list[str], response_texts: list[str]
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of prompts and of the responses that continue them; a response ends with EOS.

    Prompt and response are tokenized together and split after the prompt's own tokens. Where the
    tokenizer merges across the boundary, ``keep_start`` tokenizes the response by itself, so that
    training sees the prompt as generation does; ``paper`` moves the boundary back to before the
    merged tokens (TRL 0.9.6 does so by one token, and stops with an error where that is too few).
    """
    tokenizer = chat.tokenizer
    prompt_ids = encode(tokenizer, prompt_texts)
    joined = [p + r for p, r in zip(prompt_texts, response_texts, strict=True)]
    response_ids = []
    for row, full in enumerate(encode(tokenizer, joined)):
        start = len(prompt_ids[row])
        if full[:start] != prompt_ids[row]:
            if chat.length_policy == "paper":
                prompt_ids[row] = commonprefix([full, prompt_ids[row]])
                start = len(prompt_ids[row])
            else:
                full, start = _encode_alone(tokenizer, response_texts[row]), 0
        response_ids.append(_with_eos(full[start:], tokenizer.eos_token_id))
    return prompt_ids, response_ids


def encode_both(chat: Chat, rows: dict[str, list]) -> list[tuple[list[int], list[int], list[int]]]:
    """Token ids of prompt, chosen and rejected of every pair, before length limits.

    ``rows`` holds the pairs' messages as columns of those names, and, where
    any row says something to the template, ``options``: see ``row_options``.
    """
    n, options = len(rows["prompt"]), rows.get("options")
    prompts, responses = encode_pairs(
        chat, rows["prompt"] * 2, rows["chosen"] + rows["rejected"], options and options * 2
    )
    pairs = []
    for p, q, c, r in zip(prompts[:n], prompts[n:], responses[:n], responses[n:], strict=True):
        if p != q:  # a boundary that merged: what both have in common is the prompt
            shared = len(commonprefix([p, q]))
            c, r, p = p[shared:] + c, q[shared:] + r, p[:shared]
        pairs.append((p, c, r))
    return pairs


def _render(chat: Chat, prompts, responses, options) -> tuple[list[str], list[str]]:
    prompt_texts = render_prompts(chat, prompts, options)
    whole = chat.text([p + r for p, r in zip(prompts, responses, strict=True)], options)
    response_texts = []
    for prompt, text in zip(prompt_texts, whole, strict=True):
        if not text.startswith(prompt):
            raise UserError(
                "the chat template renders a prompt differently once it has an answer, so training "
                f"and generation would see different prompts.\n  alone:    ...{prompt[-80:]!r}\n"
                f"  answered: ...{text[max(0, len(prompt) - 80) : len(prompt)]!r}\n"
                "Give the tokenizer a template whose generation prompt opens the assistant turn."
            )
        # What a template writes after the end of the turn (a newline, mostly) is never generated.
        response_texts.append(text[len(prompt) :].rstrip())
    return prompt_texts, response_texts


def _render_paper(chat: Chat, prompts, responses, options) -> tuple[list[str], list[str]]:
    check_alone(chat)
    bos = chat.tokenizer.bos_token or ""
    answers = [text.removeprefix(bos) for text in chat.text(responses, options)]
    return chat.text(with_system(chat, prompts), options), answers


def _encode_alone(tokenizer, text: str) -> list[int]:
    """Tokens of ``text`` in the middle of a sequence: no BOS, no invented leading space."""
    for anchor in "\n.a":  # whichever does not merge with the text
        before = tokenizer(anchor, add_special_tokens=False)["input_ids"]
        full = tokenizer(anchor + text, add_special_tokens=False)["input_ids"]
        if full[: len(before)] == before:
            return full[len(before) :]
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _with_eos(ids: list[int], eos: int) -> list[int]:
    return ids if ids and ids[-1] == eos else [*ids, eos]


def limit_lengths(
    prompt: list[int],
    chosen: list[int],
    rejected: list[int],
    max_length: int,
    max_prompt_length: int,
    length_policy: str,
) -> tuple[list[int], list[int], list[int]]:
    """Apply the length limits (tokens) of a policy to one pair; see the module's head."""
    if length_policy == "paper":
        longer = max(len(chosen), len(rejected))
        if len(prompt) + longer > max_length:
            prompt = prompt[-max_prompt_length:]
        if len(prompt) + longer > max_length:
            room = max_length - max_prompt_length
            chosen, rejected = chosen[:room], rejected[:room]
        return prompt, chosen, rejected
    if len(prompt) >= max_length:
        prompt = prompt[-max_prompt_length:]
    room = max_length - len(prompt)
    return prompt, chosen[:room], rejected[:room]


def pair_hash(prompt: list[int], chosen: list[int], rejected: list[int]) -> str:
    """16 hex digits that name a tokenized pair; truncated tables keep the full pair's."""
    ids = array("q", [len(prompt), len(chosen), *prompt, *chosen, *rejected])
    return hashlib.sha256(ids.tobytes()).hexdigest()[:16]


def count_cuts(counts: Counter, before: dict[str, list[int]], after: dict[str, list[int]]) -> None:
    """Add one pair to the table of what the length limits cut."""
    counts["pairs"] += 1
    counts["pairs_touched"] += any(len(before[k]) > len(after[k]) for k in before)
    for name in before:
        counts[f"{name}_tokens"] += len(before[name])
        counts[f"{name}_tokens_dropped"] += len(before[name]) - len(after[name])


def tokenize_rows(chat: Chat, rows: dict[str, list], record: dict) -> tuple[dict, Counter]:
    """Columns of ``tokens.parquet`` for columns of ``pairs.parquet``, and what was cut."""
    limits = [record[k] for k in ("max_length", "max_prompt_length", "length_policy")]
    out, cuts = {name: [] for name in (*IDS, "pair_hash")}, Counter()
    rows = {**rows, "options": options_of(rows)}
    for pair in encode_both(chat, rows):
        before = dict(zip(IDS, pair, strict=True))
        after = dict(zip(IDS, limit_lengths(*pair, *limits), strict=True))
        count_cuts(cuts, before, after)
        for name, ids in {**after, "pair_hash": pair_hash(*after.values())}.items():
            out[name].append(ids)
    return {**out, "prompt_id": rows["prompt_id"], "split": rows["split"]}, cuts


def tokenize_file(source, target, tokenizer, record: dict, workers: int = 1) -> dict:
    """Tokenize ``pairs.parquet`` into ``tokens.parquet``; returns the table of what was cut.

    Columns: prompt_ids, chosen_ids, rejected_ids (list<int32>), pair_hash, prompt_id, split. The
    result does not depend on the number of ``workers`` (processes).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from poet.progress import track

    schema = pa.schema(
        [(name, pa.list_(pa.int32())) for name in IDS]
        + [(name, pa.string()) for name in ("pair_hash", "prompt_id", "split")]
    )
    # Processes and not the tokenizer's threads: templates, cuts and hashes are Python. Forked, so
    # that none of them imports or loads anything.
    chat = Chat.of(tokenizer, record)
    pool = ProcessPoolExecutor(workers, get_context("fork"), _set_up, (chat, record, schema))
    counts: Counter[str] = Counter()
    with pool, pq.ParquetFile(source) as file, publish(target) as temporary:
        total = -(-file.metadata.num_rows // BATCH)
        with pq.ParquetWriter(temporary, schema) as writer:
            batches = _in_order(pool, file.iter_batches(BATCH), 2 * workers)
            for table, cuts in track(batches, total, f"tokenize {record['setting']}"):
                writer.write_table(table)
                counts.update(cuts)
    return {
        **counts,
        "length_policy": record["length_policy"],
        "chat_template_sha256": template_hash(tokenizer),
        "chat_template_kwargs": record["chat_template_kwargs"],
    }


def _in_order(pool: Executor, batches: Iterable, ahead: int) -> Iterator:
    """Results of :func:`_tokenize_batch`, of which at most ``ahead`` wait to be taken."""
    waiting: deque = deque()
    for batch in batches:
        waiting.append(pool.submit(_tokenize_batch, batch))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _set_up(*shared) -> None:
    global _SHARED
    _SHARED = shared
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads on top of processes


def _tokenize_batch(batch):
    import pyarrow as pa

    chat, record, schema = _SHARED
    rows, cuts = tokenize_rows(chat, batch.to_pydict(), record)
    return pa.table(rows, schema=schema), cuts


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Tokenize preference pairs, once for all methods.")
    parser.add_argument("--record", required=True, help="resolved record: JSON or its file")
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--tokenizer", required=True, help="folder of the start model")
    parser.add_argument("--output", required=True, help="tokens.parquet")
    parser.add_argument("--cuts", required=True, help="JSON: what the length limits cut")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args(argv)

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    record = load_record(args.record)
    check_day(tokenizer, record["chat_template_kwargs"])
    cuts = tokenize_file(args.pairs, args.output, tokenizer, record, args.workers)
    write_json(cuts, args.cuts)


if __name__ == "__main__":
    cli(main)
