"""How ours scales: time per useful token and memory over pairs and budgets; 60,000 pairs' data.

Every measurement is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.compare import quiet
from benchmarks.data_chain import chain
from benchmarks.pairs import SIDES, load
from poet.files import cli, write_json
from poet.provenance import provenance

PAIRS = (100, 1000, 10_000)
BUDGETS = (512, 1024, 2048, 4096)
MIDDLE = {"pairs": 1000, "budget": 1024}  # of the one while the other varies
ROUNDS, TURNS, BATCH = 3, 3, 50  # a round: all but the largest in TURNS turns, then that one
SHRINK = 16  # lengths are a sixteenth of the real ones, so that 10,000 pairs are minutes
SHAPE = {  # large enough that arithmetic is what takes the time, not the calls of its operations
    "vocab_size": 1024, "hidden_size": 256, "intermediate_size": 896,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1,
}  # fmt: skip


def train(pairs: int, budget: int) -> dict:
    """One epoch: microseconds per useful token, and memory that the training adds, in GB."""
    import torch
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig

    from benchmarks.case import multiplied
    from benchmarks.measure import Watch, forget_peak, peak_gb
    from benchmarks.peers import arguments
    from poet.train.onednn import choose
    from poet.train.packing import packed_size
    from poet.train.trainer import PreferenceTrainer

    found = load(400, SHAPE["vocab_size"])
    names = [f"{name}_ids" for name in ("prompt", *SIDES)]
    rows = {"pair_hash": [f"{i:016x}" for i in range(pairs)]}
    for name in names:
        short = [[t % SHAPE["vocab_size"] for t in ids[::SHRINK]] for ids in found.short[name]]
        rows[name] = (short * -(-pairs // len(short)))[:pairs]
    for side in SIDES:
        rows[f"ref_{side}_logps"] = [[-7.0] * len(ids) for ids in rows[f"{side}_ids"]]
    triples = zip(*(rows[name] for name in names), strict=True)
    useful = sum(packed_size(*map(len, triple)) for triple in triples)
    torch.manual_seed(0)

    def build(count: int) -> PreferenceTrainer:
        return PreferenceTrainer(
            model=LlamaForCausalLM(LlamaConfig(**SHAPE)),
            args=DPOConfig(**arguments("cpu", BATCH, BATCH)),
            objective="dpo",
            parameters={"beta": 0.1},
            forward="packed",
            token_budget=budget,
            train_dataset=Dataset.from_dict({k: v[:count] for k, v in rows.items()}),
            processing_class=found.tokenizer,
        )

    make = multiplied(build, choose("auto", SHAPE["hidden_size"])["by"])
    make(BATCH).train()  # what is made once per process
    trainer = make(pairs)
    watch = Watch("cpu")
    trainer.add_callback(watch)
    forget_peak("cpu")
    before = peak_gb("cpu")
    trainer.train()
    return {
        "useful_tokens": useful,
        "us_per_useful_token": 1e6 * watch.seconds / useful,
        "added_gb": peak_gb("cpu") - before,
    }


def in_processes() -> list[dict]:
    """Medians over all pairs and budgets, in turns; the largest, which takes a minute, in fewer."""
    *short, largest = (MIDDLE | {"pairs": n} for n in PAIRS)
    short += [MIDDLE | {"budget": b} for b in BUDGETS if b != MIDDLE["budget"]]
    found = [(point, []) for point in [*short, largest]]
    for point, results in (found[:-1] * TURNS + found[-1:]) * ROUNDS:
        flags = [text for name, value in point.items() for text in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "benchmarks.scaling", *flags]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(point, results[-1], file=sys.stderr, flush=True)
    return [
        {**point, "runs": len(results)}
        | {key: statistics.median(r[key] for r in results) for key in results[0]}
        for point, results in found
    ]


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Scaling over pairs, budgets, and data.")
    parser.add_argument("--output", type=Path, help="JSON of everything")
    parser.add_argument("--pairs", type=int, help="one measurement, printed: pairs")
    parser.add_argument("--budget", type=int, help="one measurement, printed: tokens per row")
    args = parser.parse_args(argv)
    if args.pairs:
        print(json.dumps(train(args.pairs, args.budget)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = chain(Path(folder))
    result = {"training": in_processes(), "data": data, "cores": os.cpu_count(), **provenance()}
    write_json(result, args.output)
    print(json.dumps({key: result[key] for key in ("training", "data")}, indent=1))


if __name__ == "__main__":
    quiet()
    cli(main)
