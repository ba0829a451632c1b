"""One training run: resumed, logged, its memory errors explained, its model published."""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from typing import TypeVar

import torch
from huggingface_hub import ModelCardData
from peft import PeftModel
from transformers import PrinterCallback, TrainerCallback
from transformers.integrations import get_reporting_integration_callbacks

from poet.devices import out_of_memory
from poet.files import UserError, publish, remove, write_json
from poet.hub.folders import whole_model
from poet.hub.lock import is_hub_id
from poet.progress import track
from poet.provenance import provenance
from poet.train.arguments import check_reporting
from poet.train.checkpoints import Checkpoints, Saver, is_main

T = TypeVar("T")

# Endings of what is not the same in two runs of the same training.
CLOCK = ("_runtime", "_per_second", "num_tokens")
# Numbers of the log worth a line: key -> what it says.
NUMBERS = {
    "loss": "training loss (last logged mean)",
    "mean_token_accuracy": "share of training tokens predicted right (last logged mean)",
    "rewards/margins": "reward margin of training pairs (last logged mean)",
    "rewards/accuracies": "share of training pairs ranked right (last logged mean)",
    "eval_loss": "loss on test pairs",
    "eval_rewards/margins": "reward margin of test pairs",
    "eval_rewards/accuracies": "share of test pairs ranked right",
}


class ProgressLines(TrainerCallback):
    """One progress line every few seconds, in place of the trainer's bar (set ``disable_tqdm``).

    Counts optimizer steps, from where a resumed run stands, and shows the last logged loss.
    """

    def __init__(self, label: str):
        self.label = label

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = track(total=state.max_steps, label=self.label, shown=state.is_world_process_zero)
        self.bar.update(state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update()

    def on_log(self, args, state, control, logs, **kwargs):
        if "loss" in logs:
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.4f}", refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


def run(trainer, label: str, checkpoints: Checkpoints, flags) -> None:
    """Train from the last checkpoint, or from the start; ``flags``: see ``add_run_flags``.

    ``label`` is what the progress is of.

    Raises:
        UserError: stopped by a signal; a checkpoint of another run.
    """
    saver = Saver(checkpoints, flags.save_steps)
    trainer.add_callback(ProgressLines(label))
    trainer.add_callback(saver)
    trainer.remove_callback(PrinterCallback)  # the log is kept in train.json
    checkpoints.hold()
    last = checkpoints.last()
    _report(trainer, flags, resumed=last is not None)
    try:
        trainer.train(resume_from_checkpoint=last and str(last))
    finally:
        saver.release()
    if saver.stopped:
        raise UserError(
            f"stopped by {Signals(saver.stopped).name} after optimizer step "
            f"{trainer.state.global_step} of {trainer.state.max_steps}; the same command goes on "
            f"from its checkpoint in {checkpoints.folder}"
        )


def _report(trainer, flags, resumed: bool) -> None:
    """Add the integrations that the flags name; a run from the start gets a fresh TensorBoard."""
    check_reporting(flags.report_to)
    for callback in get_reporting_integration_callbacks(flags.report_to):
        trainer.add_callback(callback)
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__name__ == "TensorBoardCallback":
            callback.logging_dir = flags.logs
            if is_main() and not resumed:
                for events in Path(flags.logs).glob("events.out.tfevents.*"):
                    events.unlink()


