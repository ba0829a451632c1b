"""Users' own preference pairs: checked before any job, then split by prompt and written.

No prompt stands in both splits, however many rows it has. Which split a prompt falls into depends
on the prompt and the seed alone, so neither the rows' order nor ``max_pairs`` changes it; the files
written are the same for any order of the rows.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter, defaultdict
from pathlib import Path

from poet import digests
from poet.data import pairs as checks
from poet.data.pairs import collect, digest, read_rows, visible
from poet.data.repositories import alpacaeval_prompts
from poet.files import UserError, cli, load_record, publish, read_json, write_json, write_jsonl

CHECKED = Path(".snakemake/poet-checked.json")  # where the workflow remembers passed checks
_IDENTITY = ("prompt", "chosen", "rejected", "dataset")


def check(path: str | Path, bad_rows: str = "error", cache: str | Path | None = None) -> dict:
    """Check a pairs file -> {"rows", "pairs", "prompts", "dropped": {reason: count}}.

    A passed check is remembered in the JSON file ``cache`` by the file's path and stamp
    (:func:`poet.digests.stamp`, and the reader's text), so that the next start does not read it.

    Raises:
        UserError: as :func:`read_rows` and :func:`collect`.
    """
    path = Path(path)
    known = _load_cache(cache)
    name = f"{path.resolve()} {bad_rows}"
    stamp = [digest(Path(checks.__file__).read_text())]
    if path.is_file():
        stamp += digests.stamp(path)
        if known.get(name, {}).get("stamp") == stamp:
            return known[name]["summary"]
    pairs, dropped = collect(read_rows(path), str(path), bad_rows)
    n_prompts = len({pair["key"] for pair in pairs})
    if n_prompts < 2:
        raise UserError(f"{path}: one prompt only. Pairs are split by prompt: give two or more.")
    summary = {
        "rows": len(pairs) + dropped.total(),
        "pairs": len(pairs),
        "prompts": n_prompts,
        "dropped": dict(sorted(dropped.items())),
    }
    if cache is not None:
        write_json({**known, name: {"stamp": stamp, "summary": summary}}, cache)
    return summary


def _load_cache(cache: str | Path | None) -> dict:
    try:
        return read_json(cache) if cache is not None else {}
    except (OSError, ValueError):  # absent or damaged: check again
        return {}


def load(data: dict, folder: str | None = None) -> tuple[list[dict], dict]:
    """The pairs of record["data"], with prompt_id and split, shuffled by hash; and what was read.

    ``folder`` holds the hub's data set, where the pairs come from there. One with a test split of
    its own keeps it; training rows whose prompt stands in the test split are dropped.

    Raises:
        UserError: as :func:`poet.data.pairs.collect` and
            :func:`poet.data.repositories.load_rows`, and if a split is left without prompts.
    """
    parts, dropped = {}, Counter()
    for part, (source, rows) in _sources(data, folder).items():
        parts[part], reasons = collect(rows, source, data["bad_rows"])
        dropped += reasons
    pairs = [pair for part in parts.values() for pair in part]
    n_rows = len(pairs) + dropped.total()
    named_by = name_prompts(pairs, own_ids="test" not in parts)
    if "test" in parts:
        test = {pair["prompt_id"] for pair in parts["test"]}
        kept = [pair for pair in parts["train"] if pair["prompt_id"] not in test]
        dropped["prompt also in the test split"] = len(parts["train"]) - len(kept)
        pairs = kept + parts["test"]
    else:
        test = test_prompts({p["prompt_id"] for p in pairs}, data["test_fraction"], data["seed"])
    for pair in pairs:
        pair["split"] = "test" if pair["prompt_id"] in test else "train"
        pair["order"] = digest(data["seed"], [pair.get(name) for name in _IDENTITY])
    for split in ("train", "test"):
        if all(pair["split"] != split for pair in pairs):
            raise UserError(f"{source}: no prompt is left for the {split} split. Give more rows.")
    reasons = {reason: n for reason, n in sorted(dropped.items()) if n}
    read = {"rows": n_rows, "dropped": reasons, "prompt_id": named_by}
    return sorted(pairs, key=lambda pair: pair["order"]), read


def _sources(data: dict, folder: str | None) -> dict:
    if data["kind"] == "file":
        return {"train": (data["path"], read_rows(data["path"]))}
    from poet.data.repositories import load_rows

    sources = {}
    for part, split in data["splits"].items():
        rows = load_rows(folder, split)
        numbered = ((f"row {number}", row) for number, row in enumerate(rows, start=1))
        sources[part] = f"{data['dataset']}, split {split}", numbered
    return sources


def name_prompts(pairs: list[dict], own_ids: bool) -> str:
    """Set each pair's ``prompt_id``; say where it comes from.

    With ``own_ids``, the rows' ids are used if all have one and equal prompts have equal ids: ids
    counted per row would put one prompt into both splits. Otherwise it is the prompt's hash.
    """
    ids = defaultdict(set)
    for pair in pairs:
        ids[pair["key"]].add(pair.get("prompt_id"))
    own_ids = own_ids and all(len(names) == 1 and None not in names for names in ids.values())
    for pair in pairs:
        pair["prompt_id"] = pair["prompt_id"] if own_ids else pair["key"]
    return "the rows' own" if own_ids else "hash of the prompt"


def test_prompts(ids: set[str], fraction: float, seed: int) -> set[str]:
    """The ids whose seeded hash, as a number in [0, 1), is below ``fraction``.

    At least one is chosen, and one is left, so that neither split of a small file is empty.
    """
    place = {name: _draw(seed, name) for name in ids}
    n = sum(position < fraction for position in place.values())
    return set(sorted(ids, key=place.get)[: min(max(n, 1), len(ids) - 1)])


def _draw(seed: int, name: str) -> float:
    return int(digest(seed, name)[:13], 16) / 16**13


def subsample(pairs: list[dict], max_pairs: int | None) -> list[dict]:
    """The first ``max_pairs`` pairs (None: all), both splits in proportion, training first."""
    groups = {split: [p for p in pairs if p["split"] == split] for split in ("train", "test")}
    n = min(len(pairs), max_pairs or len(pairs))
    n_test = max(1, round(n * len(groups["test"]) / len(pairs)))
    return groups["train"][: n - n_test] + groups["test"][:n_test]


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
    for key in sorted(by_key, key=lambda key: _draw(seed, key)):
        prompts.setdefault(instruction(by_key[key]["prompt"]), by_key[key])
    return [
        {
            "index": index,
            "dataset": pair.get("dataset", source),
            "instruction": text,
            "prompt": pair["prompt"],
            "reference": max(wins[pair["key"]].items(), key=lambda item: item[::-1])[0],
        }
        for index, (text, pair) in enumerate(list(prompts.items())[:max_prompts])
    ]


def instruction(prompt: list[dict]) -> str:
    """A prompt as one text: the user's words, or the whole conversation if there is more."""
    messages = visible(prompt)
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in messages)


