"""Out of memory: half as much at a time, and the same result."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from poet.devices import in_batches
from poet.train import preference, run
from poet.train.trainer import PreferenceTrainer
from training_runs import arguments, make_inputs, record_of


@given(st.lists(st.integers(), max_size=40), st.integers(1, 50), st.integers(1, 9))
def test_batches_are_halved_until_they_fit(rows, size, room):
    tried = []

    def compute(batch):
        tried.append(len(batch))
        if len(batch) > room:
            raise torch.OutOfMemoryError("a batch")
        return [-row for row in batch]

    found = [*in_batches(rows, size, compute)]
    assert [row for batch, _ in found for row in batch] == rows
    assert all(negative == [-row for row in batch] for batch, negative in found)
    assert max(map(len, (batch for batch, _ in found)), default=0) <= min(room, size)
    assert max(tried, default=0) <= size


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("shapes"), MemoryError()])
def test_other_errors_and_single_rows_are_not_repeated(error):
    def compute(batch):
        raise error

    with pytest.raises(type(error)):
        [*in_batches([1] if isinstance(error, MemoryError) else [1, 2], 2, compute)]


@given(st.integers(1, 64), st.data())
def test_halves_divide_the_global_batch_and_end(batch, data):
    divisors = [n for n in range(1, batch + 1) if batch % n == 0]
    settings = {
        "global_batch_size": batch,
        "per_device_batch_size": data.draw(st.sampled_from(divisors)),
    }
    for _ in range(10):
        if (smaller := run.halved(settings)) is None:
            break
        assert smaller["per_device_batch_size"] <= settings["per_device_batch_size"] / 2
        assert batch % smaller["per_device_batch_size"] == 0
        settings |= smaller
    assert settings["per_device_batch_size"] == 1


@pytest.mark.parametrize(("forward", "step"), [("packed", 2), ("packed", 10), ("padded", 10)])
def test_a_training_goes_on_in_smaller_passes(start, tmp_path, monkeypatch, capsys, forward, step):
    """Of its eleven steps it has saved ten, or none; the model comes out the same."""
    inputs = make_inputs(start[0], tmp_path)
    record = record_of(forward=forward, token_budget=80)
    preference.main(arguments(inputs, record, tmp_path / "calm"))
    failed, whole = [], PreferenceTrainer.compute_loss

    def compute_loss(self, model, batch, *args, **kwargs):
        if self.state.global_step == step and not failed:
            failed.append(step)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, model, batch, *args, **kwargs)

    monkeypatch.setattr(PreferenceTrainer, "compute_loss", compute_loss)
    capsys.readouterr()
    preference.main(arguments(inputs, record, tmp_path / "short"))
    said = capsys.readouterr().err
    changed = "token_budget 80 -> 40" if forward == "packed" else "per_device_batch_size 2 -> 1"
    assert f"out of memory; half as much at a time: {changed}" in said
    assert ("resuming from" in said) == (step == 10)
    calm, short = (tmp_path / name / "model" for name in ("calm", "short"))
    first, second = (load_file(folder / "model.safetensors") for folder in (calm, short))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
    records = [json.loads((f / "train.json").read_text())["record"] for f in (calm, short)]
    assert records[0] == records[1]


def test_a_pair_that_is_too_large_is_said_with_what_to_do(start, tmp_path, monkeypatch):
    def compute_loss(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PreferenceTrainer, "compute_loss", compute_loss)
    inputs = make_inputs(start[0], tmp_path)
    with pytest.raises(run.UserError, match="shorten max_length"):
        preference.main(arguments(inputs, record_of(token_budget=80), tmp_path / "run"))
