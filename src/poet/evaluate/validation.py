"""The validation of a sweep: which of several models of a method answers held-out prompts best.

The criterion is the mean true reward of one sampled answer to each held-out pair's prompt: what
the evaluation measures, on prompts that it does not use. The implicit rewards' accuracy on the
held-out pairs stands beside it, but does not choose: it grows with an overfit policy too. Answers
are sampled with transformers, whatever ``generation.backend`` says.
"""

from __future__ import annotations

import math
import statistics

from poet.files import UserError, cli, read_json, record_parser, write_json


def held_out_prompts(rows: list[dict], source) -> list[dict]:
    """A row of each prompt of the test pairs.

    Raises:
        UserError: there is no test pair.
    """
    prompts = {row["prompt_id"]: row for row in rows if row["split"] == "test"}
    if not prompts:
        raise UserError(f"{source} has no pair of the split `test`; the sweep is chosen on some")
    return list(prompts.values())


def cell(method: str, report: dict, rewards: list[float]) -> dict:
    """One model's settings and rewards; ``report`` is its train.json.

    ``validation_reward_se`` is the standard error over prompts.
    """
    log = {key: value for row in report["log_history"] for key, value in row.items()}
    spread = statistics.stdev(rewards) if len(rewards) > 1 else math.nan
    return {
        "method": method,
        "beta": report["record"]["parameters"]["beta"],
        "learning_rate": report["record"]["learning_rate"],
        "validation_reward": statistics.fmean(rewards),
        "validation_reward_se": spread / math.sqrt(len(rewards)),
        "pair_accuracy": log["eval_rewards/accuracies"],
    }


def main(argv=None) -> None:
    parser = record_parser(__doc__, "JSON: cells and the chosen one")
    parser.add_argument("--arm", required=True, help="the method that the cells vary")
    parser.add_argument("--pairs", required=True, help="pairs.parquet of the embedded world")
    parser.add_argument("--cells", required=True, nargs="+", help="names of the variants")
    parser.add_argument("--models", required=True, nargs="+", help="their model folders")
    parser.add_argument("--seed", required=True, type=int, help="of the sampling, for all the same")
    args = parser.parse_args(argv)
    record = args.record

    import pyarrow.parquet as pq
    import torch

    from poet.data.encoding import encode_prompts
    from poet.data.ends import with_ends
    from poet.data.templates import Chat
    from poet.evaluate.sampling import described, load_model, sample
    from poet.world.language import reward

    torch.set_num_threads(record["torch_threads"])
    held_out = held_out_prompts(pq.read_table(args.pairs).to_pylist(), args.pairs)
    cells = []
    for name, folder in zip(args.cells, args.models, strict=True):
        tokenizer, model = load_model(folder, record)
        label = f"validate {record['setting']}/{name}"
        chat = Chat.of(tokenizer, record)
        sampling = with_ends(record["generation"], chat, folder)
        ids = encode_prompts(chat, held_out)
        answers = described(chat, sample(model, tokenizer, ids, sampling, args.seed, label))
        rewards = [
            reward(row["instruction"], answer["output"])
            for row, answer in zip(held_out, answers, strict=True)
        ]
        cells.append(cell(name, read_json(f"{folder}/train.json"), rewards))
    best = max(cells, key=lambda found: found["validation_reward"])
    head = {"setting": record["setting"], "arm": args.arm, "n_prompts": len(held_out)}
    write_json({**head, "chosen": best["method"], "cells": cells}, args.output)


if __name__ == "__main__":
    cli(main)
