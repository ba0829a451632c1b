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

import hashlib
import os
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context

from poet.data.encoding import encode_both, encode_prompts
from poet.data.ends import Stray, defect
from poet.data.model_limits import add_needs, check_prompts, check_tokens
from poet.data.pairs import BadRow, refuse_bad
from poet.data.template_checks import check_template
from poet.data.templates import Chat, template_hash
from poet.files import UserError, cli, publish, read_jsonl, record_parser, write_json

BATCH = 1000  # pairs rendered and tokenized at a time
IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
KEPT = ("prompt_id", "split")  # columns of the pairs
COLUMNS = (*IDS, "pair_hash", "row", *KEPT)


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


def tokenize_rows(
    chat: Chat, rows: list[dict], record: dict
) -> tuple[dict, Counter, list[tuple[int, BadRow]]]:
    """Columns of ``tokens.parquet`` for rows of ``pairs.parquet``, and what was cut.

    Pairs whose tokens would not be their answers are left out; of each the place among the rows
    and what is wrong.

    Raises:
        UserError: see :func:`poet.data.encoding.encode_pairs`.
    """
    limits = [record[k] for k in ("max_length", "max_prompt_length", "length_policy")]
    out, cuts, bad = {name: [] for name in COLUMNS}, Counter(), []
    stray = Stray(chat)
    for place, (row, pair) in enumerate(zip(rows, encode_both(chat, rows), strict=True)):
        if found := defect(stray.in_messages, row, pair):
            bad.append((place, found))
            continue
        cut = limit_lengths(*pair, *limits)
        cuts["pairs"] += 1
        cuts["pairs_touched"] += [*map(len, cut)] != [*map(len, pair)]
        for name, whole, kept in zip(IDS, pair, cut, strict=True):
            cuts[f"{name}_tokens"] += len(whole)
            cuts[f"{name}_tokens_dropped"] += len(whole) - len(kept)
        cuts["pairs_equal_once_cut"] += cut[1] == cut[2]
        cuts["prompts_with_special_tokens"] += stray.in_messages(row["prompt"]) is not None
        values = (*cut, pair_hash(*cut), place, *(row[name] for name in KEPT))
        for name, value in zip(COLUMNS, values, strict=True):
            out[name].append(value)
    return out, cuts, bad


def tokenize_file(source, target, tokenizer, record: dict, workers: int = 1) -> dict:
    """Tokenize ``pairs.parquet`` into ``tokens.parquet``; returns the table of what was cut.

    Columns: prompt_ids, chosen_ids, rejected_ids (list<int32>), pair_hash, row (of the source),
    prompt_id, split. The result does not depend on the number of ``workers`` (processes).

    Raises:
        UserError: pairs that :func:`poet.data.ends.defect` names, unless the record's ``bad_rows``
            is ``drop`` and each split has others; or the first row that the template refuses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from poet.progress import track

    kinds = {**dict.fromkeys(IDS, pa.list_(pa.int32())), "row": pa.int32()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    # Processes and not the tokenizer's threads: templates, cuts and hashes are Python. Forked, so
    # that none of them imports or loads anything.
    chat = Chat.of(tokenizer, record)
    shared = (chat, record, schema, source)
    pool = ProcessPoolExecutor(workers, get_context("fork"), _set_up, shared)
    counts, splits, bad = Counter(), Counter(), []
    with pool, pq.ParquetFile(source) as file, publish(target) as temporary:
        total = -(-file.metadata.num_rows // BATCH)
        with pq.ParquetWriter(temporary, schema) as writer:
            batches = _in_order(pool, file.iter_batches(BATCH), 2 * workers)
            for table, cuts, left_out in track(batches, total, f"tokenize {record['setting']}"):
                writer.write_table(table)
                counts.update(cuts)
                splits.update(table["split"].to_pylist())
                bad += left_out
        dropped = refuse_bad(bad, counts["pairs"], str(source), record.get("bad_rows", "error"))
        if bad and not (splits["train"] and splits["test"]):
            raise UserError(
                f"{source}: {len(bad)} pairs are left out ({', '.join(sorted(dropped))}), and none "
                f"is left of the split {'test' if splits['train'] else 'train'}. Give more rows."
            )
    return {
        **counts,
        "dropped": dict(sorted(dropped.items())),
        "length_policy": record["length_policy"],
        "chat_template_sha256": template_hash(tokenizer),
        "chat_template_kwargs": chat.template_kwargs,
    }


def _in_order(pool: Executor, batches: Iterable, ahead: int) -> Iterator:
    """Results of :func:`_tokenize_batch`, of which at most ``ahead`` wait to be taken."""
    waiting: deque[Future] = deque()
    for start, batch in zip(count(0, BATCH), batches, strict=False):
        waiting.append(pool.submit(_tokenize_batch, batch, start))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    yield from (future.result() for future in waiting)


def _set_up(*shared) -> None:
    global _SHARED
    _SHARED = shared
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads on top of processes


def _tokenize_batch(batch, start: int):
    import pyarrow as pa

    chat, record, schema, source = _SHARED
    rows = batch.to_pylist()
    names = [
        f"row {number} (prompt {row['prompt'][-1]['content'][:60]!r})"
        for number, row in enumerate(rows, start + 1)
    ]
    try:
        out, cuts, bad = tokenize_rows(chat, rows, record)
    except UserError:  # of some row
        for row, name in zip(rows, names, strict=True):
            try:
                tokenize_rows(chat, [row], record)
            except UserError as error:
                raise UserError(f"{source}, {name}: {error}") from None
        raise
    out["row"] = [start + place for place in out["row"]]
    return pa.table(out, schema=schema), cuts, [(names[place], found) for place, found in bad]


def main(argv=None) -> None:
    parser = record_parser(__doc__, "tokens.parquet")
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--tokenizer", required=True, help="folder of the start model")
    parser.add_argument("--prompts", help="prompts.jsonl, to check against the model's positions")
    add_needs(parser)
    parser.add_argument("--cuts", required=True, help="JSON: what the length limits cut")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args(argv)

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    record = args.record
    check_template(tokenizer, record.get("chat_template_kwargs", {}))
    cuts = tokenize_file(args.pairs, args.output, tokenizer, record, args.workers)
    if args.prompts:
        ids = encode_prompts(Chat.of(tokenizer, record), read_jsonl(args.prompts))
        check_prompts(args.tokenizer, tokenizer, args.needs, ids)
        check_tokens(args.tokenizer, tokenizer, args.output)
    write_json(cuts, args.cuts)


if __name__ == "__main__":
    cli(main)
