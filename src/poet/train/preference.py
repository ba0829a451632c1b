"""Train one method with one seed: start model, truncated tokens, cached reference."""

from __future__ import annotations

import json

from poet.files import cli, record_parser, sha256
from poet.hub.folders import loading, whole_model
from poet.sizes.architecture import Architecture
from poet.sizes.batches import filled
from poet.train.arguments import add_run_flags, check_optimizer, common_arguments
from poet.train.rates import PREFERENCE, learning_rate
from poet.train.reference import longest


def make_arguments(record: dict, folder):
    """TRL's DPOConfig for a resolved record with numbers; ``folder`` is for checkpoints.

    Raises:
        UserError: the optimizer asks for a package that is not installed.
    """
    from trl import DPOConfig

    check_optimizer(record["optim"])
    # Packed, the token budget limits what goes through the model at once.
    per_device = None if record["forward"] == "packed" else record["per_device_batch_size"]
    return DPOConfig(
        output_dir=str(folder),
        learning_rate=record["learning_rate"],
        num_train_epochs=record["num_train_epochs"],
        lr_scheduler_type=record["lr_scheduler_type"],
        warmup_steps=record["warmup_ratio"],  # a float below 1 is the share of all steps
        optim=record["optim"],
        max_length=None,  # applied in the tokenization
        seed=record["seed"],
        **common_arguments({**record, "per_device_batch_size": per_device}),
    )


def make_trainer(record: dict, table, model_folder, folder):
    """The trainer of a record, on the pairs of split ``train``, to be evaluated on ``test``.

    ``table`` is a pyarrow table with the columns of :mod:`poet.train.trainer` and ``split``.
    """
    import pyarrow.compute as pc
    import torch
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from poet.train.forward import COLUMNS
    from poet.train.trainer import PreferenceTrainer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    # float32 master weights: at 5e-7 updates vanish in bfloat16.
    model = whole_model(AutoModelForCausalLM, model_folder, dtype=torch.float32, **loading(record))
    splits = {
        split: Dataset(InMemoryTable(table.filter(pc.equal(table["split"], split)).select(COLUMNS)))
        for split in ("train", "test")
    }
    rate = learning_rate(record, PREFERENCE, model.num_parameters(), len(splits["train"]))
    lora = record["lora"]
    return PreferenceTrainer(
        model=model,
        args=make_arguments({**record, "learning_rate": rate}, folder),
        forward=record["forward"],
        token_budget=record["token_budget"],
        objective=record["objective"],
        parameters=record["parameters"],
        weighting=record["weighting"],
        train_dataset=splits["train"],
        eval_dataset=splits["test"],
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **lora) if lora else None,
    )


def main(argv=None) -> None:
    parser = record_parser(__doc__, "model folder")
    parser.add_argument("--tokens", required=True, help="truncated tokens (parquet)")
    parser.add_argument("--reference", required=True, help="reference.parquet of the full tokens")
    parser.add_argument("--model", required=True, help="folder of the start model")
    add_run_flags(parser)
    args = parser.parse_args(argv)
    record = args.record

    import pyarrow.parquet as pq
    import torch
    from transformers import AutoConfig

    from poet.train.checkpoints import Checkpoints
    from poet.train.forward import choose_forward
    from poet.train.onednn import choose, products
    from poet.train.reference import PRODUCTS_KEY, attach
    from poet.train.run import explained, publish_model, run, shrinking

    torch.set_num_threads(record["torch_threads"])
    # `attach` proves that the reference is of this start model.
    reference = pq.read_table(args.reference)
    table = attach(pq.read_table(args.tokens), reference, args.model)
    inputs = {name: sha256(getattr(args, name)) for name in ("tokens", "reference")}
    checkpoints = Checkpoints(args.checkpoints, record, inputs)
    config = AutoConfig.from_pretrained(
        args.model, trust_remote_code=record.get("trust_remote_code")
    )
    shape = Architecture.found(config.to_dict())
    settings = filled(record, shape, *longest(table))
    settings["forward"] = choose_forward(record["forward"], config)
    earlier = json.loads(reference.schema.metadata.get(PRODUCTS_KEY, b"null"))
    chosen = choose(
        record.get("matrix_products", "auto"), config.get_text_config().hidden_size, earlier
    )

    def train(settings: dict):
        trainer = make_trainer(settings, table, args.model, checkpoints.folder)
        label = f"{record['setting']}/{record['method']}/seed-{record['seed']}"
        run(trainer, label, checkpoints, args)
        trainer.evaluate()
        return trainer

    with explained(record["setting"], "preference"), products(chosen["by"]):
        trainer = shrinking(settings, train)
    title = f"{record['method']}, seed {record['seed']}"
    pairs = {"train": len(trainer.train_dataset), "eval": len(trainer.eval_dataset)}
    found = {"learning_rate": trainer.args.learning_rate, "matrix_products": chosen}
    publish_model(args.output, trainer, args.model, title, record, pairs, found)
    checkpoints.remove()


if __name__ == "__main__":
    cli(main)
