"""A run stopped from outside, with all of its processes: its training says so and goes on later."""

import copy
import os
import signal
import subprocess
import time


def stop(workflow, number: int) -> str:
    """Send everything of a run the signal once a training has written a new checkpoint: output."""
    checkpoints = workflow.folder / "results/checkpoints/sft/world"
    before = set(checkpoints.glob("*/checkpoint-*/complete.json"))
    run = subprocess.Popen(
        workflow.command("--", "results/models/world/sft"), cwd=workflow.folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    while not set(checkpoints.glob("*/checkpoint-*/complete.json")) - before:
        assert run.poll() is None, run.communicate()[0][-5000:]
        time.sleep(0.05)
    os.killpg(run.pid, number)
    output = run.communicate(timeout=120)[0]
    assert run.returncode != 0, output
    return output


def test_a_signal_to_all_processes_leaves_a_checkpoint_and_says_so(workflow, small_config, planted):
    config = copy.deepcopy(small_config)
    config["settings"]["world"]["sft"]["num_train_epochs"] = 12
    config["save_steps"] = 0.02
    run = workflow(config)
    log = run.folder / "results/logs/sft/world.log"
    for name in ("SIGTERM", "SIGINT"):
        output = stop(run, getattr(signal, name))
        (seen,) = [line for line in log.read_text().splitlines() if line.startswith("error:")]
        assert seen in output and f"stopped by {name} after optimizer step " in seen
        assert "Traceback" not in log.read_text()
        step, folder = seen.split("step ")[1].split()[0], run.folder / seen.split(" in ")[-1]
        assert [path.name for path in folder.glob("checkpoint-*")] == [f"checkpoint-{step}"]
        planted(
            f"{name} to a run and all its processes",
            seen.replace(f" {step} of", " N of"),
            "the training's log has the message; the same command goes on from that step",
        )
    abandoned = run.folder / "results/checkpoints/train/world/dpo/seed-1/0123456789abcdef"
    (abandoned / "checkpoint-10").mkdir(parents=True)
    (abandoned / "checkpoint-10" / "model.safetensors").write_bytes(bytes(1_600_000))
    result = run("--", "results/models/world/sft")
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"resuming from {folder.relative_to(run.folder)}/checkpoint-{step}" in log.read_text()
    said = result.stderr[result.stderr.index("results/checkpoints holds") :].split("\n")[:2]
    planted(
        "a configuration was changed before its training ended",
        "\n".join(said),
        "said at the end of a run and in the log of the same training; nothing is deleted",
    )
    assert (abandoned / "checkpoint-10").exists()
