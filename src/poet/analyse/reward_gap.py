"""The reward-generation gap: implicit rewards at every prefix length, before and after training.

One forward pass per model over held-out pairs (the first test pair of each prompt, so that pairs
are independent); the start model's log-probabilities come from the reference cache. A response's
implicit reward is beta times its score under the method's objective, every token weighing alike; a
margin is chosen minus rejected. The margin at prefix length k is that of both responses' first k
tokens; a response shorter than k is whole. ``before`` is the start model. ``*_ci_low`` and
``*_ci_high``: 95 % over pairs and seeds.

``reward_gap.json``::

    setting, n_pairs
    methods: { METHOD: {
      objective, beta, unit (of its rewards, "nats" for DPO), n_seeds, interval (what it is over)
      margins: [              at the configured prefix lengths, and of whole sequences (k null)
        k, before, after (with _ci_low, _ci_high), positive_before, positive_after (percent of pairs
        whose margin is above zero)
      ]
      chosen_change, rejected_change    sequence-level reward, after minus before (with _ci_*)
      margin_grew             percent of pairs: value, value_ci_low, value_ci_high
      chosen_fell             percent of pairs whose margin grew while the chosen reward fell: ditto
      smaller_prefix: [ k, value, value_ci_*, n_given ]
                              of the pairs whose sequence-level margin grew, percent whose margin at
                              k shrank (n_given: such pairs, over all seeds; value null if none)
    } }
    generated: { METHOD: n_prompts, n_seeds, reward (with _ci_*), tokens, share_ended (percent) }
                              what the models then write for the evaluation prompts, `sft` too;
                              reward is null, and there are no examples, without annotations
    against: [ method, baseline, k, value, value_ci_*, n_given ]
                              of the pairs on which the baseline's sequence-level margin is larger
                              than the method's, percent where its margin at k is smaller (runs are
                              paired by their number, as far as both have them)
    entropy: { MODEL: { first_8, rest } }
                              mean token entropy (nats) on the chosen response: of its first eight
                              tokens and of the others; MODEL is `sft` or a method
    examples: [ index, instruction, answers: { METHOD: { output, reward } } ]   first seed

``reward_gap.csv``: setting, method, prefix_length, before, after (with _ci_low, _ci_high), n_pairs,
n_seeds, unit, at every prefix length. ``token_positions.csv``: setting, method, side (chosen or
rejected), position (from 1), n, n_seeds, logp, entropy (nats, with _ci_low, _ci_high), at every
position.
"""

from __future__ import annotations

import argparse

import numpy as np

from poet.analyse.intervals import by_position, curve, described, padded
from poet.analyse.margins import Trained, against, describe, trained
from poet.analyse.pair_prefixes import held_out_rows
from poet.analyse.token_statistics import token_statistics
from poet.evaluate.statistics import Score
from poet.files import cli, load_record, named_files, read_json, write_csv, write_json
from poet.methods import SIDES
from poet.methods.objectives import OBJECTIVES

FIRST = 8  # tokens, of the entropy's summary
EXAMPLES = 3  # prompts


def generated(generations: list[list[dict]], annotations: list[list[dict]] | None) -> dict:
    """What a method's models wrote for the evaluation prompts, a list per seed."""
    rows = [row for seed in generations for row in seed]
    reward = dict.fromkeys(("reward", "reward_ci_low", "reward_ci_high"))
    if annotations:
        rewards = [[row["reward_2"] for row in seed] for seed in annotations]
        reward = described("reward", Score.of_values(rewards))
    return {
        "n_prompts": len(generations[0]),
        "n_seeds": len(generations),
        **reward,
        "tokens": float(np.mean([row["n_tokens"] for row in rows])),
        "share_ended": 100 * float(np.mean([row["finish_reason"] == "stop" for row in rows])),
    }


def examples(annotations: dict[str, list[list[dict]]]) -> list[dict]:
    """The first prompts with every method's answer of its first seed."""
    firsts = {method: seeds[0][:EXAMPLES] for method, seeds in annotations.items()}
    return [
        {
            "index": rows[0]["index"],
            "instruction": rows[0]["instruction"],
            "answers": {
                method: {"output": row["output_2"], "reward": row["reward_2"]}
                for method, row in zip(firsts, rows, strict=True)
            },
        }
        for rows in zip(*firsts.values(), strict=True)
    ]


def entropy_summary(seeds: list[dict]) -> dict:
    """Mean entropy of the chosen responses' first tokens and of their others, over seeds."""
    rows = [row for found in seeds for row in found["chosen_entropy"]]
    first = np.concatenate([row[:FIRST] for row in rows])
    rest = np.concatenate([row[FIRST:] for row in rows])
    return {
        f"first_{FIRST}": float(first.mean()),
        "rest": float(rest.mean()) if len(rest) else None,
    }


