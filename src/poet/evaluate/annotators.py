"""Annotate a method's outputs against the reference outputs, through alpaca-eval, offline.

The annotators here are scalar: a reward for each answer, and a preference in [1, 2] from the two
(2: the model is better). They are deterministic and see no order, so alpaca-eval's random swap of
the outputs, which guards against a judge's position bias, has nothing to do.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from poet.evaluate.alpaca import read_rows, require
from poet.files import UserError, cli, load_record, write_json

KINDS = ("oracle", "reward_model")


@dataclass(frozen=True)
class Scalar:
    """A scalar annotator.

    Attributes:
        name: what stands in the annotations' column ``annotator``.
        rewards: (rows of prompts.jsonl, one output each) -> rewards, and for each whether the
            annotator read the text only in part (None where it always reads everything).
        preference: (instruction, output_1, output_2, reward_1, reward_2) -> [1, 2].
    """

    name: str
    rewards: Callable[[Sequence[dict], Sequence[str]], tuple[Sequence[float], list[bool] | None]]
    preference: Callable[[str, str, str, float, float], float]


def oracle(name: str) -> Scalar:
    """The embedded world's true reward, and its preference with a mild taste for length."""
    from poet.data import world

    def rewards(prompts: Sequence[dict], outputs: Sequence[str]) -> tuple[list[float], None]:
        pairs = zip(prompts, outputs, strict=True)
        return [world.reward(prompt["instruction"], output) for prompt, output in pairs], None

    return Scalar(
        name, rewards, lambda *texts_and_rewards: world.oracle_preference(*texts_and_rewards[:3])
    )


