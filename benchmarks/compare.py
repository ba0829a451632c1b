"""Ours and its peers in turns, on the same pairs and weights: speed, memory, loss and gradients.

``make benchmark`` runs it on the CPU, ``make benchmark-gpu`` on one GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from functools import partial
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.case import SHAPES, Case, make_case, matmul_rate, multiplied, useful_flops
from benchmarks.measure import interleaved, run
from benchmarks.ours import ours
from benchmarks.pairs import load
from benchmarks.peers import released, trl_dpo, trl_simpo
from poet.files import cli, write_json
from poet.provenance import provenance
from poet.train.onednn import products

MICRO_BATCHES = (1, 2, 4, 8)
TWICE = ("trl_best", "ours")  # a round: their ratio is the one that is small
DEVICES = {  # pairs per step (a multiple of the micro-batches), tokens per packed row
    "cpu": {"pairs": 8, "token_budget": 1024},
    "1b": {"pairs": 64, "token_budget": 16384},
    "8b": {"pairs": 64, "token_budget": 16384},
}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Compare training speed with the peers.")
    parser.add_argument("--shape", choices=SHAPES, default="cpu", help="model; 1b and 8b: a GPU")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--pairs", type=int, help="pairs per step, in place of the shape's")
    parser.add_argument("--arms", nargs="*", help="only these")
    parser.add_argument("--output", required=True, type=Path, help="JSON; a table goes beside it")
    args = parser.parse_args(argv)

    device = "cpu" if args.shape == "cpu" else "cuda"
    if device == "cpu":
        torch.set_num_threads(os.cpu_count())
    settings = DEVICES[args.shape] | ({"pairs": args.pairs} if args.pairs else {})
    vocabulary = SHAPES[args.shape]["vocab_size"]
    pairs = load(settings["pairs"], min(vocabulary, 8192))
    case = make_case(args.shape, pairs, device, settings["token_budget"])
    rates = {}
    for by in ("torch", "onednn"):
        with products(by):
            rates[by] = matmul_rate(device)
    rate = max(rates.values())
    say = partial(print, file=sys.stderr, flush=True)
    say(f"{pairs.source}; {case.count} pairs a step; matrix products {rate / 1e9:.0f} GFLOP/s")
    for build in (
        multiplied(ours, case.products["by"]),
        partial(trl_dpo, micro=1, checkpointing=False, precomputed=True),
    ):
        run(partial(build, case), device)  # warms up what is made once per process
    best, tried = sweep(case, device, say)
    arms = {
        name: build for name, build in all_arms(case, best).items()
        if not args.arms or name in args.arms
    }  # fmt: skip
    runs = interleaved(arms, TWICE, args.repeats, device, say)
    result = {
        "arms": report.summarise(runs, case.count, useful_flops(case), rate),
        "trl_sweep": tried,
        "shape": {"name": args.shape, **SHAPES[args.shape]},
        "pairs": {"per_step": case.count, "source": pairs.source, **report.lengths(pairs)},
        "token_budget": settings["token_budget"],
        "repeats": args.repeats,
        "threads": torch.get_num_threads(),
        "matmul_gflops_per_s": round(rate / 1e9, 1),
        "torch_matmul_gflops_per_s": round(rates["torch"] / 1e9, 1),
        "matrix_products": case.products,
        "useful_gflop_per_pair": round(useful_flops(case) / case.count / 1e9, 2),
        **provenance(),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(result, args.output)
    table = report.markdown(result)
    args.output.with_suffix(".md").write_text(table)
    print(table)


def sweep(case: Case, device: str, say) -> tuple[dict, list[dict]]:
    """TRL's best configuration for cached references, and all that were tried, once each.

    Micro-batches grow until one is less than half as fast as the best so far.
    """
    tried = []
    for micro in MICRO_BATCHES:
        speeds = [row["pairs_per_s_amortised"] for row in tried]
        if tried and speeds[-1] < max(speeds) / 2:
            break
        for checkpointing in (False, True) if micro in (1, 8) else (False,):
            kwargs = {"micro": micro, "checkpointing": checkpointing, "precomputed": True}
            found = run(partial(trl_dpo, case, **kwargs), device)
            speed = report.pairs_per_s(case.count, found, runs=4)
            say(f"sweep  {kwargs}  {speed:.3f} pairs/s")
            tried.append({**kwargs, "pairs_per_s_amortised": round(speed, 4)})
    best = max(tried, key=lambda row: row["pairs_per_s_amortised"])
    return {k: v for k, v in best.items() if k != "pairs_per_s_amortised"}, tried


def all_arms(case: Case, best: dict) -> dict[str, partial]:
    """Builders by name; `ours_...` are ours with one step taken away."""
    trl = partial(trl_dpo, case)
    by = case.products["by"]
    mine = partial(multiplied(ours, by), case)
    arms = {
        "released": partial(released, case, micro=2),
        "released_micro_1": partial(released, case, micro=1),
        "trl_default": partial(trl, micro=8, checkpointing=True, precomputed=False),
        "trl_best": partial(trl, **best),
        "trl_simpo": partial(trl_simpo, case, micro=best["micro"]),
        "prefix_sharing_full_pairs": partial(mine, truncated=False),
        "ours": mine,
        "ours_prompt_twice": partial(mine, forward="prompt_twice"),
        "ours_padded": partial(mine, forward="padding"),
        "ours_one_pair_per_row": partial(mine, token_budget=1),
        "ours_head_everywhere": partial(mine, forward="every_position"),
        "ours_live_reference": partial(mine, forward="live"),
        "ours_checkpointing": partial(mine, checkpointing=True),
    }
    if case.device == "cpu":
        other = {"onednn": "torch", "torch": "onednn"}[by]
        arms[f"ours_{other}_products"] = partial(multiplied(ours, other), case)
        arms["trl_best_onednn"] = partial(multiplied(trl_dpo, "onednn"), case, **best)
    return arms


def quiet() -> None:
    """For the whole process, so not for one that does other work too."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    os.environ["TQDM_DISABLE"] = "1"


if __name__ == "__main__":
    quiet()
    cli(main)
