"""Resumed training: bit for bit the undisturbed one, from complete checkpoints of its own only."""

import os
import pickle
import random
import signal

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from torch.utils.data import BatchSampler, DataLoader
from transformers import TrainerControl, TrainerState, TrainingArguments

from poet.files import UserError, read_json, write_json
from poet.train import preference
from poet.train.checkpoints import MARKER, SIGNALS, Checkpoints, Saver
from training_runs import arguments, make_inputs, record_of, start_and_end

SETTINGS = {
    "all weights": {"num_train_epochs": 2, "forward": "padded"},
    "packed": {"num_train_epochs": 2, "token_budget": 60},
    "LoRA": {"num_train_epochs": 2, "token_budget": 60, "lora": {"r": 2, "lora_dropout": 0.1}},
}


class Planted:
    """A pickle that makes a folder when it is loaded as code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def inputs(start, tmp_path_factory):
    return make_inputs(start[0], tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    """What an undisturbed run of each of SETTINGS leaves."""
    found = {}
    for name, settings in SETTINGS.items():
        folder = tmp_path_factory.mktemp("undisturbed")
        argv = arguments(inputs, record_of(**settings), folder)
        # A process of its own, as those that are killed: other tests change torch's state.
        assert start_and_end(argv, folder / "log") == 0, (folder / "log").read_text()
        found[name] = result(folder)
    return found


def result(folder):
    """The model's files, and train.json without the command, which names the folder."""
    files = {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir())}
    report = read_json(folder / "model" / "train.json")
    del report["provenance"], files["train.json"]
    assert "model.safetensors" in files and not (folder / "checkpoints").exists()
    return files, report


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_run_killed_again_and_again_ends_the_same(inputs, undisturbed, tmp_path, settings):
    draw = random.Random(settings)
    argv = arguments(inputs, record_of(**SETTINGS[settings]), tmp_path)
    # 2 x 11 optimizer steps, padded of two micro-batches each, a checkpoint after step 15: before
    # it; while it is written; after it; while the finished model is written.
    batches = 2 if SETTINGS[settings].get("forward") == "padded" else 1
    kills = [
        ("training_step", draw.randint(1, 14 * batches)),
        ("_save_rng_state", 1),
        ("training_step", draw.randint(15 * batches, 21 * batches)),
        ("save_model", 1),
    ]
    for on, after in kills:
        code = start_and_end(argv, tmp_path / "log", on=on, after=after)
        assert code == -signal.SIGKILL, (tmp_path / "log").read_text()
        assert not (tmp_path / "model").exists()
    assert start_and_end(argv, tmp_path / "log") == 0
    assert "resuming from" in (tmp_path / "log").read_text()
    assert result(tmp_path) == undisturbed[settings]


def test_sigterm_writes_a_checkpoint_and_fails(inputs, undisturbed, tmp_path, planted):
    record, log = record_of(**SETTINGS["all weights"]), tmp_path / "log"
    argv = arguments(inputs, record, tmp_path)
    end = {"signal_number": signal.SIGTERM, "on": "training_step", "after": 13}
    assert start_and_end(argv, log, **end) == 1
    assert "error: stopped by SIGTERM after optimizer step 7 of 22; the" in log.read_text()
    seen = next(line for line in log.read_text().splitlines() if line.startswith("error:"))
    planted("training: preempted (SIGTERM)", seen, "the next run goes on from that step")
    (folder,) = (tmp_path / "checkpoints").glob("*/checkpoint-*")
    assert folder.name == "checkpoint-7" and not (tmp_path / "model").exists()
    assert (folder / "model.safetensors").exists() and not list(folder.glob("pytorch_model*"))

    optimizer = (folder / "optimizer.pt").read_bytes()
    torch.save(Planted(str(tmp_path / "executed")), folder / "optimizer.pt")
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        preference.main(argv)
    assert not (tmp_path / "executed").exists()
    (folder / "optimizer.pt").write_bytes(optimizer)

    assert start_and_end(argv, log) == 0
    assert f"resuming from {folder}" in log.read_text()
    files, report = result(tmp_path)
    assert files["model.safetensors"] == undisturbed["all weights"][0]["model.safetensors"]
    assert [row["step"] for row in report["log_history"]] == [5, 10, 15, 20, 22, 22]


