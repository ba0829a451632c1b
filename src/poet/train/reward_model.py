"""Train a reward model on the training pairs: a Bradley-Terry sequence classifier.

The base model (the SFT model) gets a head of one number, read at the last token of the templated
conversation; the loss is -log sigmoid(reward of chosen - reward of rejected), as in TRL's
RewardTrainer, which trains it. How often it prefers the chosen response is measured on the test
pairs, whose prompts it has not seen.
"""

from __future__ import annotations

import sys
from pathlib import Path

from poet.data.ends import Stray
from poet.data.model_limits import check_positions, positions, text_config
from poet.data.templates import Chat, row_options, template_of
from poet.evaluate.annotators.reward_model import encode, score
from poet.files import UserError, cli, read_json, record_parser, sha256
from poet.methods import SIDES
from poet.sizes.architecture import Architecture
from poet.sizes.batches import filled
from poet.train.arguments import add_run_flags, common_arguments
from poet.train.judge_accuracy import summary
from poet.train.rates import REWARD_MODEL, learning_rate

IDS = [f"{side}_ids" for side in SIDES]


def load_pairs(
    path: str | Path, tokenizer, max_length: int, template_kwargs: dict
) -> tuple[dict, dict]:
    """Tokenized pairs per split, and what the length limit did.

    Returns:
        {"train" | "test": {"chosen_ids", "rejected_ids": lists of token ids, "lengths": tokens of
        both responses, with their end, before the cut, "prompts": their ids}}, and counts of pairs,
        of responses that were cut, and of pairs whose two responses look the same after the cut.

    Raises:
        UserError: a split without pairs.
    """
    from pyarrow import parquet

    rows = parquet.read_table(path).to_pylist()
    # What tokenization refuses or leaves out of the preference data.
    chat = Chat(tokenizer, "keep_start", template_kwargs)
    stray = Stray(chat)
    splits, counts = {}, {}
    for split in ("train", "test"):
        whole = [row for row in rows if row["split"] == split]
        pairs = [p for p in whole if not any(map(stray.in_messages, (p["chosen"], p["rejected"])))]
        if not pairs:
            raise UserError(f"{path}: no {split} pairs. A reward model needs both splits.")
        ids, lengths, n_cut, options = {}, [], 0, [*map(row_options, pairs)]
        asked = chat.text([pair["prompt"] for pair in pairs], options, add_generation_prompt=True)
        starts = [*map(len, tokenizer(asked, add_special_tokens=False)["input_ids"])]
        for side in SIDES:
            conversations = [pair["prompt"] + pair[side] for pair in pairs]
            uncut, _ = encode(tokenizer, conversations, sys.maxsize, template_kwargs, options)
            # A template may write less of a prompt that has its answer.
            lengths.append([max(len(of) - n, 1) for of, n in zip(uncut, starts, strict=True)])
            n_cut += sum(len(tokens) > max_length for tokens in uncut)
            ids[f"{side}_ids"] = [tokens[:max_length] for tokens in uncut]
        splits[split] = {
            **ids,
            "lengths": [*zip(*lengths, strict=True)],
            "prompts": [pair["prompt_id"] for pair in pairs],
        }
        counts[split] = {
            "pairs": len(pairs),
            "pairs_with_special_tokens": len(whole) - len(pairs),
            "responses_cut": n_cut,
            "pairs_equal_after_cut": sum(c == r for c, r in zip(*ids.values(), strict=True)),
        }
    return splits, counts


def load_tokenizer(base: str | Path, max_length: int):
    """The base model's tokenizer, checked to be fit for templated pairs of ``max_length`` tokens.

    Raises:
        UserError: it has no chat template, or the model has fewer positions than ``max_length``.
    """
    from transformers import AutoTokenizer

    asked = [("reward_model.max_length", max_length, False)]
    check_positions(positions(text_config(base)), asked, base, "the configuration")
    tokenizer = AutoTokenizer.from_pretrained(base)
    template_of(tokenizer)
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def make_trainer(base: str | Path, tokenizer, pairs: dict, settings: dict, folder):
    """TRL's RewardTrainer; ``folder`` is for checkpoints."""
    import torch
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    arguments = RewardConfig(
        output_dir=str(folder),
        num_train_epochs=settings["num_train_epochs"],
        warmup_steps=0.1,  # a share of all steps
        seed=settings["seed"],
        max_length=None,  # TRL would drop longer pairs; these are cut already
        # Saves memory, costs time.
        **common_arguments({**settings, "gradient_checkpointing": torch.cuda.is_available()}),
    )
    trainer = RewardTrainer(
        model=str(base),
        args=arguments,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({key: pairs[key] for key in IDS}),
    )
    parameters, n = trainer.model.num_parameters(), len(pairs["chosen_ids"])
    trainer.args.learning_rate = learning_rate(settings, REWARD_MODEL, parameters, n)
    return trainer


def main(argv: list[str] | None = None) -> None:
    parser = record_parser(__doc__, "folder of the reward model")
    parser.add_argument("--pairs", required=True, help="pairs.parquet with both splits")
    parser.add_argument("--base", required=True, help="folder of the model to start from")
    add_run_flags(parser)
    args = parser.parse_args(argv)
    record = args.record
    settings = record["reward_model"]

    import torch

    from poet.train.checkpoints import Checkpoints
    from poet.train.reference import model_digest
    from poet.train.run import explained, publish_model, run, shrinking

    torch.set_num_threads(record["torch_threads"])
    tokenizer = load_tokenizer(args.base, settings["max_length"])
    variables = record.get("chat_template_kwargs", {})
    splits, counts = load_pairs(args.pairs, tokenizer, settings["max_length"], variables)
    inputs = {"pairs": sha256(args.pairs), "model": model_digest(args.base)}
    checkpoints = Checkpoints(args.checkpoints, record, inputs)
    side = max(len(ids) for pairs in splits.values() for key in IDS for ids in pairs[key])
    shape = Architecture.found(read_json(Path(args.base) / "config.json"))
    settings = filled(settings, shape, 2 * side, side)

    def train(settings: dict):
        trainer = make_trainer(args.base, tokenizer, splits["train"], settings, checkpoints.folder)
        run(trainer, "reward model", checkpoints, args)
        return trainer

    with explained(record["setting"], "reward_model"):
        trainer = shrinking(settings, train)
        test = splits["test"]
        both, n = test["chosen_ids"] + test["rejected_ids"], len(test["prompts"])
        values = score(trainer.model, both, settings["per_device_batch_size"], "test pairs")
    found = summary(values[:n], values[n:], test["lengths"], test["prompts"])
    tokenizer.model_max_length = settings["max_length"]  # for whoever scores with this model
    numbers = {f"test_{key}": found["test_accuracy"][key] for key in ("accuracy", "n")}
    found |= {"learning_rate": trainer.args.learning_rate, "data": counts}
    publish_model(args.output, trainer, args.base, "reward model", record, counts, found, numbers)
    checkpoints.remove()


if __name__ == "__main__":
    cli(main)