def curve_rows(setting: str, name: str, method: Trained) -> list[dict]:
    """Rows of ``reward_gap.csv`` for one method."""
    before, after = method.margins
    n_seeds, n_pairs, _ = after.shape
    pairs = zip(curve("before", before), curve("after", after), strict=True)
    return [
        {"setting": setting, "method": name, "prefix_length": k, **early, **late}
        | {"n_pairs": n_pairs, "n_seeds": n_seeds, "unit": OBJECTIVES[method.objective].unit}
        for k, (early, late) in enumerate(pairs, start=1)
    ]


def position_rows(setting: str, method: str, seeds: list[dict], width: int) -> list[dict]:
    """Rows of ``token_positions.csv`` for one model and its seeds."""
    rows = []
    for side in SIDES:
        mask = padded([np.ones(len(row)) for row in seeds[0][f"{side}_logps"]], width)
        values = {
            short: np.stack([padded(seed[f"{side}_{name}"], width) for seed in seeds])
            for short, name in (("logp", "logps"), ("entropy", "entropy"))
        }
        start = {"setting": setting, "method": method, "side": side, "n_seeds": len(seeds)}
        rows += [{**start, **row} for row in by_position(values, mask)]
    return rows


def read_answers(entries, flag: str) -> dict[str, list[list[dict]]]:
    """The rows of every seed's file, by method."""
    return {name: [*map(read_json, files)] for name, files in named_files(entries, flag).items()}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", required=True, help="resolved record: JSON or its file")
    parser.add_argument("--tokens", required=True, help="tokens.parquet (full pairs)")
    parser.add_argument("--reference", required=True, help="reference.parquet of the same tokens")
    parser.add_argument("--start", required=True, help="folder of the start model")
    per_seed = {"action": "append", "nargs": "+", "metavar": ("METHOD", "PATH")}
    parser.add_argument("--models", required=True, help="a method's folders, per seed", **per_seed)
    parser.add_argument("--generations", default=[], help="files per seed, sft's too", **per_seed)
    parser.add_argument("--annotations", default=[], help="of the same answers", **per_seed)
    parser.add_argument(
        "--gain", action="append", nargs=2, default=[], metavar=("METHOD", "BASELINE")
    )
    parser.add_argument("--output", required=True, help="JSON")
    parser.add_argument("--curves", required=True, help="CSV: margins by prefix length")
    parser.add_argument("--positions", required=True, help="CSV: entropy and log-probability")
    args = parser.parse_args(argv)
    record = load_record(args.record)

    import pyarrow.parquet as pq
    import torch

    from poet.train.reference import attach

    torch.set_num_threads(record["torch_threads"])
    setting, settings = record["setting"], record["analysis"]
    tokens = pq.read_table(args.tokens)
    names = tokens.select(["prompt_id", "split"]).to_pydict()
    rows = held_out_rows(names, args.tokens, settings["pairs"])
    reference = pq.read_table(args.reference).take(rows)
    tokens = attach(tokens.take(rows), reference, args.start).to_pydict()
    width = max(len(ids) for side in SIDES for ids in tokens[f"{side}_ids"])
    folders = {"sft": [args.start], **named_files(args.models, "--models")}
    statistics = {
        name: [
            token_statistics(folder, tokens, record, f"reward gap {setting}/{name}")
            for folder in paths
        ]
        for name, paths in folders.items()
    }
    methods = {
        name: trained(paths, statistics[name], tokens, width)
        for name, paths in folders.items()
        if name != "sft"
    }
    annotations = read_answers(args.annotations, "--annotations")
    generations = read_answers(args.generations, "--generations")
    result = {
        "setting": setting,
        "n_pairs": len(tokens["prompt_id"]),
        "methods": {
            name: describe(method, settings["prefix_lengths"]) for name, method in methods.items()
        },
        "generated": {
            name: generated(seeds, annotations.get(name)) for name, seeds in generations.items()
        },
        "against": [
            {"method": method, "baseline": baseline, **row}
            for method, baseline in args.gain
            for row in against(methods[method], methods[baseline], settings["prefix_lengths"])
        ],
        "entropy": {name: entropy_summary(seeds) for name, seeds in statistics.items()},
        "examples": examples(annotations),
    }
    curves = [row for name, method in methods.items() for row in curve_rows(setting, name, method)]
    positions = [
        row
        for name, seeds in statistics.items()
        for row in position_rows(setting, name, seeds, width)
    ]
    write_csv(curves, args.curves)
    write_csv(positions, args.positions)
    write_json(result, args.output)


if __name__ == "__main__":
    cli(main)
