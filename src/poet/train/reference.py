"""Per-token log-probabilities of the reference model, once per setting.

In a causal model a prefix's log-probabilities do not depend on its suffix, so one pass over the
full pairs serves every truncation, weighting and seed. The cache carries each pair's hash and the
reference model's; ``attach`` refuses a cache of other tokens, other rows or another model.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from poet.data.repositories import loading
from poet.data.truncation import prefixes
from poet.files import UserError, cli, load_record, publish

MODEL_KEY = b"poet.reference_model"


def model_digest(folder: str | Path) -> str:
    """sha256 over the safetensors of a model folder, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def compute(model, tokens, batch_size: int, pad: int | None, label: str) -> dict:
    """Columns ref_chosen_logps and ref_rejected_logps, list<float32>, for a table of tokens.

    ``tokens`` is a pyarrow table; ``model`` has TRL's fused head; ``batch_size`` counts responses.
    Batches are of like lengths, so they waste little on padding.
    """
    import numpy as np
    import pyarrow as pa
    import torch

    from poet.progress import track
    from poet.train.forward import pad_sequences, padded, response_mask

    names = ("chosen", "rejected")
    ids = {n: tokens[f"{n}_ids"].combine_chunks() for n in ("prompt", *names)}
    lengths = {n: column.value_lengths().to_numpy() for n, column in ids.items()}
    ends = {n: np.concatenate([[0], np.cumsum(lengths[n])]) for n in names}
    values = {n: np.empty(ends[n][-1], np.float32) for n in names}
    order = np.argsort(
        np.concatenate([lengths["prompt"] + lengths[n] for n in names]), kind="stable"
    )
    device = next(model.parameters()).device
    starts = range(0, len(order), batch_size)
    for batch in track([order[i : i + batch_size] for i in starts], label=label):
        jobs = [(names[i // len(tokens)], i % len(tokens)) for i in batch.tolist()]
        responses = [ids[name][row].as_py() for name, row in jobs]
        inputs = pad_sequences([ids["prompt"][row].as_py() for _, row in jobs], responses, pad)
        inputs["mask"] = response_mask(responses)
        with torch.inference_mode():
            logps = padded(model, {name: value.to(device) for name, value in inputs.items()})
        for (name, row), found in zip(jobs, logps.float().cpu().numpy(), strict=True):
            start, end = ends[name][row : row + 2]
            values[name][start:end] = found[: end - start]
    return {
        f"ref_{n}_logps": pa.ListArray.from_arrays(pa.array(ends[n], pa.int32()), values[n])
        for n in names
    }


def attach(tokens, reference, model_folder: str | Path):
    """Add the cached columns to a (truncated) token table, cut to its responses' lengths.

    ``tokens`` and ``reference`` are pyarrow tables in the same row order.

    Raises:
        UserError: the cache belongs to other rows, other tokens or another model.
    """
    import numpy as np
    import pyarrow.compute as pc

    def refuse(what: str) -> None:
        raise UserError(
            f"the cache of reference log-probabilities does not match: {what}.\n"
            "It was computed from other data, another tokenizer or another model; delete "
            "reference.parquet and run the rule `reference` again."
        )

    def first(column):
        rows = np.flatnonzero(column.to_numpy())
        return int(rows[0]) if len(rows) else None

    if len(tokens) != len(reference):
        refuse(f"{len(reference)} rows in the cache, {len(tokens)} pairs of tokens")
    wanted, found = tokens["pair_hash"], reference["pair_hash"]
    if (row := first(pc.not_equal(wanted, found))) is not None:
        refuse(f"row {row} is pair {wanted[row]}, the cache has {found[row]}")
    made_by = (reference.schema.metadata or {}).get(MODEL_KEY, b"").decode()
    if made_by != model_digest(model_folder):
        refuse(f"made by model {made_by[:16]}, {model_folder} is another")
    for name in ("chosen", "rejected"):
        cached = reference[f"ref_{name}_logps"]
        kept = pc.list_value_length(tokens[f"{name}_ids"])
        there = pc.list_value_length(cached)
        if (row := first(pc.greater(kept, there))) is not None:
            refuse(f"row {row} has {kept[row]} {name} tokens, the cache {there[row]}")
        tokens = tokens.append_column(f"ref_{name}_logps", prefixes(cached, kept.to_numpy()))
    return tokens


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Per-token reference log-probabilities.")
    parser.add_argument("--record", required=True, help="resolved record: JSON or its file")
    parser.add_argument("--tokens", required=True, help="tokens.parquet (full pairs)")
    parser.add_argument("--model", required=True, help="folder of the reference model")
    parser.add_argument("--output", required=True, help="reference.parquet")
    args = parser.parse_args(argv)
    record = load_record(args.record)

    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.utils import add_fused_lm_head

    torch.set_num_threads(record["torch_threads"])
    table = pq.read_table(args.tokens)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, **loading(record))
    model = model.to(device).eval()
    add_fused_lm_head(model)
    pad = AutoTokenizer.from_pretrained(args.model).pad_token_id
    columns = compute(
        model,
        table,
        record["reference_batch_size"],
        pad,
        f"reference {record['setting']}",
    )
    out = pa.table({"pair_hash": table["pair_hash"], **columns})
    out = out.replace_schema_metadata({MODEL_KEY: model_digest(args.model)})
    with publish(args.output) as temporary:
        pq.write_table(out, temporary)


if __name__ == "__main__":
    cli(main)
