"""The main memory that each job with a model takes: upper bounds by architecture and lengths.

docs/memory.md holds them against what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from poet.config import resolve
from poet.config_checks import scorer_of
from poet.evaluate.annotators import KINDS
from poet.evaluate.annotators.reward_model import BATCH_SIZE
from poet.evaluate.downstream import CPU_BATCH
from poet.sizes.architecture import Architecture
from poet.sizes.batches import STATES, filled, kept_bytes, sampling_batch, sampling_bytes
from poet.sizes.models import parameters_of, shape_of

CUDA = 3.0e9  # bytes of main memory of a program that has started it
LOGITS = 4 * 4 * 2**24  # poet.train.head works on so many at a time
READ = 2048  # tokens of what a judge or a downstream task reads, at most that are likely


@dataclass(frozen=True)
class Place:
    """Where a program computes.

    Attributes:
        program: bytes before a model is there: of Python with torch, or of CUDA on a card.
        weights: bytes per parameter of a model that is only run. In main memory float32 and the
            file that is read, for a moment both; on a card bfloat16.
        numbers: size of activations against float32's.
    """

    program: float
    weights: float
    numbers: float


MAIN, CARD = Place(1.0e9, 8, 1), Place(2.0e9, 2, 0.5)


@dataclass(frozen=True)
class Model:
    """What is known of a model's size; no shape of a family with other names for its sizes."""

    name: str
    parameters: float
    shape: Architecture | None

    @classmethod
    def of(cls, name: str, scratch: dict | None, lock: str) -> Model:
        shape = Architecture.of(scratch) if scratch else shape_of(name, lock)
        return cls(name, shape.parameters if scratch else parameters_of(name, lock), shape)

    def kept(self, tokens: int, checkpointing: bool = False) -> float:
        return kept_bytes(self.shape, checkpointing) * tokens if self.shape else 0

    @property
    def layer(self) -> float:
        """Bytes per token that a pass without gradients has at a time, in float32.

        The input, and the widest of attention's four and the gated MLP's three.
        """
        if self.shape is None:
            return 0
        return 4 * (3 * self.shape.intermediate_size + 4 * self.shape.hidden_size)


def main_memory(rule: str, config: dict, wildcards: Mapping[str, str], gpu: bool = False) -> int:
    """MB of main memory that a job takes; where a GPU computes, what loading its models takes."""
    return _mb(CUDA + _largest(rule, config, wildcards)) if gpu else memory(rule, config, wildcards)


def memory(rule: str, config: dict, wildcards: Mapping[str, str], card: bool = False) -> int:
    """MB that a job takes where it computes: of main memory, or of a card's."""
    record, start, judge = _models(rule, config, wildcards)
    of = CARD if card else MAIN
    found = of.program + (_TAKES[rule](record, start, of) if rule in _TAKES else 0)
    if judge:
        tokens = BATCH_SIZE * READ
        if judge.name == start.name and record["reward_model"]:
            tokens = BATCH_SIZE * record["reward_model"]["max_length"]
        found += of.weights * judge.parameters + of.numbers * judge.layer * tokens
    return _mb(found)


def _largest(rule: str, config: dict, wildcards: Mapping[str, str]) -> float:
    _, *models = _models(rule, config, wildcards)
    return MAIN.weights * max(model.parameters for model in models if model)


def _mb(size: float) -> int:
    return 100 * math.ceil(size / 1e8)


def _models(rule: str, config: dict, wildcards: Mapping[str, str]) -> tuple:
    """A job's record, the start model (or one of its size) and the model that judges, if any."""
    record = resolve(config, wildcards["setting"], wildcards.get("method", "sft"))
    start = Model.of(record["model"], record["scratch"], config["lock"])
    return record, start, _judge(rule, config, wildcards, start)


def _judge(rule: str, config: dict, wildcards: Mapping[str, str], start: Model) -> Model | None:
    """The model that judges in a job, if one does; what is trained here is the start model's."""
    if rule == "measure_prefixes":
        name = scorer_of(config, wildcards["setting"])
    elif rule in ("annotate", "judge_answers"):
        name = wildcards["annotator"]
    else:
        return None
    section = config["annotators"].get(name)
    if section is None or not KINDS[section["kind"]].loads:
        return None
    return Model.of(section["name"], None, config["lock"]) if "name" in section else start


def _training(section: dict, start: Model, of: Place, tokens: int) -> float:
    """States, activations of a pass of so many tokens, logits and the gradient of the head."""
    states = 8 if section.get("lora") else STATES
    checkpointing = section.get("gradient_checkpointing", False)
    head = 8 * start.shape.embedding if start.shape else 0
    kept = of.numbers * start.kept(tokens, checkpointing)
    return states * start.parameters + kept + LOGITS + head


def _batches(record: dict, section: dict, start: Model) -> tuple[dict, int]:
    """A section with its batches filled in, and its longest example."""
    longest = section["max_length"]
    return filled(section, start.shape, 2 * longest, longest), longest


def _train(record: dict, start: Model, place: Place) -> float:
    of, longest = _batches(record, record, start)
    per_pass = of["token_budget"] if of["forward"] == "packed" else 0
    per_pass = per_pass or 2 * longest * of["per_device_batch_size"]
    return _training(record, start, place, max(per_pass, 2 * longest))


def _sft(record: dict, start: Model, place: Place) -> float:
    of = record["sft"]
    return _training(of, start, place, of["per_device_batch_size"] * of["max_length"])


def _reward_model(record: dict, start: Model, place: Place) -> float:
    of, longest = _batches(record, record["reward_model"], start)
    return _training(of, start, place, 2 * longest * of["per_device_batch_size"])


def _passing(start: Model, place: Place, tokens: int) -> float:
    """A model that only reads, so many tokens at a time."""
    return place.weights * start.parameters + place.numbers * start.layer * tokens + LOGITS


def _reference(record: dict, start: Model, place: Place) -> float:
    of, longest = _batches(record, record, start)
    packed = of["forward"] == "packed"
    tokens = of["token_budget"] if packed else of["reference_batch_size"] * longest
    return _passing(start, place, max(tokens, 2 * longest))


def _reward_gap(record: dict, start: Model, place: Place) -> float:
    of, longest = _batches(record, record, start)
    tokens = of["reference_batch_size"] * longest
    return _passing(start, place, tokens)


def _sampling(record: dict, start: Model, place: Place) -> float:
    if start.shape is None:
        return place.weights * start.parameters
    longest = record["max_prompt_length"] + record["generation"]["max_new_tokens"]
    size = record["generation"]["batch_size"]
    size = sampling_batch(start.shape, longest) if size == "auto" else size
    prompts = size * record["max_prompt_length"]
    cache = size * sampling_bytes(start.shape, longest)
    return place.weights * start.parameters + place.numbers * (cache + start.layer * prompts)


def _downstream(record: dict, start: Model, place: Place) -> float:
    size = record["downstream"]["batch_size"]
    tokens = (CPU_BATCH if size == "auto" else size) * READ / 4  # most questions are shorter
    logits = 2 * 4 * (start.shape.vocab_size if start.shape else 0)
    return place.weights * start.parameters + tokens * (start.layer + logits)


_TAKES = {
    "sft": _sft, "train": _train, "train_reward_model": _reward_model, "reference": _reference,
    "generate": _sampling, "answer_questions": _sampling, "validate": _sampling,
    "measure_prefixes": _sampling, "measure_reward_gap": _reward_gap,
    "evaluate_downstream": _downstream,
}  # fmt: skip
