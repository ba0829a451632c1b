"""bfloat16 beside float32 in turns, on the same pairs and weights: speed, and what rounding does.

``make benchmark-half``, on a processor that multiplies bfloat16. Elsewhere it runs too, emulated
and slowly, and says so.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    TrainerCallback,
)
from trl import DPOConfig

from benchmarks.case import SHAPES, multiplied, synchronize
from benchmarks.compare import quiet
from benchmarks.measure import interleaved
from benchmarks.pairs import SIDES, Pairs, load
from benchmarks.peers import arguments
from poet.evaluate.sampling import sample
from poet.files import cli, write_json
from poet.precision import multiplies_bfloat16
from poet.provenance import provenance
from poet.train.onednn import choose, products
from poet.train.packing import add_packed_forward, packed_logps
from poet.train.rates import PREFERENCE, learning_rate
from poet.train.trainer import PreferenceTrainer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BATCH, TOKEN_BUDGET = 8, 1024  # as in the comparison with the peers
RATE = 1e-4  # for random weights; a given model's is the project's own
ANSWERS, NEW_TOKENS = 16, 64


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Compare bfloat16 with float32.")
    parser.add_argument("--model", type=Path, help="folder; default: a Llama of the cpu shape")
    parser.add_argument("--steps", type=int, default=32, help="optimizer steps of a training")
    parser.add_argument("--turns", type=int, default=3, help="interleaved rounds")
    parser.add_argument("--output", required=True, type=Path, help="JSON; a table goes beside it")
    args = parser.parse_args(argv)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(os.cpu_count())
    model, tokenizer = _model(args.model)
    size = model.config.vocab_size
    pairs = load(BATCH * args.steps, size, tokenizer=tokenizer)
    model.to(device)
    by = choose("auto", model.config.hidden_size)["by"]
    with products(by):
        reference, cached = _reference(model, pairs, device, args.turns)
    settings = {
        "learning_rate": "auto" if args.model else RATE,
        "num_train_epochs": 1,
        "global_batch_size": BATCH,
    }
    rate = learning_rate(settings, PREFERENCE, model.num_parameters(), BATCH * args.steps)
    result = {
        "model": args.model.name if args.model else "Llama of the cpu shape, random weights",
        "parameters": model.num_parameters(),
        "device": device,
        "multiplies_bfloat16": multiplies_bfloat16(device),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "pairs": pairs.source,
        "steps": args.steps,
        "turns": args.turns,
        "learning_rate": rate,
        "float32_products_by": by,
        "training": _training(model, pairs, cached, rate, device, args.turns, by),
        "reference": reference,
        "sampling": _sampling(model, pairs, device, args.turns),
        **provenance(),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(result, args.output)
    args.output.with_suffix(".md").write_text(markdown(result))
    print(markdown(result))


def _model(folder: Path | None) -> tuple:
    if folder:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPES["cpu"], max_position_embeddings=4096)), None


class Losses(TrainerCallback):
    """Keeps the loss of each step, and not the trainer, whose memory is measured."""

    def __init__(self, losses: list[float]):
        self.losses = losses

    def on_train_end(self, args, state, control, **kwargs):
        self.losses[:] = [row["loss"] for row in state.log_history if "loss" in row]


def _training(model, pairs: Pairs, cached: dict, rate: float, device: str, turns: int, by) -> dict:
    """Whole trainings, each with its dtype's reference: seconds and loss of a step, peak memory."""
    losses = {dtype: [] for dtype in DTYPES}

    def build(dtype: str) -> PreferenceTrainer:
        trainer = PreferenceTrainer(
            model=copy.deepcopy(model),
            args=DPOConfig(
                **arguments(device, BATCH, BATCH, learning_rate=rate, logging_steps=1)
                | {"bf16": dtype == "bfloat16"}
            ),
            objective="dpo",
            parameters={"beta": 0.1},
            forward="packed",
            token_budget=TOKEN_BUDGET,
            train_dataset=Dataset.from_dict({**pairs.short, **cached[dtype]}),
            processing_class=pairs.tokenizer,
        )
        trainer.add_callback(Losses(losses[dtype]))
        return trainer

    arms = {dtype: partial(multiplied(build, by), dtype) for dtype in DTYPES}
    found = interleaved(arms, (), turns, device, say=partial(print, flush=True))
    seconds = {d: [run.seconds / len(losses[d]) for run in runs] for d, runs in found.items()}
    return {
        **_compared(seconds, losses["float32"], losses["bfloat16"]),
        "peak_gb": {dtype: median(run.peak_gb for run in runs) for dtype, runs in found.items()},
        "losses": losses,
    }


