"""Tokenization, truncation and reference lookup of 60,000 pairs of real lengths, as programs."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.pairs import REAL, SHARED
from poet.files import UserError

COUNT = 60_000
LOOKUP = """
import sys, pyarrow.parquet as pq
from poet.train.reference import attach
tokens, reference, model = sys.argv[1:]
table = attach(pq.read_table(tokens), pq.read_table(reference), model)
assert len(table) == %d and "ref_rejected_logps" in table.column_names
"""


def chain(folder: Path) -> list[dict]:
    """Seconds, with the start of Python, and peak memory of each program.

    Raises:
        UserError: the real pairs are not there.
    """
    if not REAL.exists():
        raise UserError(
            f"{REAL} does not exist; expected the real pairs, in {SHARED} or POET_SHARED"
        )
    pairs, model, cuts = folder / "pairs.parquet", folder / "model", folder / "cuts.json"
    tokens, short, reference = (folder / f"{n}.parquet" for n in ("tokens", "short", "reference"))
    _write_pairs(pairs, model)
    record = {"setting": "benchmark", "max_length": 2048, "max_prompt_length": 1800}
    record = json.dumps({**record, "length_policy": "keep_start"})
    module = [sys.executable, "-m"]
    tokenize = [*module, "poet.data.tokenization", "--record", record, "--pairs", pairs]
    truncate = [*module, "poet.data.truncation", "--tokens", tokens, "--strategy", "poet"]
    found = [
        _run("tokenize", [*tokenize, "--tokenizer", model, "--output", tokens, "--cuts", cuts]),
        _run("truncate", [*truncate, "--output", short]),
    ]
    _write_reference(tokens, reference, model)
    found.append(_run("look up", [sys.executable, "-c", LOOKUP % COUNT, short, reference, model]))
    seconds = round(sum(row["seconds"] for row in found), 2)
    return [
        *found,
        {"program": "all", "seconds": seconds, "peak_gb": max(r["peak_gb"] for r in found)},
    ]


def _run(name: str, command: list) -> dict:
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"{name} ended with {process.returncode}")
    seconds, peak = time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9
    print(f"{name}: {seconds:.1f} s, {peak:.2f} GB", file=sys.stderr, flush=True)
    return {"program": name, "seconds": round(seconds, 2), "peak_gb": round(peak, 3)}


def _write_pairs(path: Path, model: Path) -> None:
    """The real pairs over and over, none like another; and a small model with their tokenizer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from poet.train.scratch import make_model, train_tokenizer

    with gzip.open(REAL, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    texts = (row[name][-1]["content"] for row in rows[::10] for name in ("chosen", "rejected"))
    tokenizer = train_tokenizer(texts, 8192)
    tokenizer.save_pretrained(model)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    make_model(tokenizer, {**sizes, "num_attention_heads": 1}, 2048, 0).save_pretrained(model)
    columns = {name: [] for name in ("prompt", "chosen", "rejected", "prompt_id", "split")}
    for i in range(COUNT):
        row = rows[i % len(rows)]
        columns["prompt"].append(
            [{"role": "user", "content": f"{i} {row['prompt'][-1]['content']}"}]
        )
        for name in ("chosen", "rejected"):
            columns[name].append([{"role": "assistant", "content": row[name][-1]["content"]}])
        columns["prompt_id"].append(str(row["prompt_id"]))
        columns["split"].append("train")
    pq.write_table(pa.table(columns), path)


def _write_reference(tokens: Path, reference: Path, model: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from poet.train.reference import MODEL_KEY, model_digest

    table = pq.read_table(tokens)
    columns = {"pair_hash": table["pair_hash"]}
    for side in ("chosen", "rejected"):
        ids = table[f"{side}_ids"].combine_chunks()
        values = pa.array(np.random.default_rng(0).normal(-2, 1, len(ids.values)), pa.float32())
        columns[f"ref_{side}_logps"] = pa.ListArray.from_arrays(ids.offsets, values)
    out = pa.table(columns).replace_schema_metadata({MODEL_KEY: model_digest(model)})
    pq.write_table(out, reference)
