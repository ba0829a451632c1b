"""Train one method with one seed: start model, truncated tokens, cached reference."""

from __future__ import annotations

import argparse

from poet.files import cli, load_record, publish, write_json


def make_arguments(record: dict, folder):
    """TRL's DPOConfig for a resolved record."""
    import torch
    from trl import DPOConfig

    from poet.train.arguments import common_arguments

    arguments = common_arguments(record["global_batch_size"], record["per_device_batch_size"])
    arguments["bf16"] = record["dtype"] == "bfloat16" and torch.cuda.is_available()
    arguments["gradient_checkpointing"] = record["gradient_checkpointing"]
    return DPOConfig(
        output_dir=str(folder),
        learning_rate=record["learning_rate"],
        num_train_epochs=record["num_train_epochs"],
        lr_scheduler_type=record["lr_scheduler_type"],
        warmup_steps=record["warmup_ratio"],  # a float below 1 is the share of all steps
        optim=record["optim"],
        max_length=None,  # applied in the tokenization
        seed=record["seed"],
        **arguments,
    )


def train(record: dict, table, model_folder, folder) -> list[dict]:
    """Train on the pairs of split ``train``, evaluate on ``test``; save the model, return the log.

    ``table`` is a pyarrow table with the columns of :mod:`poet.train.trainer` and ``split``.
    """
    import pyarrow.compute as pc
    import torch
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    from poet.train.callbacks import ProgressLines
    from poet.train.forward import COLUMNS
    from poet.train.objectives import OBJECTIVES
    from poet.train.trainer import PreferenceTrainer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    # float32 master weights: at 5e-7 updates vanish in bfloat16.
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    splits = {
        split: Dataset(InMemoryTable(table.filter(pc.equal(table["split"], split)).select(COLUMNS)))
        for split in ("train", "test")
    }
    trainer = PreferenceTrainer(
        model=model,
        args=make_arguments(record, folder),
        objective=record["objective"],
        parameters={name: record[name] for name in OBJECTIVES[record["objective"]].parameters},
        weighting=record["weighting"],
        train_dataset=splits["train"],
        eval_dataset=splits["test"],
        processing_class=tokenizer,
        callbacks=[ProgressLines(f"{record['setting']}/{record['method']}/seed-{record['seed']}")],
    )
    trainer.remove_callback(PrinterCallback)  # the log is kept in train.json
    trainer.train()
    trainer.evaluate()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return trainer.state.log_history


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Preference training of one method and seed.")
    parser.add_argument("--record", required=True, help="resolved record: JSON or its file")
    parser.add_argument("--tokens", required=True, help="truncated tokens (parquet)")
    parser.add_argument("--reference", required=True, help="reference.parquet of the full tokens")
    parser.add_argument("--model", required=True, help="folder of the start model")
    parser.add_argument("--output", required=True, help="model folder")
    args = parser.parse_args(argv)
    record = load_record(args.record)

    import pyarrow.parquet as pq
    import torch

    from poet.provenance import provenance
    from poet.train.reference import attach

    torch.set_num_threads(record["torch_threads"])
    tokens, reference = pq.read_table(args.tokens), pq.read_table(args.reference)
    table = attach(tokens, reference, args.model)
    with publish(args.output) as folder:
        history = train(record, table, args.model, folder)
        write_json(
            {"record": record, "log_history": history, "provenance": provenance()},
            folder / "train.json",
        )


if __name__ == "__main__":
    cli(main)
