"""The start model: supervised fine-tuning with TRL's SFTTrainer, from scratch or from a model.

The model is trained on the corpus (completion-only loss). One that needs no training is taken as it
is by :mod:`poet.train.start`.
"""

from __future__ import annotations

from array import array

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from datasets.table import InMemoryTable
from transformers import AutoModelForCausalLM
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTConfig, SFTTrainer

from poet.data.encoding import encode_pairs
from poet.data.ends import Stray
from poet.data.model_limits import add_needs, check_ids, largest_id
from poet.data.pairs import BadRow, refuse_bad
from poet.data.templates import Chat, row_options
from poet.files import UserError, cli, record_parser, sha256
from poet.hub.folders import loading, model_path, whole_model
from poet.train.arguments import add_run_flags, common_arguments
from poet.train.checkpoints import Checkpoints
from poet.train.reference import model_digest
from poet.train.run import explained, publish_model, run, shrinking
from poet.train.scratch import make_model, train_tokenizer
from poet.train.start import check_start, load_tokenizer

BATCH = 1000  # conversations rendered and tokenized at a time


def load_model(record: dict, corpus, base=None, needs=()):
    """Tokenizer and float32 model of the record; from scratch, the corpus trains the BPE.

    ``base`` is the folder of a model that the hub has; a local one is in the record. ``needs``: see
    :func:`poet.train.start.check_start`.
    """
    if record["scratch"]:
        texts = (m["content"] for row in corpus for m in row["prompt"] + row["completion"])
        tokenizer = train_tokenizer(texts, record["scratch"]["vocab_size"])
        max_length = record["sft"]["max_length"]
        return tokenizer, make_model(tokenizer, record["scratch"], max_length, record["sft_seed"])
    path = model_path(base or record["model"])
    tokenizer = load_tokenizer(record, path)
    check_start(record, path, tokenizer, needs)
    # float32 master weights: at 5e-7 updates vanish in bfloat16.
    model = whole_model(
        AutoModelForCausalLM, path, dtype=torch.float32, use_safetensors=True, **loading(record)
    )
    return tokenizer, model


def tokenize_corpus(corpus, chat: Chat, max_length: int):
    """The corpus as a data set of input_ids and labels, which are -100 outside of answers.

    ``corpus`` is a list of rows with ``prompt`` and ``completion``, message lists. A conversation
    is one example, cut to ``max_length`` tokens; those whose cut holds no answer are left out.

    Raises:
        UserError: none is left.
    """
    columns = {"input_ids": [], "labels": []}
    for start in range(0, len(corpus), BATCH):
        for ids, labels in _examples(chat, corpus[start : start + BATCH]):
            if any(label != -100 for label in labels[:max_length]):
                columns["input_ids"].append(array("i", ids[:max_length]))
                columns["labels"].append(array("i", labels[:max_length]))
    if not columns["input_ids"]:
        raise UserError(
            f"each of the {len(corpus)} prompts of the corpus fills sft.max_length ({max_length} "
            "tokens), so that no answer is left to learn from; give a larger max_length"
        )
    kind = pa.list_(pa.int32())
    table = pa.table({name: pa.array(rows, kind) for name, rows in columns.items()})
    return Dataset(InMemoryTable(table))


def without_strays(
    corpus: list[dict], chat: Chat, source: str, bad_rows: str
) -> tuple[list[dict], dict[str, int]]:
    """The conversations whose answers hold no text of a special token, and reasons of the others.

    Raises:
        UserError: there are others, unless ``bad_rows`` is "drop" and some are left.
    """
    stray, kept, bad = Stray(chat), [], []
    for number, row in enumerate(corpus, start=1):
        answers = [m for m in row["completion"] if m["role"] == "assistant"]
        if token := stray.in_messages(answers):
            asked = row["prompt"][-1]["content"][:60]
            reason = "an answer has the text of a special token, which would be that token"
            bad.append((f"row {number} (prompt {asked!r})", BadRow(reason, token)))
        else:
            kept.append(row)
    return kept, dict(refuse_bad(bad, len(kept), source, bad_rows))


