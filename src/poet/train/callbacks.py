"""What the trainers share while they run."""

from __future__ import annotations

from transformers import TrainerCallback

from poet.progress import track


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
