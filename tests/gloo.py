"""The same training in several gloo processes on the CPU."""

import json
import os
from pathlib import Path

from training_runs import PROCESSES, environment, free_port


def train_in(processes: int, job: dict, folder: Path) -> dict:
    """Run ``job`` (see :func:`_train`) in so many processes; the result of the first of them."""
    port = free_port()
    running = [
        PROCESSES.Process(target=_train, args=(rank, processes, port, job, str(folder)))
        for rank in range(processes)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * processes
    results = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]
    assert all(result["losses"] == results[0]["losses"] for result in results)
    return results[0]


def _train(rank: int, processes: int, port: int, job: dict, folder: str) -> None:
    os.environ |= environment(rank, processes, port)
    result = trained(job, folder)
    Path(folder, f"{rank}.json").write_text(json.dumps(result))


def trained(job: dict, folder: str) -> dict:
    """Losses, evaluation and final weights of a job, in the processes that the environment names.

    ``job``: ``model`` and ``global_batch_size``, ``rows`` and ``held_out`` as columns, ``method``
    (arguments of the trainer), ``per_device``.
    """
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig

    from poet.train.arguments import common_arguments
    from poet.train.trainer import PreferenceTrainer

    torch.set_num_threads(1)
    common = common_arguments({**job, "per_device_batch_size": job["per_device"]})
    trainer = PreferenceTrainer(
        model=AutoModelForCausalLM.from_pretrained(job["model"]),
        args=DPOConfig(
            output_dir=folder, learning_rate=1e-3, num_train_epochs=2, max_length=None, seed=3,
            **common | {"logging_steps": 1, "use_cpu": True},
        ),
        train_dataset=Dataset.from_dict(job["rows"]),
        eval_dataset=Dataset.from_dict(job["held_out"]),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        **job["method"],
    )  # fmt: skip
    trainer.train()
    evaluation = trainer.evaluate()
    return {
        "processes": trainer.accelerator.num_processes,
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
        "margins": [row["rewards/margins"] for row in trainer.state.log_history if "loss" in row],
        "evaluation": {k: v for k, v in evaluation.items() if "/" in k or k == "eval_loss"},
        "weights": trainer.model.get_output_embeddings().weight.flatten().tolist(),
    }
