"""Per-token log-probabilities of the reference model, once per setting.

In a causal model a prefix's log-probabilities do not depend on its suffix, so one pass over the
full pairs serves every truncation, weighting and seed. The cache carries each pair's hash and the
reference model's; ``attach`` refuses a cache of other tokens, other rows or another model.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from poet.files import UserError, cli, load_record, publish

MODEL_KEY = b"poet.reference_model"


def model_digest(folder: str | Path) -> str:
    """sha256 over the safetensors of a model folder, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def token_logps(model, prompts, responses, device, pad: int):
    """log p(response token | prompt, earlier tokens) for one batch, each a list of floats.

    ``prompts`` and ``responses`` are lists of token id lists; ``model`` has TRL's fused head, which
    computes log-probabilities in chunks without keeping the logits.
    """
    import torch

    sequences = [p + r for p, r in zip(prompts, responses, strict=True)]
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), pad)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, (prompt, sequence) in enumerate(zip(prompts, sequences, strict=True)):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
        labels[row, len(prompt) : len(sequence)] = torch.tensor(sequence[len(prompt) :])
    ids, mask, labels = ids.to(device), mask.to(device), labels.to(device)
    with torch.inference_mode():
        out = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
    logps = out.log_probs.float().cpu()
    return [
        logps[row, len(p) - 1 : len(p) - 1 + len(r)].tolist()
        for row, (p, r) in enumerate(zip(prompts, responses, strict=True))
    ]


def compute(model, tokens: dict, batch_size: int, pad: int, label: str) -> dict[str, list]:
    """Columns ref_chosen_logps and ref_rejected_logps for ``tokens`` (columns as lists)."""
    from poet.progress import track

    device = next(model.parameters()).device
    names, rows = ("chosen", "rejected"), range(len(tokens["prompt_ids"]))
    jobs = [(name, row) for name in names for row in rows]
    # Batches of like lengths waste little on padding.
    jobs.sort(key=lambda j: len(tokens["prompt_ids"][j[1]]) + len(tokens[f"{j[0]}_ids"][j[1]]))
    out = {f"ref_{name}_logps": [None] * len(rows) for name in names}
    batches = [jobs[i : i + batch_size] for i in range(0, len(jobs), batch_size)]
    for batch in track(batches, label=label):
        prompts = [tokens["prompt_ids"][row] for _, row in batch]
        responses = [tokens[f"{name}_ids"][row] for name, row in batch]
        for (name, row), logps in zip(
            batch, token_logps(model, prompts, responses, device, pad), strict=True
        ):
            out[f"ref_{name}_logps"][row] = logps
    return out


def attach(tokens, reference, model_folder: str | Path):
    """Add the cached columns to a (truncated) token table, cut to its responses' lengths.

    ``tokens`` and ``reference`` are pyarrow tables in the same row order.

    Raises:
        UserError: the cache belongs to other rows, other tokens or another model.
    """
    import pyarrow as pa

    def refuse(what: str) -> None:
        raise UserError(
            f"the cache of reference log-probabilities does not match: {what}.\n"
            "It was computed from other data, another tokenizer or another model; delete "
            "reference.parquet and run the rule `reference` again."
        )

    if len(tokens) != len(reference):
        refuse(f"{len(reference)} rows in the cache, {len(tokens)} pairs of tokens")
    hashes = zip(tokens["pair_hash"].to_pylist(), reference["pair_hash"].to_pylist(), strict=True)
    for row, (wanted, found) in enumerate(hashes):
        if wanted != found:
            refuse(f"row {row} is pair {wanted}, the cache has {found}")
    made_by = (reference.schema.metadata or {}).get(MODEL_KEY, b"").decode()
    if made_by != model_digest(model_folder):
        refuse(f"made by model {made_by[:16]}, {model_folder} is another")
    for name in ("chosen", "rejected"):
        column = []
        ids, logps = tokens[f"{name}_ids"].to_pylist(), reference[f"ref_{name}_logps"].to_pylist()
        for row, (kept, values) in enumerate(zip(ids, logps, strict=True)):
            if len(kept) > len(values):
                refuse(f"row {row} has {len(kept)} {name} tokens, the cache {len(values)}")
            column.append(values[: len(kept)])
        tokens = tokens.append_column(f"ref_{name}_logps", pa.array(column, pa.list_(pa.float32())))
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
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).to(device).eval()
    add_fused_lm_head(model)
    pad = AutoTokenizer.from_pretrained(args.model).pad_token_id
    columns = compute(
        model,
        table.to_pydict(),
        record["reference_batch_size"],
        pad,
        f"reference {record['setting']}",
    )
    kind = pa.list_(pa.float32())
    schema = pa.schema([("pair_hash", pa.string()), *((name, kind) for name in columns)])
    out = pa.table({"pair_hash": table["pair_hash"], **columns}, schema=schema)
    out = out.replace_schema_metadata({MODEL_KEY: model_digest(args.model)})
    with publish(args.output) as temporary:
        pq.write_table(out, temporary)


if __name__ == "__main__":
    cli(main)
