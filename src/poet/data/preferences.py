"""Users' own preference pairs: checked before any job, then split by prompt and written.

No prompt stands in both splits, however many rows it has. Which split a prompt falls into depends
on the prompt and the seed alone, so neither the rows' order nor ``max_pairs`` changes it; the files
written are the same for any order of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from poet import digests
from poet.data.layout import Layout
from poet.data.messages import OPTIONS, REASONING
from poet.data.pairs import collect, digest, read_rows
from poet.data.split import draw, name_prompts, require_prompts, subsample, test_prompts
from poet.data.together import differs_in_space
from poet.files import UserError, cli, load_record, publish, write_json, write_jsonl
from poet.hub.folders import alpacaeval_prompts, load_rows
from poet.methods import SIDES
from poet.provenance import code

CHECKED = Path(".snakemake/poet-checked.json")  # where the workflow remembers passed checks
_IDENTITY = ("prompt", *SIDES, "dataset")


def check(data: dict, cache: str | Path | None = None) -> dict:
    """Check the pairs file of a section ``data`` -> what would be read, and how it would be split.

    rows, pairs, prompts, dropped: { reason: count }, evaluation_prompts, test_pairs; characters:
    means of prompt, chosen and rejected. A passed check is remembered in the JSON file ``cache`` by
    the section, the file's stamp (:func:`poet.digests.stamp`) and the package's code, so that the
    next start does not read the file.

    Raises:
        UserError: as :func:`read_split` and :func:`require_prompts`.
    """
    path = Path(data["path"])
    known = digests.remembered(cache) if cache is not None else {}
    name = f"{path.resolve()} {digest(data)}"
    stamp = [code()]
    if os.path.isfile(path):  # and may be seen
        stamp += digests.stamp(path)
        if known.get(name, {}).get("stamp") == stamp:
            return known[name]["summary"]
    pairs, read = read_split(data)
    prompts = evaluation_prompts(pairs, data["max_prompts"], data["seed"], path.name)
    require_prompts(prompts, pairs, data, str(path))
    summary = {
        **{key: read[key] for key in ("rows", "dropped")},
        "pairs": len(pairs),
        "prompts": len({pair["key"] for pair in pairs}),
        "evaluation_prompts": len(prompts),
        "test_pairs": sum(pair["split"] == "test" for pair in pairs),
        "characters": {name: _mean_characters(pairs, name) for name in ("prompt", *SIDES)},
    }
    if cache is not None:
        write_json({**known, name: {"stamp": stamp, "summary": summary}}, cache)
    return summary


def _mean_characters(pairs: list[dict], name: str) -> float:
    lengths = (sum(len(message["content"]) for message in pair[name]) for pair in pairs)
    return round(sum(lengths) / len(pairs), 1)


def load(data: dict, folder: str | None = None) -> tuple[list[dict], dict]:
    """What :func:`read_split` gives, the pairs shuffled by hash."""
    pairs, read = read_split(data, folder)

    def place(pair: dict) -> str:
        options = [pair[name] for name in OPTIONS if name in pair]
        return digest(data["seed"], [*(pair.get(name) for name in _IDENTITY), *options])

    return sorted(pairs, key=place), read


def read_split(data: dict, folder: str | None = None) -> tuple[list[dict], dict]:
    """The pairs of record["data"], with prompt_id and split, and what was read.

    ``folder`` holds the hub's data set, where the pairs come from there. One with a test split of
    its own keeps it; training rows whose prompt stands in the test split are dropped.

    Raises:
        UserError: as :func:`poet.data.pairs.collect` and
            :func:`poet.hub.folders.load_rows`, and if a split is left without prompts.
    """
    parts, dropped = {}, Counter()
    layout = Layout(data.get("format", "trl"), tuple(data.get("ignored_columns", ())))
    for part, (source, rows) in _sources(data, folder).items():
        parts[part], reasons = collect(rows, source, data["bad_rows"], layout)
        dropped += reasons
    pairs = [pair for part in parts.values() for pair in part]
    n_rows = len(pairs) + dropped.total()
    named_by = name_prompts(pairs, split="test" in parts)
    if len({pair["key"] for pair in pairs}) < 2:
        raise UserError(
            f"{source}: one prompt only. Pairs are split by prompt: give a dozen or more."
        )
    if "test" in parts:
        test = {pair["prompt_id"] for pair in parts["test"]}
        kept = [pair for pair in parts["train"] if pair["prompt_id"] not in test]
        dropped["prompt also in the test split"] = len(parts["train"]) - len(kept)
        pairs = kept + parts["test"]
    else:
        test = test_prompts({p["prompt_id"] for p in pairs}, data["test_fraction"], data["seed"])
    for pair in pairs:
        pair["split"] = "test" if pair["prompt_id"] in test else "train"
    for split in ("train", "test"):
        if all(pair["split"] != split for pair in pairs):
            raise UserError(f"{source}: no prompt is left for the {split} split. Give more rows.")
    reasons = {reason: n for reason, n in sorted(dropped.items()) if n}
    return pairs, {"rows": n_rows, "dropped": reasons, "prompt_id": named_by}


def _sources(data: dict, folder: str | None) -> dict:
    if data["kind"] == "file":
        return {"train": (data["path"], read_rows(data["path"]))}
    return {
        part: (f"{data['dataset']}, split {split}", load_rows(folder, split))
        for part, split in data["splits"].items()
    }


def evaluation_prompts(pairs: list[dict], max_prompts: int, seed: int, source: str) -> list[dict]:
    """Prompts of the test split, ordered by hash, each with its best-known response as reference.

    Best known is the response chosen most often, less the times it was rejected. A second prompt
    that reads the same as an earlier one is left out: alpaca-eval joins on the instruction.
    """
    by_key, wins = {}, defaultdict(Counter)
    for pair in pairs:
        if pair["split"] == "test":
            by_key.setdefault(pair["key"], pair)
            wins[pair["key"]][pair["chosen"][0]["content"]] += 1
            wins[pair["key"]][pair["rejected"][0]["content"]] -= 1
    prompts = {}
    for key in sorted(by_key, key=lambda key: draw(seed, key)):
        prompts.setdefault(by_key[key]["instruction"], by_key[key])
    return [
        {
            "index": index,
            "dataset": pair.get("dataset", source),
            "instruction": text,
            "prompt": pair["prompt"],
            **{name: pair[name] for name in OPTIONS if name in pair},
            "reference": max(wins[pair["key"]].items(), key=lambda item: item[::-1])[0],
        }
        for index, (text, pair) in enumerate(list(prompts.items())[:max_prompts])
    ]


def corpus(pairs: list[dict]) -> list[dict]:
    """Both responses of every training pair once each, in TRL's prompt-completion format."""
    examples = {}
    for pair in pairs:
        if pair["split"] == "train":
            for side in SIDES:
                options = {name: pair[name] for name in OPTIONS if name in pair}
                example = {"prompt": pair["prompt"], "completion": pair[side], **options}
                examples.setdefault(digest(pair["key"], pair[side], options), example)
    return list(examples.values())


