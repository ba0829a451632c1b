"""Prefix quality, both of the paper's measurements, with their k (tokens).

Q of a prefix: the start model completes it, a scalar annotator scores the whole response (see
:mod:`poet.analyse.completion`). Rewards are in the annotator's unit; ``ci_low`` and ``ci_high``
bound 95 % intervals; shares are in percent, as the paper gives them.

``prefix_quality.json``::

    setting, annotator, completions, order_completions      how it was measured
    pairs:                  held-out pairs, one per prompt, so that they are independent
      n_pairs
      gaps: [               dQ(k) = Q(chosen[:k]) - Q(rejected[:k])
        metric ("dq_2"), k, value, ci_low, ci_high, n_pairs, chosen, rejected,
        share_whole         percent of the prefixes that are whole responses, being shorter
        share_unfinished    percent of the completions that max_new_tokens cut
        exact               embedded world only, else null; over the pairs where both prefixes end
                            with a word: n_pairs, value (the true dQ), estimate, error (estimate
                            minus true), error_ci_low, error_ci_high
      ]
      order:                at k = min(|chosen|, |rejected|): POET's truncation
        metric ("order_kept_after_truncation"), value, ci_low, ci_high (Wilson), n_pairs (pairs that
        the annotator orders), n_kept, n_tied, label_agreement (percent of the pairs whose chosen
        response has the higher reward), exact (embedded world only; over the pairs whose
        prefixes end with a word: n_pairs, value (the true share), estimate)
    own:                    what the trained models write themselves, cut to k tokens
      n_prompts
      methods: [ method, k, value, ci_low, ci_high, n_seeds, n_prompts, interval ]
      gains: [ method, baseline, k, gain, ci_low, ci_high, p_value, p_holm, n_seeds, n_prompts,
               interval ]   Holm's correction runs over all of them

``prefix_quality.csv`` (the figure): setting, measure (dq | dq_exact | own), method, k, value,
ci_low, ci_high, n. ``prefix_completions.parquet``: every completion with setting, measure (pairs |
own), source (``chosen``, ``rejected`` or method/seed), prompt_id, k (0: the min length), prefix,
text, finish_reason (``whole``: nothing was added), reward.
"""

from __future__ import annotations

import json

from poet.analyse.completion import Completer, open_scorer, response_header
from poet.analyse.own_prefixes import measure_own
from poet.analyse.pair_prefixes import measure_pairs, read_pairs
from poet.data.ends import with_ends
from poet.data.templates import Chat
from poet.evaluate.sampling import load_model
from poet.files import (
    cli,
    named_files,
    read_json,
    read_jsonl,
    record_parser,
    write_csv,
    write_json,
    write_parquet,
)

FIGURE = ("setting", "measure", "method", "k", "value", "ci_low", "ci_high", "n")


def figure_rows(result: dict) -> list[dict]:
    """Rows of the CSV file from the JSON file's content."""
    rows, n_prompts = [], result["own"]["n_prompts"]
    for gap in result["pairs"]["gaps"]:
        rows.append({"measure": "dq", "n": gap["n_pairs"], **gap})
        if gap["exact"]:
            exact = {"value": gap["exact"]["value"], "n": gap["exact"]["n_pairs"]}
            rows.append({"measure": "dq_exact", "k": gap["k"], **exact})
    rows += [{"measure": "own", "n": n_prompts, **row} for row in result["own"]["methods"]]
    setting = {"setting": result["setting"]}
    return [{name: row.get(name) for name in FIGURE} | setting for row in rows]


def completion_rows(setting: str, measure: str, by_prefix: dict, prompt_ids: list[str]):
    """Rows of the parquet file; ``by_prefix`` maps (source, k) to completions by prompt."""
    for (source, k), prompts in by_prefix.items():
        for prompt_id, completions in zip(prompt_ids, prompts, strict=True):
            for completion in completions:
                named = {"setting": setting, "measure": measure, "source": source}
                yield {**named, "prompt_id": prompt_id, "k": k, **vars(completion)}


def main(argv=None) -> None:
    parser = record_parser(__doc__, "JSON")
    parser.add_argument("--pairs", required=True, help="pairs.parquet")
    parser.add_argument("--tokens", required=True, help="tokens.parquet of the same pairs")
    parser.add_argument("--prompts", required=True, help="prompts.jsonl")
    parser.add_argument("--start", required=True, help="folder of the start model, which completes")
    parser.add_argument("--annotator", required=True, help="name of the scorer")
    parser.add_argument("--settings", required=True, help="its section `annotators.NAME`, as JSON")
    parser.add_argument("--model", help="folder of a reward model that the section does not name")
    answers = {"action": "append", "nargs": "+", "help": "method, its answers per seed"}
    parser.add_argument("--generations", required=True, **answers)
    parser.add_argument("--gain", action="append", nargs=2, default=[], help="method, baseline")
    parser.add_argument("--figure", required=True, help="CSV of the figure")
    parser.add_argument("--completions", required=True, help="parquet of every completion")
    args = parser.parse_args(argv)
    record = args.record
    settings, setting = record["analysis"], record["setting"]
    files = named_files(args.generations, "--generations")
    generations = {name: [*map(read_json, seeds)] for name, seeds in files.items()}

    import torch

    torch.set_num_threads(record["torch_threads"])
    rewards = open_scorer(args.annotator, json.loads(args.settings), args.model)
    tokenizer, model = load_model(args.start, record)
    chat = Chat.of(tokenizer, record)
    sampling = with_ends(record["generation"], chat, args.start)
    header = response_header(chat)
    completer = Completer(model, chat, sampling, record["sft_seed"], rewards, header)
    pairs = read_pairs(args.pairs, args.tokens, settings["pairs"])
    variant = record["data"].get("variant")
    of_pairs, pair_completions = measure_pairs(pairs, settings, completer, variant)
    prompts = read_jsonl(args.prompts)[: settings["prompts"]]
    own, own_completions = measure_own(prompts, generations, args.gain, settings, completer)
    result = {
        "setting": setting,
        "annotator": args.annotator,
        **{name: settings[name] for name in ("completions", "order_completions")},
        "pairs": of_pairs,
        "own": own,
    }
    by_model = {(f"{m}/{seed}", k): value for (m, seed, k), value in own_completions.items()}
    numbers = [str(prompt["index"]) for prompt in prompts]
    rows = [
        *completion_rows(setting, "pairs", pair_completions, pairs.prompt_id),
        *completion_rows(setting, "own", by_model, numbers),
    ]
    write_parquet(rows, args.completions)
    write_csv(figure_rows(result), args.figure)
    write_json(result, args.output)


if __name__ == "__main__":
    cli(main)
