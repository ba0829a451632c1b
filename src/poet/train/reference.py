"""Per-token log-probabilities of the reference model, once per setting.

In a causal model a prefix's log-probabilities do not depend on its suffix, so one pass over the
full pairs serves every truncation, weighting and seed. The cache carries each pair's hash and the
reference model's; ``attach`` refuses a cache of other tokens, other rows or another model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from poet.data.truncation import prefixes
from poet.files import UserError, cli, publish, record_parser, sha256
from poet.hub.folders import loading, whole_model
from poet.methods import SIDES
from poet.precision import device_and_dtype
from poet.progress import track
from poet.sizes.architecture import Architecture
from poet.sizes.batches import filled

# Metadata of the cache: the digest of the model, the outcome of poet.train.onednn.choose, dtype.
MODEL_KEY, PRODUCTS_KEY, DTYPE_KEY = (
    b"poet.reference_model", b"poet.matrix_products", b"poet.computed_in"
)  # fmt: skip


def model_digest(folder: str | Path) -> str:
    """sha256 over the safetensors of a model folder, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.safetensors")):
        digest.update(bytes.fromhex(sha256(path)))
    return digest.hexdigest()


def compute(
    model, tokens, batch_size: int, pad: int | None, label: str, token_budget: int | None = None
) -> dict:
    """Columns ref_chosen_logps and ref_rejected_logps, list<float32>, for a table of tokens.

    ``tokens`` is a pyarrow table. With a ``token_budget``, pairs are packed and ``model`` has
    :func:`poet.train.packing.add_packed_forward`; without, ``batch_size`` counts responses, padded
    with ``pad``, and ``model`` has TRL's fused head.
    """
    ids = {n: tokens[f"{n}_ids"].combine_chunks() for n in ("prompt", *SIDES)}
    lengths = {n: column.value_lengths().to_numpy() for n, column in ids.items()}
    ends = {n: np.concatenate([[0], np.cumsum(lengths[n])]) for n in SIDES}
    values = {n: np.empty(ends[n][-1], np.float32) for n in SIDES}
    if token_budget:
        found = _packed(model, ids, lengths, token_budget)
    else:
        found = _padded(model, ids, lengths, batch_size, pad)
    for name, row, logps in track(found, total=2 * len(tokens), label=label):
        start, end = ends[name][row : row + 2]
        values[name][start:end] = logps[: end - start]
    return {
        f"ref_{n}_logps": pa.ListArray.from_arrays(pa.array(ends[n], pa.int32()), values[n])
        for n in SIDES
    }


def _packed(model, ids: dict, lengths: dict, token_budget: int) -> Iterator[tuple]:
    """(side, row, log-probabilities) of every response, from rows of whole pairs."""
    from poet.train.packing import packed_logps

    order = np.argsort(sum(lengths.values()), kind="stable").tolist()
    at_once = 256  # pairs as Python lists
    for rows in (order[i : i + at_once] for i in range(0, len(order), at_once)):
        pairs = [tuple(ids[n][row].as_py() for n in ("prompt", *SIDES)) for row in rows]
        for row, found in zip(rows, packed_logps(model, pairs, token_budget), strict=True):
            for name, logps in zip(SIDES, found, strict=True):
                yield name, row, logps