def _counts(pairs: list[dict], split: str) -> dict:
    ids = [pair["prompt_id"] for pair in pairs if pair["split"] == split]
    return {"pairs": len(ids), "prompts": len(set(ids))}


def lengths(pairs: list[dict]) -> dict:
    """Words per response, separated by white space, and how the two of a pair compare."""
    words = {side: [len(pair[side][0]["content"].split()) for pair in pairs] for side in SIDES}
    both = list(zip(words["chosen"], words["rejected"], strict=True))
    return {
        **{
            f"{side}_words": {"mean": statistics.fmean(n), "median": statistics.median(n)}
            for side, n in words.items()
        },
        "median_shorter_by_longer": statistics.median(min(pair) / max(pair) for pair in both),
        "share_chosen_longer": statistics.fmean(chosen > rejected for chosen, rejected in both),
    }


def write_parquet(
    rows: list[dict], path: str | Path, messages: Sequence[str], texts: Sequence[str] = ()
) -> None:
    """Write ``rows`` atomically: columns of ``messages``, of ``texts``, and OPTIONS as JSON.

    What a row lacks is null. Messages have a field of REASONING only if some message has it; where
    it is absent they read back with None.
    """
    import pyarrow
    from pyarrow import parquet

    text, lists = pyarrow.string(), [row[name] for row in rows for name in messages]
    thoughts = [key for key in REASONING if any(key in m for of in lists for m in of)]
    message = pyarrow.struct([(key, text) for key in ("role", "content", *thoughts)])
    kinds = dict.fromkeys(messages, pyarrow.list_(message))
    schema = pyarrow.schema({**kinds, **dict.fromkeys((*texts, *OPTIONS), text)})
    rows = [
        row | {n: json.dumps(row[n], ensure_ascii=False) for n in OPTIONS if n in row}
        for row in rows
    ]
    with publish(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema), temporary)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", required=True, help="resolved record: JSON or a file of it")
    parser.add_argument("--dataset", help="folder of the hub's, where the record names one")
    parser.add_argument("--alpacaeval", help="folder of AlpacaEval's; default: the test prompts")
    parser.add_argument("--pairs", required=True, help="output: pairs.parquet")
    parser.add_argument("--corpus", required=True, help="output: corpus.parquet")
    parser.add_argument("--prompts", required=True, help="output: prompts.jsonl")
    parser.add_argument("--summary", required=True, help="output: summary.json")
    args = parser.parse_args(argv)

    data = load_record(args.record)["data"]
    everything, read = load(data, args.dataset)
    source = data.get("dataset") or Path(data["path"]).name
    if args.alpacaeval:
        prompts = alpacaeval_prompts(args.alpacaeval)
    else:
        prompts = evaluation_prompts(everything, data["max_prompts"], data["seed"], source)
        if data["kind"] == "hub":  # of a file it was checked before any job
            require_prompts(prompts, everything, data, source)
    pairs = subsample(everything, data["max_pairs"])
    examples = corpus(pairs)
    summary = {
        "source": source,
        **read,
        "pairs": len(everything),
        "left_out_by_max_pairs": len(everything) - len(pairs),
        "train": _counts(pairs, "train"),
        "test": _counts(pairs, "test"),
        "corpus_examples": len(examples),
        "evaluation_prompts": len(prompts),
        "test_prompts_before_max_pairs": _counts(everything, "test")["prompts"],
        "given_to_the_template": {n: sum(n in pair for pair in pairs) for n in OPTIONS},
        "differ_in_white_space_only": sum(map(differs_in_space, pairs)),
        "lengths": lengths(pairs),
    }
    names = ("prompt_id", "split", "key", "instruction")
    write_parquet(pairs, args.pairs, ("prompt", *SIDES), names)
    write_parquet(examples, args.corpus, ("prompt", "completion"))
    write_jsonl(prompts, args.prompts)
    write_json(summary, args.summary)


if __name__ == "__main__":
    cli(main)
