"""Launching: plain on one process, accelerate on several, and the same model either way."""

import json
import sys

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from safetensors.torch import load_file

from poet.files import UserError
from poet.train import launch, preference
from training_runs import arguments, make_inputs, record_of

CONFIGS = sorted(path.stem for path in launch.CONFIGS.glob("*.yaml"))
KIND = {"fsdp": "FSDP", "fsdp-offload": "FSDP", "zero3": "DEEPSPEED", "cpu": "MULTI_CPU"}


@pytest.mark.parametrize("gpus", [0, 1])
def test_one_process_runs_plain(gpus):
    assert launch.command("poet.train.preference", ["--x", "1"], gpus, "fsdp") == [
        sys.executable, "-m", "poet.train.preference", "--x", "1"
    ]  # fmt: skip


@pytest.mark.parametrize("sharding", ["fsdp", "zero3"])
def test_several_run_accelerate_with_our_configuration(sharding):
    command = launch.command("poet.train.preference", ["--record", "{}"], 4, sharding)
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    args = launch_command_parser().parse_args(command[3:])  # accelerate's own reading of it
    assert (args.num_processes, args.module) == (4, True)
    assert args.training_script == "poet.train.preference"
    assert args.training_script_args == ["--record", "{}"]
    assert load_config_from_file(args.config_file).distributed_type.value == KIND[sharding]


def test_offload_needs_accelerate_on_one_gpu_too():
    command = launch.command("poet.train.preference", [], 1, "fsdp-offload")
    args = launch_command_parser().parse_args(command[3:])
    assert args.num_processes == 1 and args.config_file.endswith("fsdp-offload.yaml")


def test_an_unknown_sharding_is_named():
    with pytest.raises(
        UserError, match="found ddp, expected one of cpu, fsdp, fsdp-offload, zero3"
    ):
        launch.command("poet.train.preference", [], 2, "ddp")


def test_the_configurations_say_what_their_names_do():
    assert set(CONFIGS) == set(KIND)
    for name in CONFIGS:
        path = launch.CONFIGS / f"{name}.yaml"
        assert load_config_from_file(str(path)).distributed_type.value == KIND[name]
        found = yaml.safe_load(path.read_text())
        if name.startswith("fsdp"):
            # Master weights stay float32: bfloat16 is for computing, by mixed precision.
            assert found["mixed_precision"] == "bf16"
            assert found["fsdp_config"]["fsdp_offload_params"] == (name == "fsdp-offload")
        if name == "zero3":
            assert found["deepspeed_config"]["zero_stage"] == 3


def test_two_processes_of_accelerate_train_the_same_model(start, tmp_path, monkeypatch):
    """As the rule does, with the shipped configuration for CPUs: losses and weights of one."""
    import subprocess

    inputs = make_inputs(start[0], tmp_path, n_train=10, n_test=4)
    record = record_of(global_batch_size=4, per_device_batch_size=2)
    preference.main(arguments(inputs, record, tmp_path / "one"))
    command = [sys.executable, "-m", "poet.train.launch", "--gpus", "2", "--sharding", "cpu"]
    both = arguments(inputs, record, tmp_path / "two")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = subprocess.run(
        [*command, "poet.train.preference", *both], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    logs, weights = [], []
    for name in ("one", "two"):
        log = json.loads((tmp_path / name / "model" / "train.json").read_text())["log_history"]
        logs.append([row["loss"] for row in log if "loss" in row])
        weights.append(load_file(tmp_path / name / "model" / "model.safetensors"))
    assert logs[0] and logs[1] == pytest.approx(logs[0], rel=1e-4)
    for key, one in weights[0].items():
        assert weights[1][key].flatten().tolist() == pytest.approx(
            one.flatten().tolist(), rel=1e-3, abs=1e-5
        )
    # Not the start model's: a step was taken.
    begun = load_file(start[0] / "model.safetensors")
    assert any((begun[key] - one).abs().max() > 1e-5 for key, one in weights[0].items())