def _padded(model, ids: dict, lengths: dict, batch_size: int, pad) -> Iterator[tuple]:
    """The same from batches of single responses, of like lengths to waste little on padding."""
    import torch

    from poet.train.forward import pad_sequences, padded, response_mask

    count = len(ids["prompt"])
    tokens = np.concatenate([lengths["prompt"] + lengths[n] for n in SIDES])
    order = np.argsort(tokens, kind="stable")
    device = next(model.parameters()).device
    for batch in (order[i : i + batch_size] for i in range(0, len(order), batch_size)):
        jobs = [(SIDES[i // count], i % count) for i in batch.tolist()]
        responses = [ids[name][row].as_py() for name, row in jobs]
        inputs = pad_sequences([ids["prompt"][row].as_py() for _, row in jobs], responses, pad)
        inputs["mask"] = response_mask(responses)
        with torch.inference_mode():
            logps = padded(model, {name: value.to(device) for name, value in inputs.items()})
        for (name, row), found in zip(jobs, logps.float().cpu().numpy(), strict=True):
            yield name, row, found


def longest(tokens) -> tuple[int, int]:
    """Tokens of the longest pair behind one prompt, and of the longest response with its prompt."""
    prompt, *sides = (pc.list_value_length(tokens[f"{name}_ids"]) for name in ("prompt", *SIDES))
    pair = pc.add(pc.add(prompt, sides[0]), sides[1])
    return pc.max(pair).as_py(), pc.max(pc.add(prompt, pc.max_element_wise(*sides))).as_py()


def attach(tokens, reference, model_folder: str | Path):
    """Add the cached columns to a (truncated) token table, cut to its responses' lengths.

    ``tokens`` and ``reference`` are pyarrow tables in the same row order.

    Raises:
        UserError: the cache belongs to other rows, other tokens or another model.
    """

    def refuse(what: str) -> None:
        raise UserError(
            f"the cache of reference log-probabilities does not match: {what}.\n"
            "It was computed from other data, another tokenizer or another model; delete "
            "reference.parquet and run the rule `reference` again."
        )

    if len(tokens) != len(reference):
        refuse(f"{len(reference)} rows in the cache, {len(tokens)} pairs of tokens")
    wanted, found = tokens["pair_hash"], reference["pair_hash"]
    if (row := pc.index(pc.not_equal(wanted, found), True).as_py()) >= 0:
        refuse(f"row {row} is pair {wanted[row]}, the cache has {found[row]}")
    made_by = (reference.schema.metadata or {}).get(MODEL_KEY, b"").decode()
    if made_by != model_digest(model_folder):
        refuse(f"made by model {made_by[:16]}, {model_folder} is another")
    for name in SIDES:
        cached = reference[f"ref_{name}_logps"]
        kept = pc.list_value_length(tokens[f"{name}_ids"])
        there = pc.list_value_length(cached)
        if (row := pc.index(pc.greater(kept, there), True).as_py()) >= 0:
            refuse(f"row {row} has {kept[row]} {name} tokens, the cache {there[row]}")
        tokens = tokens.append_column(f"ref_{name}_logps", prefixes(cached, kept.to_numpy()))
    return tokens


def main(argv=None) -> None:
    parser = record_parser(__doc__, "reference.parquet")
    parser.add_argument("--tokens", required=True, help="tokens.parquet (full pairs)")
    parser.add_argument("--model", required=True, help="folder of the reference model")
    args = parser.parse_args(argv)
    record = args.record

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.utils import add_fused_lm_head

    from poet.train.forward import choose_forward
    from poet.train.onednn import choose, products
    from poet.train.packing import add_packed_forward
    from poet.train.run import shrinking

    torch.set_num_threads(record["torch_threads"])
    table = pq.read_table(args.tokens)
    device, dtype = device_and_dtype(record["dtype"])  # as the training computes
    model = whole_model(AutoModelForCausalLM, args.model, dtype=torch.float32, **loading(record))
    model = model.to(device).eval()
    settings = filled(record, Architecture.found(model.config.to_dict()), *longest(table))
    settings["forward"] = choose_forward(record["forward"], model.config)
    if packed := settings["forward"] == "packed":
        add_packed_forward(model)
    else:
        add_fused_lm_head(model)
    width = model.get_input_embeddings().weight.shape[1]
    chosen = choose(record.get("matrix_products", "auto"), width)
    half, label = dtype is torch.bfloat16, f"reference {record['setting']}"
    pad = AutoTokenizer.from_pretrained(args.model).pad_token_id

    def passes(of: dict) -> dict:
        budget = of["token_budget"] if packed else None
        return compute(model, table, of["reference_batch_size"], pad, label, budget)

    with torch.autocast(device, dtype, enabled=half), products(chosen["by"]):
        columns = shrinking(settings, passes)
    about = {
        MODEL_KEY: model_digest(args.model),
        PRODUCTS_KEY: json.dumps(chosen),
        DTYPE_KEY: str(dtype).removeprefix("torch."),
    }
    out = pa.table({"pair_hash": table["pair_hash"], **columns}, metadata=about)
    with publish(args.output) as temporary:
        pq.write_table(out, temporary)


if __name__ == "__main__":
    cli(main)
