"""Jobs for a cluster whose model cannot fit into the memory that they ask for, known beforehand.

A job without a GPU computes in main memory, at least its weights, and for a training float32
weights, gradients and Adam's moments. A scheduler kills what takes more than it asked for, hours
after it was sent; a single machine does not look at the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from poet.config import resolve
from poet.evaluate.annotators import KINDS
from poet.files import UserError
from poet.plan.memory import STATES
from poet.sizes.architecture import Architecture
from poet.sizes.models import parameters_of

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


def check(jobs: list[Job], config: dict, machine: int | None = None) -> None:
    """Refuse jobs without a GPU whose model is larger than their memory.

    Args:
        machine: MB that this machine has, where the jobs run here and take what they need; else
            jobs have what they ask for.

    Raises:
        UserError: naming rules, what they need at least, and what they ask for.
    """
    found = {}
    for job in jobs:
        of = job.resources  # a profile may write GPUs in the scheduler's own words
        gpu = of.get("gpu") or of.get("gres") or "gpu" in str(of.get("slurm_extra"))
        if gpu or job.rule not in BYTES:
            continue
        name, least = _needed(job, config)
        if least > (asked := machine or of.get("mem_mb", 0)):
            has = "the machine has" if machine else "asks for"
            found[job.rule, name] = f"{job.rule} with {name}: at least {least}, {has} {asked}"
    if not found:
        return
    advice = (
        "Take a smaller model, `lora` in `preference`, or a machine with more memory or a GPU."
        if machine
        else "Write GPUs, or that mem_mb, into `set-resources` of the profile; "
        "profiles/slurm/config.yaml has the lines to uncomment."
    )
    raise UserError(
        "jobs without a GPU (gpu: 0) have less memory than their model takes, in MB:\n  "
        + "\n  ".join(found.values())
        + f"\n{advice}"
    )


def _needed(job: Job, config: dict) -> tuple[str, int]:
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
        parameters = parameters_of(name, config["lock"])
    return name, math.ceil(parameters * least / 1e6)
