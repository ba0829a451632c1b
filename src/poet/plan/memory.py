"""docs/memory.md: what full fine-tuning of each setting takes, and where it fits; arithmetic only.

Float32 master weights, gradients and Adam's two moments are 16 bytes per parameter. The bfloat16
copies that autocast computes with are not cached (:mod:`poet.train.trainer`): those of a layer and
the head come on top; sharded weights are gathered by the layer too. Activations: with gradient
checkpointing each layer keeps its input, and one layer at a time is recomputed, whose intermediate
results are about 34 bytes per token and hidden unit (Korthikanti et al. 2022, arXiv 2205.05198,
section 4) and 8 per unit of the gated MLP; eager attention keeps its scores too, in float32 and
bfloat16, and their gradients. The head's logits are made in chunks.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import yaml

from poet.config import read
from poet.files import cli, publish
from poet.sizes.architecture import SHAPES, Architecture

GIB = 2**30
STATES = {"weights": 4, "gradients": 4, "Adam's moments": 8}  # bytes per parameter
RESERVED = 3.0  # GiB: CUDA context, workspaces, fragments
CHUNK = 1024  # positions whose logits exist at a time, in float32 with their gradient
CARDS = {"1 x 80 GB": (1, 79.1), "1 x 141 GB": (1, 139.8), "4 x 80 GB": (4, 79.1)}  # GiB usable
HEADING = """\
# What fits where

Made by `python -m poet.plan.memory --configfile config/paper.yaml --output docs/memory.md`;
arithmetic, not a measurement. Full fine-tuning with float32 master weights takes 16 bytes per
parameter before activations: 4 for the weights, 4 for the gradients, 8 for Adam's moments. GiB are
2^30 bytes.
The launches on several GPUs and with offload have not been run on GPUs yet.
"""
MEANS = """
Means, in the order in which they are tried:

- **plain**: one process, nothing sharded. `gradient_checkpointing: true` throughout.
- **FSDP**: `gpu=4 sharding=fsdp` (`config/accelerate/fsdp.yaml`; `zero3.yaml` shards the same
  states by DeepSpeed). Weights, gradients and moments are shared out; each GPU gathers one layer at
  a time.
- **offload**: `gpu=1 sharding=fsdp-offload`. The 16 bytes per parameter rest in main memory, and
  Adam's step runs there. Slow, and exact.

Set with `--set-resources train:gpu=4 train:sharding=fsdp`, or in a profile. Options that are not
the paper's training: 8-bit Adam (`optim: adamw_bnb_8bit`, 10 bytes per parameter), LoRA (`lora`).
"""
MAIN = """
## Main memory, without a GPU

Each rule with a model asks for the main memory that it takes by its architecture, lengths and batch
(`poet.plan.needs`): upper bounds by the same arithmetic, 1 GB for Python and torch with it.
`config/own-model.yaml` with SmolLM2-135M and 64 real pairs on two cores of an AMD EPYC (family 25,
model 1), the largest sample that Snakemake took of a job, which can miss a peak:

| rule | asks for, MB | measured, MB |
|---|---:|---:|
| train | 5,800 | 5,210 |
| reference | 2,400 | 1,213 |
| generate | 3,100 | 1,304 |
"""


@dataclass(frozen=True)
class Need:
    """GiB per GPU of one setting."""

    states: float
    copy: float
    activations: float

    @property
    def total(self) -> float:
        return self.states + self.copy + self.activations + RESERVED


def need(
    shape: Architecture, tokens: int, rows: int, eager: bool, gpus: int, offload: bool
) -> Need:
    """Memory of a training step with gradient checkpointing.

    Args:
        tokens: length of the longest row; rows: how many at a time.
        eager: attention scores are kept, as for Gemma-2's soft-capping.
        gpus: over how many the states are shared.
        offload: the states are in main memory.
    """
    n, layers = shape.parameters, shape.num_hidden_layers
    states = 0.0 if offload else n * sum(STATES.values()) / gpus
    # This layer's, the next one's, the head's.
    copy = 2 * (2 * shape.layers / layers + shape.embedding)
    width = tokens * rows
    kept = layers * width * shape.hidden_size * 4  # each layer's input, in the residual's float32
    working = 34 * width * shape.hidden_size + 8 * width * shape.intermediate_size
    scores = rows * shape.num_attention_heads * tokens**2 * (4 + 2) * 2 if eager else 0
    logits = 2 * 4 * CHUNK * shape.vocab_size
    return Need(states / GIB, copy / GIB, (kept + working + scores + logits) / GIB)


def means(shape: Architecture, tokens: int, rows: int, eager: bool, card: str) -> str:
    """The first means by which a setting fits on a card, with its GiB per GPU."""
    gpus, usable = CARDS[card]
    for name, offload in (("plain" if gpus == 1 else "FSDP", False), ("offload", True)):
        found = need(shape, tokens, rows, eager, gpus, offload).total
        if found <= usable:
            main = f", {shape.parameters * 16 / GIB:.0f} GiB of main memory" if offload else ""
            return f"{name} ({found:.0f} GiB{main})"
    return f"does not fit ({found:.0f} GiB)"


def document(config: dict, shapes: dict[str, dict]) -> str:
    """The text of docs/memory.md for the settings of a configuration."""
    rows = [
        ["setting", "parameters", "16 bytes each", "activations", *CARDS],
        ["---", *["---:"] * 3, *["---"] * len(CARDS)],
    ]
    misfits = []
    for name, setting in config["settings"].items():
        shape = Architecture.of(shapes[setting["model"]["name"]])
        preference = setting["preference"]
        eager = setting["model"].get("attn_implementation") == "eager"
        padded = eager or preference["forward"] == "padded"
        size = (
            preference["max_length"] if padded else preference["token_budget"],
            2 * preference["per_device_batch_size"] if padded else 1,
            eager,
        )
        alone = need(shape, *size, gpus=1, offload=False)
        cells = [means(shape, *size, card) for card in CARDS]
        rows.append(
            [name, f"{shape.parameters / 1e9:.2f} G", f"{alone.states:.0f} GiB"]
            + [f"{alone.activations:.0f} GiB", *cells]
        )
        misfits += [
            f"{name} does not fit on {card} without offload: the states alone are "
            f"{alone.states:.0f} GiB, {alone.total:.0f} GiB with copy and activations."
            for card, (gpus, usable) in CARDS.items()
            if gpus == 1 and alone.total > usable
        ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    lines = "\n".join(f"- {line}" for line in misfits)
    return f"{HEADING}\n{table}\n{MEANS}\n{lines}\n{MAIN}"


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="What full fine-tuning takes, and where it fits.")
    parser.add_argument("--configfile", required=True)
    parser.add_argument("--output", required=True, help="Markdown file")
    args = parser.parse_args(argv)
    text = document(read(args.configfile), yaml.safe_load(SHAPES.read_text()))
    with publish(args.output) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    cli(main)