def corpus(pairs: list[dict]) -> list[dict]:
    """Both responses of every training pair once each, in TRL's prompt-completion format."""
    examples = {}
    for pair in pairs:
        if pair["split"] == "train":
            for side in ("chosen", "rejected"):
                example = {"prompt": pair["prompt"], "completion": pair[side]}
                examples.setdefault(digest(pair["key"], pair[side]), example)
    return list(examples.values())


def _counts(pairs: list[dict], split: str) -> dict:
    ids = [pair["prompt_id"] for pair in pairs if pair["split"] == split]
    return {"pairs": len(ids), "prompts": len(set(ids))}


def lengths(pairs: list[dict]) -> dict:
    """Words per response, separated by white space, and how the two of a pair compare."""
    words = {
        side: [len(pair[side][0]["content"].split()) for pair in pairs]
        for side in ("chosen", "rejected")
    }
    both = list(zip(words["chosen"], words["rejected"], strict=True))
    return {
        **{
            f"{side}_words": {"mean": statistics.fmean(n), "median": statistics.median(n)}
            for side, n in words.items()
        },
        "median_shorter_by_longer": statistics.median(min(pair) / max(pair) for pair in both),
        "share_chosen_longer": statistics.fmean(chosen > rejected for chosen, rejected in both),
    }


def write_parquet(rows: list[dict], path: str | Path, columns: dict[str, str]) -> None:
    """Write ``rows`` atomically; ``columns`` maps a name to "messages" or "string"."""
    import pyarrow
    from pyarrow import parquet

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    kinds = {"messages": pyarrow.list_(message), "string": pyarrow.string()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    with publish(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema), temporary)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", required=True, help="resolved record: JSON or a file of it")
    parser.add_argument(
        "--dataset", help="folder of the hub's data set, where the record names one"
    )
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
        "lengths": lengths(pairs),
    }
    responses = dict.fromkeys(("prompt", "chosen", "rejected"), "messages")
    write_parquet(pairs, args.pairs, {**responses, "prompt_id": "string", "split": "string"})
    write_parquet(examples, args.corpus, dict.fromkeys(("prompt", "completion"), "messages"))
    write_jsonl(prompts, args.prompts)
    write_json(summary, args.summary)


if __name__ == "__main__":
    cli(main)