@contextmanager
def explained(setting: str, section: str) -> Iterator[None]:
    """Turn running out of memory, on a GPU or not, into what to change in the configuration.

    Raises:
        UserError: naming the keys.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"out of memory: {reason}\n"
            f"In settings.{setting}.{section}, halve token_budget (forward: packed) or "
            "per_device_batch_size (the global batch and the result stay the same), set "
            "gradient_checkpointing: true, or shorten max_length; or train on more GPUs."
        ) from None


def shrinking(settings: dict, compute: Callable[[dict], T]) -> T:
    """``compute(settings)``; again with half as much per pass while the memory is too small.

    A training goes on from its last checkpoint. The global batch stays, and so does the result but
    for rounding. Several processes do not shrink: they would have to agree.
    """
    while True:
        try:
            return compute(settings)
        except (MemoryError, RuntimeError) as error:
            smaller = halved(settings)
            if not out_of_memory(error) or smaller is None or "WORLD_SIZE" in os.environ:
                raise
            said = ", ".join(f"{k} {settings[k]} -> {v}" for k, v in smaller.items())
        settings = {**settings, **smaller}
        print(f"out of memory; half as much at a time: {said}", file=sys.stderr)
        gc.collect()
        torch.cuda.empty_cache()


def halved(settings: dict) -> dict | None:
    """What halves a pass of a training, as a change of its settings; None where nothing does."""
    if settings.get("forward") == "packed":
        size = settings["token_budget"] // 2  # at last a pair per row
        return {"token_budget": size} if size else None
    if "global_batch_size" not in settings:
        size = settings["reference_batch_size"] // 2
        return {"reference_batch_size": size} if size else None
    size, batch = settings["per_device_batch_size"], settings["global_batch_size"]
    divisors = [n for n in range(1, size // 2 + 1) if batch % n == 0]
    return {"per_device_batch_size": divisors[-1]} if divisors else None


def publish_model(
    path: str | Path,
    trainer,
    base: str | Path,
    title: str,
    record: dict,
    counts: dict,
    found: dict,
    numbers: dict[str, float] | None = None,
) -> None:
    """Publish a finished training as a folder: model, tokenizer, ``train.json`` and the card.

    The log is without clock times: the same for a resumed and an undisturbed run.

    Args:
        base: folder of the model that was trained.
        counts: what was read, for the card.
        found: what ``train.json`` has beside record, log and provenance.
        numbers: what the card has beside the log's last numbers.
    """
    log = [
        {name: value for name, value in row.items() if not name.endswith(CLOCK)}
        for row in trainer.state.log_history
        if "train_runtime" not in row  # the summary of this process, not of the run
    ]
    last = {name: value for row in log for name, value in row.items()}
    shown = {text: round(float(last[name]), 4) for name, text in NUMBERS.items() if name in last}
    # Every process saves, since the weights of several are gathered; the main one's is published.
    with publish(path) if is_main() else tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        folder.mkdir(exist_ok=True)
        _save_model(trainer, base, folder)
        computed = {"computed_in": "bfloat16" if trainer.args.bf16 else "float32"}
        report = {"record": record, **computed, **found, "log_history": log}
        report["provenance"] = provenance()
        write_json(report, folder / "train.json")
        write_card(folder, f"{record['setting']}: {title}", record, counts, shown | (numbers or {}))


def _save_model(trainer, base: str | Path, folder: Path) -> None:
    """Save model and tokenizer as ``from_pretrained`` takes them; LoRA is merged into ``base``."""
    trained = trainer.accelerator.unwrap_model(trainer.model)
    adapted = isinstance(trained, PeftModel)
    with tempfile.TemporaryDirectory(prefix="adapter-") as adapter:
        trainer.save_model(adapter if adapted else str(folder))
        if adapted and is_main():
            model = whole_model(type(trained.get_base_model()), base, dtype=torch.float32)
            PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(folder)
            trainer.processing_class.save_pretrained(folder)
    remove(folder / "training_args.bin")  # a pickle


def write_card(
    folder: Path, title: str, record: dict, counts: dict[str, int], numbers: dict[str, float]
) -> None:
    """Write ``README.md``: the hub's header, the record, what was read, what came out.

    Base model and data set stand in the header where they are ids on the hub. It names no licence:
    that follows from theirs.
    """
    named = {"base_model": record.get("model"), "datasets": record.get("dataset")}
    on_hub = {key: name for key, name in named.items() if name and is_hub_id(name)}
    header = ModelCardData(library_name="transformers", tags=["trl", "poet"], **on_hub)
    tables = {"Method": record, "Data": counts, "Numbers": numbers}
    sections = [f"## {heading}\n\n{_table(values)}" for heading, values in tables.items() if values]
    parts = [f"---\n{header.to_yaml()}\n---", f"# {title}", *sections]
    parts.append("Log and versions are in `train.json`.\n")
    (folder / "README.md").write_text("\n\n".join(parts), encoding="utf-8")


def _table(values: dict) -> str:
    rows = [
        f"| {name} | {value if isinstance(value, str) else json.dumps(value)} |"
        for name, value in values.items()
        if value is not None
    ]
    return "\n".join(["| | |", "|---|---|", *rows])
