"""One training run: resumed, logged, its memory errors explained, its model saved whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import Signals

from transformers import TrainerCallback

from poet.files import UserError, publish, remove
from poet.hub.folders import whole_model
from poet.progress import track
from poet.train.checkpoints import Checkpoints, Saver, is_main
from poet.train.requirements import check_reporting

# Not the same in two runs of the same training.
_CLOCK = ("_runtime", "_per_second", "num_tokens")


class ProgressLines(TrainerCallback):
    """One progress line every few seconds, in place of the trainer's bar (set ``disable_tqdm``).

    Counts optimizer steps, from where a resumed run stands, and shows the last logged loss.
    """

    def __init__(self, label: str):
        self.label = label

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = None
        if state.is_world_process_zero:
            self.bar = track(total=state.max_steps, label=self.label)
            self.bar.update(state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None and "loss" in (logs or {}):
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.4f}", refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()


def run(trainer, checkpoints: Checkpoints, flags) -> None:
    """Train from the last checkpoint, or from the start; ``flags``: see ``add_run_flags``.

    Raises:
        UserError: stopped by a signal; a checkpoint of another run.
    """
    from transformers import PrinterCallback

    saver = Saver(checkpoints, flags.save_steps)
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
    from transformers.integrations import get_reporting_integration_callbacks

    check_reporting(flags.report_to)
    for callback in get_reporting_integration_callbacks(flags.report_to):
        trainer.add_callback(callback)
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__name__ == "TensorBoardCallback":
            callback.logging_dir = flags.logs
            if is_main() and not resumed:
                for events in Path(flags.logs).glob("events.out.tfevents.*"):
                    events.unlink()


def history(trainer) -> list[dict]:
    """The trainer's log without clock times: the same for a resumed and an undisturbed run."""
    return [
        {name: value for name, value in row.items() if not name.endswith(_CLOCK)}
        for row in trainer.state.log_history
        if "train_runtime" not in row  # the summary of this process, not of the run
    ]


@contextmanager
def explained(setting: str, section: str) -> Iterator[None]:
    """Turn running out of memory, on a GPU or not, into what to change in the configuration.

    Raises:
        UserError: naming the keys.
    """
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and "allocate memory" not in reason:  # torch's error on a CPU
            raise
        raise UserError(
            f"out of memory: {reason}\n"
            f"In settings.{setting}.{section}, halve token_budget (forward: packed) or "
            "per_device_batch_size (the global batch and the result stay the same), set "
            "gradient_checkpointing: true, or shorten max_length; or train on more GPUs."
        ) from None


@contextmanager
def publish_once(path: str | Path) -> Iterator[Path]:
    """A new folder that is published as ``path``; that of all but the main process is dropped."""
    if is_main():
        with publish(path) as folder:
            folder.mkdir()
            yield folder
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def save_model(trainer, base: str | Path, folder: Path) -> None:
    """Save model and tokenizer as ``from_pretrained`` takes them; LoRA is merged into ``base``.

    Every process calls it: on several, the weights are gathered first.
    """
    import torch
    from peft import PeftModel

    trained = trainer.accelerator.unwrap_model(trainer.model)
    adapted = isinstance(trained, PeftModel)
    with tempfile.TemporaryDirectory(prefix="adapter-") as adapter:
        trainer.save_model(adapter if adapted else str(folder))
        if adapted and is_main():
            model = whole_model(type(trained.get_base_model()), base, dtype=torch.float32)
            PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(folder)
            trainer.processing_class.save_pretrained(folder)
    remove(folder / "training_args.bin")  # a pickle
