"""A reward model as a judge: a published one, or the one trained on the setting's pairs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from poet.data.templates import Options, apply_template, row_options, template_of
from poet.devices import in_batches
from poet.evaluate.annotators.kind import Kind
from poet.evaluate.annotators.scalar import Scalar
from poet.evaluate.records import PATH, REVISION
from poet.files import UserError, read_json
from poet.hub.folders import check_chat_template
from poet.hub.lock import is_hub_id
from poet.precision import device_and_dtype, device_and_stored_dtype
from poet.progress import track

BATCH_SIZE = 16
_NAME = "hub id or folder; without it, the one trained on the setting's pairs"
SCHEMA = {
    "dependentRequired": {"revision": ["name"]},
    "properties": {"name": PATH | {"description": _NAME}, "revision": REVISION},
}


def reward_model(name: str, settings: dict, model: str | None) -> Scalar:
    """Any sequence classifier with one output: preference = 1 + sigmoid(r2 - r1), Bradley-Terry.

    Conversations are cut where its training cut them: at the tokenizer's ``model_max_length``, or
    at the model's positions where those are fewer or the tokenizer knows no limit.

    Args:
        name: the annotator's, for messages.
        settings: its section; its ``name`` is the model's folder where ``model`` is none.
        model: folder of the model and its tokenizer, whose chat template is used.

    Raises:
        UserError: the model has several outputs, or the tokenizer no chat template.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from poet.evaluate.sampling import pad_id
    from poet.hub.folders import model_path, whole_model

    model = model or settings["name"]
    folder = model_path(model)
    trained = Path(folder) / "train.json"  # one of the workflow's own; else there is none
    record = read_json(trained).get("record", {}) if trained.is_file() else {}
    variables = record.get("chat_template_kwargs", {})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if "reward_model" in record:
        device, dtype = device_and_dtype(record["reward_model"].get("dtype"))
    else:
        device, dtype = device_and_stored_dtype(read_json(Path(folder, "config.json")))
    classifier = whole_model(AutoModelForSequenceClassification, folder, dtype=dtype)
    if classifier.config.num_labels != 1:
        raise UserError(
            f"{model} has {classifier.config.num_labels} outputs; expected a reward model with one"
        )
    template_of(tokenizer)
    # The classifier reads its score at the last token that is no padding.
    classifier.config.pad_token_id = pad_id(tokenizer)
    classifier.to(device)
    positions = getattr(classifier.config.get_text_config(), "max_position_embeddings", None)
    # A tokenizer that knows no limit says 1e30.
    limit = min(int(tokenizer.model_max_length), positions or sys.maxsize)

    def rewards(prompts: Sequence[dict], outputs: Sequence[str]) -> tuple[list[float], list[bool]]:
        conversations = [
            [*prompt["prompt"], {"role": "assistant", "content": output}]
            for prompt, output in zip(prompts, outputs, strict=True)
        ]
        options = [*map(row_options, prompts)]
        sequences, was_cut = encode(tokenizer, conversations, limit, variables, options)
        if any(was_cut):
            print(
                f"{name}: {sum(was_cut)} of {len(was_cut)} conversations are longer than {limit} "
                "tokens; the reward model reads that much of them",
                file=sys.stderr,
            )
        return score(classifier, sequences, BATCH_SIZE, name), was_cut

    return Scalar(rewards)


def encode(
    tokenizer,
    conversations: list[list[dict]],
    max_length: int,
    template_kwargs: dict,
    options: Options = None,
) -> tuple[list, list]:
    """Token ids of templated conversations, cut to their first ``max_length`` tokens.

    ``template_kwargs``, ``options``: see :func:`poet.data.templates.apply_template`.

    Returns:
        Per conversation its ids, and whether they were cut.
    """
    texts = apply_template(tokenizer, template_kwargs, conversations, options)
    sequences = tokenizer(texts, add_special_tokens=False)["input_ids"]
    was_cut = [len(ids) > max_length for ids in sequences]
    return [ids[:max_length] for ids in sequences], was_cut


def score(model, sequences: list[list[int]], batch_size: int, label: str) -> list[float]:
    """The model's reward of each token sequence, in the order given.

    Batches are of similar length and padded on the right with ``model.config.pad_token_id``, so
    that a sequence's reward does not depend on its batch.
    """
    import torch

    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    values = [0.0] * len(sequences)
    pad = torch.nn.utils.rnn.pad_sequence
    model.eval()

    def rewards(batch: list[int]) -> list[float]:
        ids = [torch.tensor(sequences[i]) for i in batch]
        padded = pad(ids, batch_first=True, padding_value=model.config.pad_token_id)
        mask = pad([torch.ones_like(row) for row in ids], batch_first=True)
        with torch.inference_mode():
            logits = model(padded.to(model.device), mask.to(model.device)).logits
        return logits.squeeze(-1).float().tolist()

    with track(total=len(order), label=label) as progress:
        for batch, found in in_batches(order, batch_size, rewards):
            progress.update(len(batch))
            for i, value in zip(batch, found, strict=True):
                values[i] = value
    return values


def unfit(annotator: dict, setting: dict) -> str | None:
    if "name" not in annotator and "reward_model" not in setting:
        return (
            "needs a `name` (hub id or folder), or a section `reward_model` in the setting to "
            "train one on its pairs"
        )
    return None


def check_folder(folder: Path, where: str) -> None:
    """Refuse a folder that is no reward model's, without loading it.

    Raises:
        UserError: ``where``, and that it has no chat template, no classifier's head or several
            outputs.
    """
    check_chat_template(folder, where, "a judge")
    config = read_json(folder / "config.json")
    made_for = config.get("architectures") or ["ForSequenceClassification"]
    if not any("ForSequenceClassification" in each for each in made_for):
        raise UserError(
            f"{where}, whose config.json names {', '.join(made_for)}; expected a sequence "
            "classifier, because the head of another kind of model would not be read"
        )
    outputs = len(config.get("id2label") or ()) or config.get("num_labels", 2)
    if outputs != 1:
        raise UserError(f"{where}, with {outputs} outputs; expected a reward model with one")


def check(annotator: dict, configs: None, where: str) -> None:
    if "name" in annotator and not is_hub_id(annotator["name"]):
        check_folder(Path(annotator["name"]), f"{where}.name is {annotator['name']}")


def beforehand(name: str, settings: dict, model: str | None, rows, needs) -> dict:
    where = f"annotators.{name}.name is {settings['name']}"
    check_folder(Path(model or settings["name"]), where)
    return {"model": settings["name"]}


KIND = Kind(
    "reward_model", SCHEMA, judge=reward_model, scalar=True, loads=True, unfit=unfit, check=check,
    beforehand=beforehand,
)  # fmt: skip
