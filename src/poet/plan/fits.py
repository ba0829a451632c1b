"""Jobs for a cluster whose model cannot fit into the memory that they ask for, known beforehand.

A job without a GPU computes in main memory, at least its weights, and for a training float32
weights, gradients and Adam's moments. A scheduler kills what takes more than it asked for, hours
after it was sent; a single machine does not look at the numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from poet.config import resolve
from poet.evaluate.annotators import KINDS
from poet.files import UserError
from poet.hub import lock
from poet.plan.memory import STATES
from poet.sizes.architecture import SHAPES, Architecture

TRAINING, WEIGHTS = sum(STATES.values()), STATES["weights"]
AS_STORED = 2  # bytes of an annotator's parameter, which nobody widens
BYTES = {  # rule -> the least per parameter
    "sft": TRAINING, "train": TRAINING, "train_reward_model": TRAINING, "reference": WEIGHTS,
    "generate": WEIGHTS, "answer_questions": WEIGHTS, "evaluate_downstream": WEIGHTS,
    "measure_prefixes": WEIGHTS, "measure_reward_gap": WEIGHTS, "validate": WEIGHTS,
    "annotate": AS_STORED, "judge_answers": AS_STORED,
}  # fmt: skip


@dataclass
class Job:
    """What Snakemake knows of a job: of one that is about to run, or by its dry run (files)."""

    rule: str
    wildcards: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, object] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    benchmark: str | None = None

    @property
    def name(self) -> tuple:
        return self.rule, *sorted(self.wildcards.items())


def check(jobs: list[Job], config: dict) -> None:
    """Refuse jobs without a GPU whose model is larger than their memory.

    Raises:
        UserError: naming rules, what they need at least, and what they ask for.
    """
    shapes, found = yaml.safe_load(SHAPES.read_text()), {}
    for job in jobs:
        of = job.resources  # a profile may write GPUs in the scheduler's own words
        gpu = of.get("gpu") or of.get("gres") or "gpu" in str(of.get("slurm_extra"))
        if gpu or job.rule not in BYTES:
            continue
        name, least = _needed(job, config, shapes)
        if least > (asked := of.get("mem_mb", 0)):
            found[job.rule, name] = f"{job.rule} with {name}: at least {least}, asks for {asked}"
    if found:
        raise UserError(
            "jobs without a GPU (gpu: 0) have less memory than their model takes, in MB:\n  "
            + "\n  ".join(found.values())
            + "\nWrite GPUs, or that mem_mb, into `set-resources` of the profile; "
            "profiles/slurm/config.yaml has the lines to uncomment."
        )


def _needed(job: Job, config: dict, shapes: dict) -> tuple[str, int]:
    """Name of the job's model and the MB that it takes at least; 0 where nothing is known."""
    record = resolve(config, job.wildcards["setting"], job.wildcards.get("method", "sft"))
    name, least = record["model"], BYTES[job.rule]
    if job.rule == "train" and record.get("lora"):
        least = WEIGHTS
    if "annotator" in job.wildcards:
        annotator = config["annotators"].get(job.wildcards["annotator"])
        if annotator is None or not KINDS[annotator["kind"]].loads:
            return name, 0
        name = annotator.get("name", name)
    if name == record["model"] and record["scratch"]:
        parameters = Architecture.of(record["scratch"]).parameters
    else:
        parameters = parameters_of(name, shapes, config["lock"])
    return name, math.ceil(parameters * least / 1e6)


def parameters_of(name: str, shapes: dict, lock_file: str | Path) -> float:
    """At least so many parameters a model has: its files', its shape's, or by the lock's sizes."""
    for folder in (Path(name), Path("results/hub", name)):
        if files := list(folder.glob("*.safetensors")):
            return sum(map(_stored, files))
    if name in shapes:
        return Architecture.of(shapes[name]).parameters
    files = lock.read(lock_file).get(name, {"files": {}})["files"]
    return sum(f["size"] for path, f in files.items() if path.endswith(".safetensors")) / 4


def _stored(path: Path) -> int:
    """Numbers in a safetensors file, by its header."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(of["shape"]) for name, of in header.items() if name != "__metadata__")