def _reference(model, pairs: Pairs, device: str, turns: int) -> tuple[dict, dict]:
    """Seconds of the pass over all full pairs; and by dtype its columns, as trainings have them."""
    reader = copy.deepcopy(model).eval()
    add_packed_forward(reader)
    triples = list(zip(*(pairs.full[f"{n}_ids"] for n in ("prompt", *SIDES)), strict=True))
    found = {}

    def read(dtype: str) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            found[dtype] = packed_logps(reader, triples, TOKEN_BUDGET)

    seconds = _in_turns(read, device, turns)
    flat = {
        dtype: torch.cat([x for pair in of for x in pair]).numpy() for dtype, of in found.items()
    }
    cached = {
        dtype: {
            f"ref_{side}_logps": [
                logps[i][: len(ids)].tolist()
                for logps, ids in zip(of, pairs.short[f"{side}_ids"], strict=True)
            ]
            for i, side in enumerate(SIDES)
        }
        for dtype, of in found.items()
    }
    return _compared(seconds, flat["float32"], flat["bfloat16"]), cached


def _sampling(model, pairs: Pairs, device: str, turns: int) -> dict:
    """Seconds per token of answers by weights in each dtype."""
    ids = pairs.full["prompt_ids"][:ANSWERS]
    models = {name: copy.deepcopy(model).to(dtype).eval() for name, dtype in DTYPES.items()}
    sampling = {
        "temperature": 1.0, "top_p": 1.0, "max_new_tokens": NEW_TOKENS, "batch_size": ANSWERS,
        "stop_token_ids": [pairs.tokenizer.eos_token_id],
    }  # fmt: skip
    written = {dtype: [] for dtype in DTYPES}

    def write(dtype: str) -> None:
        answers = sample(models[dtype], pairs.tokenizer, ids, sampling, 0, dtype)
        written[dtype].append(sum(len(tokens) for tokens, _ in answers))

    seconds = _in_turns(write, device, turns)
    per_token = {
        dtype: [took / n for took, n in zip(seconds[dtype], written[dtype][1:], strict=True)]
        for dtype in DTYPES
    }
    return _compared(per_token)


def _in_turns(work, device: str, turns: int) -> dict[str, list[float]]:
    """Seconds of ``work(dtype)``, every other round backwards; the first round only warms up."""
    seconds = {dtype: [] for dtype in DTYPES}
    for turn in range(turns + 1):
        for dtype in [*DTYPES][:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            work(dtype)
            synchronize(device)
            if turn:
                seconds[dtype].append(time.perf_counter() - start)
    return seconds


def _compared(seconds: dict[str, list[float]], wide=None, narrow=None) -> dict:
    """Seconds, how many times as fast bfloat16 is by their medians, and differences of values."""
    medians = {dtype: median(each) for dtype, each in seconds.items()}
    found = {"seconds": seconds, "speed": medians["float32"] / medians["bfloat16"]}
    if wide is not None:
        apart = np.abs(np.subtract(wide, narrow, dtype=np.float64))
        found["largest_difference"] = float(apart.max())
        found["mean_difference"] = float(apart.mean())
    return found


def markdown(result: dict) -> str:
    """What was compared, and a row each."""
    native = "multiplies bfloat16" if result["multiplies_bfloat16"] else "emulates bfloat16"
    lines = [
        f"{result['model']}, {result['parameters']:,} parameters; {result['turns']} turns of "
        f"{result['steps']} steps of {BATCH} pairs, medians; {result['pairs']}.",
        f"Machine: {result['hardware']}, {result['threads']} threads, {result['capability']}; its "
        f"{result['device']} {native}; products of float32 by {result['float32_products_by']}.",
        "",
        "| | float32 | bfloat16 | bfloat16 is | largest difference | mean difference |",
        "|---|---|---|---|---|---|",
    ]
    rows = {
        "training": ("a step", "of losses"),
        "reference": ("all pairs", "of a token's log-probability"),
        "sampling": ("a token", ""),
    }
    for name, (of, what) in rows.items():
        found = result[name]
        took = (f"{median(each):.3g} s" for each in found["seconds"].values())
        apart = [f"{found[k]:.1e}" for k in ("largest_difference", "mean_difference") if k in found]
        shown = [f"{value} {what}" for value in apart] or ["", ""]
        cells = [f"{name}, {of}", *took, f"{found['speed']:.2f} x", *shown]
        lines.append(f"| {' | '.join(cells)} |")
    peaks = (f"{gb:.2f} GB in {dtype}" for dtype, gb in result["training"]["peak_gb"].items())
    lines += ["", f"Peak memory of the training: {', '.join(peaks)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    quiet()
    cli(main)