def reward_model(
    name: str, model: str, revision: str | None = None, batch_size: int = 16
) -> Scalar:
    """Any sequence classifier with one output: preference = 1 + sigmoid(r2 - r1), Bradley-Terry.

    Conversations are cut where its training cut them: at the tokenizer's ``model_max_length``, or
    at the model's positions where those are fewer or the tokenizer knows no limit.

    Args:
        model: folder or hub id of the model and its tokenizer, whose chat template is used.
        revision: the hub's commit.

    Raises:
        UserError: the model has several outputs, or the tokenizer no chat template.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from poet.train import reward_model as training

    tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, padding_side="right")
    classifier = AutoModelForSequenceClassification.from_pretrained(
        model, revision=revision, dtype="auto"
    )
    if classifier.config.num_labels != 1:
        raise UserError(
            f"{model} has {classifier.config.num_labels} outputs; expected a reward model with one"
        )
    if tokenizer.chat_template is None:
        raise UserError(f"{model}: its tokenizer has no chat template")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # The classifier reads its score at the last token that is no padding.
    classifier.config.pad_token_id = tokenizer.pad_token_id
    classifier.to("cuda" if torch.cuda.is_available() else "cpu")
    positions = getattr(classifier.config.get_text_config(), "max_position_embeddings", None)
    # A tokenizer that knows no limit says 1e30.
    limit = min(int(tokenizer.model_max_length), positions or sys.maxsize)

    def rewards(prompts: Sequence[dict], outputs: Sequence[str]) -> tuple[list[float], list[bool]]:
        conversations = [
            [*prompt["prompt"], {"role": "assistant", "content": output}]
            for prompt, output in zip(prompts, outputs, strict=True)
        ]
        sequences, was_cut = training.encode(tokenizer, conversations, limit)
        if any(was_cut):
            print(
                f"{name}: {sum(was_cut)} of {len(was_cut)} conversations are longer than {limit} "
                "tokens; the reward model reads that much of them",
                file=sys.stderr,
            )
        return training.rewards(classifier, sequences, batch_size, name), was_cut

    return Scalar(name, rewards, lambda *texts_and_rewards: bradley_terry(*texts_and_rewards[3:]))


def bradley_terry(reward_1: float, reward_2: float) -> float:
    """1 + the probability that answer 2 is better, from the difference of their rewards."""
    gap = reward_2 - reward_1
    odds = math.exp(-abs(gap))  # never overflows
    return 1 + (1 if gap >= 0 else odds) / (1 + odds)


def pair_up(prompts: Sequence[dict], generations: Sequence[dict], source, reference_name: str):
    """Rows to annotate, in the prompts' order: the reference as output 1, the generation as 2.

    Raises:
        UserError: a prompt has no generation or several, or a generation belongs to no prompt.
    """
    require(generations, ("index", "instruction", "output", "generator"), source)
    by_index = {}
    for row in generations:
        if row["index"] in by_index:
            raise UserError(f"{source}: two generations for prompt {row['index']}; expected one")
        by_index[row["index"]] = row
    pairs = []
    for prompt in prompts:
        made = by_index.pop(prompt["index"], None)
        if made is None or made["instruction"] != prompt["instruction"]:
            found = "nothing" if made is None else f"{made['instruction'][:60]!r}"
            raise UserError(
                f"{source}: no generation for prompt {prompt['index']}\n"
                f"  expected: {prompt['instruction'][:60]!r}\n  found: {found}\n"
                "Generate again from the same prompts."
            )
        pairs.append(
            {
                "instruction": prompt["instruction"],
                "output_1": prompt["reference"],
                "generator_1": reference_name,
                "output_2": made["output"],
                "generator_2": made["generator"],
                "index": prompt["index"],
                "dataset": prompt["dataset"],
            }
        )
    if by_index:
        raise UserError(f"{source}: generations for unknown prompts {sorted(by_index)[:5]}")
    return pairs


def annotate(scalar: Scalar, prompts: Sequence[dict], methods: Sequence[list[dict]]):
    """Annotate several lists of pairs (one per seed); each distinct answer is scored once.

    Args:
        prompts: rows of prompts.jsonl.
        methods: per seed, what :func:`pair_up` returns.

    Returns:
        Per seed the same rows with annotator, preference, reward_1 and reward_2, in the same order;
        and with reward_cut, was either answer read only in part, where the annotator tells.

    Raises:
        UserError: a preference is no number in [1, 2].
    """
    prompt_of = {prompt["instruction"]: prompt for prompt in prompts}
    answers = dict.fromkeys(
        (row["instruction"], row[column])
        for rows in methods
        for row in rows
        for column in ("output_1", "output_2")
    )
    values, was_cut = scalar.rewards(
        [prompt_of[instruction] for instruction, _ in answers], [output for _, output in answers]
    )
    rewards = dict(zip(answers, map(float, values), strict=True))
    cut = None if was_cut is None else dict(zip(answers, was_cut, strict=True))

    def preference(instruction: str, output_1: str, output_2: str) -> float:
        ours = rewards[instruction, output_1], rewards[instruction, output_2]
        return scalar.preference(instruction, output_1, output_2, *ours)

    annotator = _alpaca_eval_annotator(scalar.name, preference)
    annotated = []
    for rows in methods:
        judged = annotator.annotate_pairs(rows, chunksize=None) if rows else []
        annotated.append(
            [_annotated(row, found, rewards, cut) for row, found in zip(rows, judged, strict=True)]
        )
    return annotated


def _annotated(row: dict, found: dict, rewards: dict, cut: dict | None) -> dict:
    texts = ("instruction", "output_1", "output_2")
    if any(row[text] != found[text] for text in texts):
        raise RuntimeError(f"alpaca-eval returned another row for prompt {row['index']}")
    if not 1 <= (found["preference"] or math.nan) <= 2:
        raise UserError(
            f"prompt {row['index']}: the annotator's preference is {found['preference']};"
            f" expected a number in [1, 2] for {row['instruction'][:60]!r}"
        )
    answers = [(row["instruction"], row[column]) for column in ("output_1", "output_2")]
    return {
        **row,
        "annotator": found["annotator"],
        "preference": float(found["preference"]),
        "reward_1": rewards[answers[0]],
        "reward_2": rewards[answers[1]],
        **({} if cut is None else {"reward_cut": any(cut[answer] for answer in answers)}),
    }


def _alpaca_eval_annotator(name: str, preference: Callable[[str, str, str], float]):
    """An alpaca-eval PairwiseAnnotator whose only annotator is ``preference`` (pitfall 19)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from alpaca_eval.annotators import PairwiseAnnotator
    logging.getLogger().setLevel(logging.WARNING)  # importing alpaca-eval sets INFO

    class Single:
        processors = ()  # no swap of the outputs, see the module's docstring

        def __call__(self, table):
            columns = (table[key] for key in ("instruction", "output_1", "output_2"))
            found = [preference(*texts) for texts in zip(*columns, strict=True)]
            return table.assign(preference=found)

    class Annotator(PairwiseAnnotator):
        def _initialize_annotators(self):
            return {name: Single()}

    # caching_path=None: the default caches inside alpaca-eval's package folder (pitfall 18)
    return Annotator(annotators_config=name, caching_path=None, is_avoid_reannotations=False)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", required=True, help="resolved record: inline JSON or a file")
    parser.add_argument("--annotator", required=True, help="its name in the configuration")
    parser.add_argument("--kind", required=True, choices=KINDS)
    parser.add_argument("--model", help="reward_model: folder or hub id")
    parser.add_argument("--revision", help="reward_model: the hub's commit")
    parser.add_argument("--prompts", required=True, help="prompts.jsonl with references")
    parser.add_argument("--generations", required=True, nargs="+", help="one file per seed")
    parser.add_argument("--output", required=True, nargs="+", help="one file per seed")
    args = parser.parse_args(argv)
    if len(args.generations) != len(args.output):
        parser.error(f"{len(args.generations)} generations, but {len(args.output)} outputs")
    if (args.kind == "reward_model") != (args.model is not None):
        parser.error("--model belongs to --kind reward_model, and only there")
    record = load_record(args.record)
    prompts = read_rows(args.prompts)
    require(prompts, ("index", "dataset", "instruction", "prompt", "reference"), args.prompts)
    methods = [
        pair_up(prompts, read_rows(path), path, record["reference_name"])
        for path in args.generations
    ]
    if args.kind == "oracle":
        scalar = oracle(args.annotator)
    else:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported
        import torch

        torch.set_num_threads(record["torch_threads"])
        scalar = reward_model(args.annotator, args.model, args.revision)
    for rows, path in zip(annotate(scalar, prompts, methods), args.output, strict=True):
        write_json(rows, path)


if __name__ == "__main__":
    cli(main)