def _examples(chat: Chat, rows: list[dict]) -> list[tuple[list[int], list[int]]]:
    """(input_ids, labels) of each conversation, answers tokenized as after their prompt alone.

    Where a template renders earlier turns differently once there are later ones, an answer cannot
    go on from the turns before; it then begins an example of its own.
    """
    prompts, answers, options, firsts = [], [], [], set()
    for row in rows:
        firsts.add(len(prompts))
        messages = row["prompt"] + row["completion"]
        for i in range(len(row["prompt"]), len(messages)):
            if messages[i]["role"] == "assistant":
                prompts.append(messages[:i])
                answers.append([messages[i]])
                options.append(row_options(row))
    examples = []
    pairs = zip(*encode_pairs(chat, prompts, answers, options), strict=True)
    for turn, (prompt, answer) in enumerate(pairs):
        ids, labels = examples.pop() if turn not in firsts else ([], [])
        if prompt[: len(ids)] != ids:
            examples.append((ids, labels))
            ids, labels = [], []
        labels = labels + [-100] * (len(prompt) - len(ids)) + answer
        examples.append((prompt + answer, labels))
    return examples


class ByLength(LengthGroupedSampler):
    """transformers' sampler, shuffled by seed and epoch, where its own takes the global state."""

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        self.generator = torch.Generator().manual_seed(self.seed + epoch)


class StartTrainer(SFTTrainer):
    """Batches of like lengths, in an order that a resumed run can go on with."""

    def _get_train_sampler(self, train_dataset=None) -> ByLength:
        lengths = [len(ids) for ids in self.train_dataset["input_ids"]]
        args = self.args
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return ByLength(batch_size, lengths, args.seed)


def make_trainer(record: dict, model, tokenizer, dataset, folder):
    """TRL's SFTTrainer for a record on a tokenized corpus; ``folder`` is for checkpoints."""
    settings = record["sft"]
    args = SFTConfig(
        output_dir=str(folder),
        learning_rate=settings["learning_rate"],
        num_train_epochs=settings["num_train_epochs"],
        lr_scheduler_type="cosine",
        warmup_steps=settings["warmup_ratio"],  # a float below 1 is the share of all steps
        # From scratch, gradients change faster than the library's default of 0.999 averages.
        adam_beta2=0.98 if record["scratch"] else 0.999,
        # Examples are cut already; packing fills sequences of this length with them.
        max_length=settings["max_length"] if settings["packing"] else None,
        packing=settings["packing"],
        seed=record["sft_seed"],
        **common_arguments(settings),
    )
    return StartTrainer(model, args, train_dataset=dataset, processing_class=tokenizer)


def main(argv=None) -> None:
    parser = record_parser(__doc__, "model folder")
    parser.add_argument("--corpus", required=True, help="corpus.parquet: prompt, completion")
    parser.add_argument("--base", help="folder of the hub's model, where the record names one")
    add_needs(parser)
    add_run_flags(parser)
    args = parser.parse_args(argv)
    record = args.record
    settings = record["sft"]
    torch.set_num_threads(settings.get("torch_threads", record["torch_threads"]))
    corpus = pq.read_table(args.corpus).to_pylist()
    tokenizer, model = load_model(record, corpus, args.base, args.needs)
    # Examples of the start model are whole conversations, whatever the pairs' policy.
    chat = Chat(tokenizer, "keep_start", record.get("chat_template_kwargs", {}))
    bad_rows = settings["bad_rows"] if settings.get("dataset") else record.get("bad_rows", "error")
    clean, dropped = without_strays(corpus, chat, args.corpus, bad_rows)
    dataset = tokenize_corpus(clean, chat, settings["max_length"])
    largest = largest_id(dataset.data["input_ids"])
    check_ids(tokenizer, largest, model.config.get_text_config().to_dict(), args.corpus)
    inputs = {"corpus": sha256(args.corpus)}
    if not record["scratch"]:
        inputs["model"] = model_digest(model.name_or_path)
    checkpoints = Checkpoints(args.checkpoints, record, inputs)
    name, loaded = model.name_or_path, [model]
    del model  # one that was too large for the memory must not stay there

    def train(settings: dict):
        model = loaded.pop() if loaded else load_model(record, corpus, args.base, args.needs)[1]
        of = {**record, "sft": settings}
        trainer = make_trainer(of, model, tokenizer, dataset, checkpoints.folder)
        run(trainer, f"sft {record['setting']}", checkpoints, args)
        return trainer

    with explained(record["setting"], "sft"):
        trainer = shrinking(settings, train)
    counts = {"examples": len(corpus), "dropped": dropped, "examples_used": len(dataset)}
    publish_model(args.output, trainer, name, "start model", record, counts, counts)
    checkpoints.remove()


if __name__ == "__main__":
    cli(main)