def test_two_processes_stop_together_and_go_on(inputs, tmp_path):
    record = record_of(num_train_epochs=2, forward="padded", per_device_batch_size=1)
    log, weights = tmp_path / "log", []
    for name in ("undisturbed", "stopped"):
        argv = arguments(inputs, record, tmp_path / name)
        if name == "stopped":  # in optimizer step 7 of 2 x 11, of two micro-batches each
            end = {"signal_number": signal.SIGTERM, "on": "training_step", "after": 13}
            assert start_and_end(argv, log, processes=2, **end) != 0, log.read_text()
        assert start_and_end(argv, log, processes=2) == 0, log.read_text()
        weights.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert "checkpoint-7" in log.read_text()
    assert weights[0] == weights[1]


def test_only_complete_checkpoints_of_the_same_run_are_used(tmp_path, capsys, planted):
    record, files = {"beta": 0.1}, {"tokens": "abc"}
    mine = Checkpoints(tmp_path, record, files)
    assert mine.last() is None
    for step in (5, 15, 100, 20):
        (mine.folder / f"checkpoint-{step}").mkdir(parents=True)
        if step != 100:
            write_json(mine.run, mine.folder / f"checkpoint-{step}" / MARKER)
    assert mine.last().name == "checkpoint-20"  # by number, not by name or time
    assert "checkpoint-100 is incomplete and will not be used" in capsys.readouterr().err

    for other in (Checkpoints(tmp_path, {"beta": 0.2}, files), Checkpoints(tmp_path, record, {})):
        assert other.last() is None
        said = f"checkpoints of other settings or data are not used: {mine.folder} (0.0 MB)"
        assert said in capsys.readouterr().err
    other.folder.mkdir()
    (mine.folder / "checkpoint-20").rename(other.folder / "checkpoint-20")
    refused = "checkpoint-20 was made by another run than this one"
    with pytest.raises(UserError, match=refused) as error:
        other.last()
    planted("training: a checkpoint of another configuration", error.value, "it is left alone")
    assert mine.last().name == "checkpoint-15"
    mine.remove()
    assert [path.name for path in tmp_path.iterdir()] == [other.folder.name]


def test_the_number_of_processes_is_part_of_the_run(tmp_path, monkeypatch):
    alone = Checkpoints(tmp_path, {}, {}).folder
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Checkpoints(tmp_path, {}, {}).folder != alone


@pytest.mark.parametrize(
    ("save_steps", "max_steps", "expected"),
    [(0.2, 50, [10, 20, 30, 40]), (0.2, 470, [95, 190, 285, 380]), (7, 30, [10, 20]), (1, 3, [])],
)
def test_checkpoints_fall_on_logged_steps(tmp_path, save_steps, max_steps, expected):
    saver = Saver(Checkpoints(tmp_path, {}, {}), save_steps)
    args = TrainingArguments(output_dir=str(tmp_path), logging_steps=5, report_to="none")
    state, saved = TrainerState(max_steps=max_steps), []
    saver.on_train_begin(args, state, None)
    for state.global_step in range(1, max_steps + 1):
        control = TrainerControl()
        saver.on_step_end(args, state, control)
        saved += [state.global_step] if control.should_save else []
    saver.release()
    assert saved == expected


def test_only_signals_that_would_end_the_run_are_taken(tmp_path):
    """Not what nohup ignores; a second Ctrl-C ends at once, as elsewhere; then all is as before."""
    saver = Saver(Checkpoints(tmp_path, {}, {}), 1)
    args = TrainingArguments(output_dir=str(tmp_path), report_to="none")
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        before = {number: signal.getsignal(number) for number in SIGNALS}
        saver.on_train_begin(args, TrainerState(max_steps=10), None)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        control = TrainerControl()
        saver.on_step_end(args, TrainerState(global_step=1, max_steps=10), control)
        assert (control.should_save, control.should_training_stop) == (True, True)
        assert saver.stopped == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        saver.release()
        assert {number: signal.getsignal(number) for number in SIGNALS} == before
    finally:
        signal.signal(signal.SIGHUP, hangup)


def test_the_epoch_reaches_the_sampler_of_a_resumed_run_on_several_processes(tmp_path):
    from poet.train.trainer import SortedBatches

    sampler = SortedBatches([1] * 8, 4, seed=0)
    batches = SkipBatchSampler(BatchSamplerShard(BatchSampler(sampler, 2, False), 2, 0), 1)
    loader = DataLoader([0] * 8, batch_sampler=batches)
    Saver(Checkpoints(tmp_path, {}, {}), 1).on_epoch_begin(
        None, TrainerState(epoch=1.5), None, train_dataloader=loader
    )
    assert sampler.epoch == 1
