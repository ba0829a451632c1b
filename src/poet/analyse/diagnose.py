"""Does POET suit these pairs? A diagnosis before any training.

Works on a raw pairs file (see :mod:`poet.data.pairs`), or with a record on ``pairs.parquet``, of
which it takes the training split. Lengths are in tokens, after the length limits, where a tokenizer
is known, else in words and punctuation marks. Prints a report (Markdown) and writes, as far as
asked:

``diagnosis.json``::

    source, setting (null for a raw file), unit, n_pairs
    dropped: { reason: rows }         rows that are no pair
    lengths: prompt, chosen, rejected, min_over_max: { mean, p5, p25, median, p75, p95, max };
             chosen_longer, equally_long (percent of the pairs)
    poet:    kept, shared: { mean, p5, ... }   k, and how many first tokens both responses share
             dropped, dropped_chosen, dropped_rejected (percent of the tokens)
             identical (pairs that are the same once truncated), shared_of_kept (percent of k, mean)
    order:   null, or { scorer, how, value, ci_low, ci_high, n_pairs, n_kept, n_tied, n_left_out }:
             percent of the orders that are expected to survive truncation (Wilson's 95 %), of one
             pair per prompt; how: `exact` (the oracle's expectation over completions by the average
             writer) or `as it stands` (a reward model reads the truncated text itself)
    prompts: n_prompts, pairs_per_prompt, most_pairs_of_a_prompt, in_several_spellings (prompts that
             differ in case, punctuation or white space only), repeated_pairs, contradicting_pairs
    limits:  null without a tokenizer; max_length, max_prompt_length, length_policy, pairs_cut,
             responses_cut (percent), dropped_prompt, dropped_chosen, dropped_rejected (percent of
             the tokens)
    evaluation: null, or { n_prompts, exact, near, too_short, ngram, examples }, see
             :func:`poet.analyse.contamination.overlap`
    recommendation: verdict (suits | little effect | unclear | risky), reasons: [ sentence ]

``diagnosis.csv`` (the figure): source, measure (prompt | chosen | rejected | k | min_over_max),
low, high, n: histograms.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from poet.analyse import contamination, pair_counts
from poet.analyse.completion import open_scorer
from poet.analyse.expected_order import Scorer, as_it_stands, expected_order, oracle
from poet.analyse.pair_tokens import Ids, Words, text_of
from poet.analyse.recommendation import markdown, recommend
from poet.data.encoding import encode_both
from poet.data.ends import Stray, defect
from poet.data.layout import Layout, add_flags
from poet.data.messages import OPTIONS
from poet.data.pairs import collect, digest, plain, read_rows, refuse_bad
from poet.data.templates import Chat, template_of
from poet.evaluate.prompts import read_instructions
from poet.files import UserError, cli, load_record, write_csv, write_json
from poet.methods import SIDES
from poet.progress import track


def read_training(path: str | Path) -> list[dict]:
    """The training pairs of ``pairs.parquet``, which were checked when it was written.

    Raises:
        UserError: it is another file.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a readable parquet file ({error})") from None
    if lacking := {"split", "key", "instruction"} - set(table.column_names):
        raise UserError(
            f"{path}: no column {', '.join(sorted(lacking))}; with --record expected pairs.parquet "
            "as this workflow writes it. Without --record any file of pairs is read."
        )
    return [row for row in table.to_pylist() if row["split"] == "train"]


def without_defects(
    pairs: list[dict], chat: Chat, source: str, bad_rows: str
) -> tuple[list[dict], Counter[str]]:
    """Pairs that tokenization does not leave out: for the text of a special token in a response,
    or for two responses of the same tokens.

    Raises:
        UserError: as :func:`poet.data.pairs.refuse_bad`.
    """
    stray, good, bad = Stray(chat), [], []
    for number, pair in enumerate(pairs, start=1):
        wrong = defect(stray.in_messages, pair)
        # Only what is nearly the same text may be the same tokens.
        if not wrong and plain(text_of(pair, SIDES[0])) == plain(text_of(pair, SIDES[1])):
            (ids,) = encode_both(chat, [pair])
            wrong = defect(stray.in_messages, pair, ids)
        if wrong:
            asked = pair["prompt"][-1]["content"][:60]
            bad.append((f"pair {number} (prompt {asked!r})", wrong))
        else:
            good.append(pair)
    return good, refuse_bad(bad, len(good), source, bad_rows)


def diagnose(
    pairs: list[dict],
    tokens_of: Words | Ids,
    scorer: Scorer | None = None,
    evaluation: list[str] | None = None,
) -> tuple[dict, list[dict]]:
    """The JSON file's content from ``unit`` on, and the rows of the figure.

    ``pairs``: see :func:`poet.data.pairs.read_pair`; ``evaluation``: the evaluation prompts' texts.
    """
    counts = pair_counts.measure(track(tokens_of(pairs), len(pairs), "count tokens"))
    texts = [pair["instruction"] for pair in pairs]
    answers = [
        tuple(digest(pair[side], [pair.get(name) for name in OPTIONS]) for side in SIDES)
        for pair in pairs
    ]
    record = getattr(tokens_of, "record", None)
    diagnosis = {
        "unit": tokens_of.unit,
        "n_pairs": len(pairs),
        "lengths": pair_counts.lengths(counts),
        "poet": pair_counts.poet(counts),
        "order": scorer and expected_order(pairs, tokens_of, scorer),
        "prompts": pair_counts.prompts([pair["key"] for pair in pairs], texts, answers),
        "limits": record and pair_counts.limits(counts, record),
        "evaluation": None if evaluation is None else contamination.overlap(texts, evaluation),
    }
    diagnosis["recommendation"] = recommend(diagnosis)
    return diagnosis, list(pair_counts.histogram(counts))


def find_tokens(args, record: dict | None) -> Words | Ids:
    """The tokenizer that the flags or the record name; words without one.

    A model from scratch gets the tokenizer that its training will make of the corpus.

    Raises:
        UserError: the tokenizer cannot be loaded, or has no chat template.
    """
    if args.tokenizer is not None:
        from poet.hub.folders import named_tokenizer

        tokenizer = named_tokenizer(args.tokenizer)
        template_of(tokenizer)
        return Ids(tokenizer, record)
    if record and record["scratch"] and args.corpus:
        import pyarrow.parquet as pq

        from poet.train.scratch import train_tokenizer

        corpus = pq.read_table(args.corpus).to_pylist()
        texts = (m["content"] for row in corpus for m in row["prompt"] + row["completion"])
        return Ids(train_tokenizer(texts, record["scratch"]["vocab_size"]), record)
    return Words()


def find_scorer(args, record: dict | None) -> Scorer | None:
    """The world's oracle, or the reward model that a flag names."""
    if record and record["data"]["kind"] == "world":
        return oracle("oracle", record["data"]["variant"])
    if not args.reward_model:
        return None
    name = Path(args.reward_model).name
    rewards = open_scorer(name, {"kind": "reward_model", "name": args.reward_model})
    return as_it_stands(name, rewards)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", required=True, help="JSON lines, a JSON array or parquet")
    add_flags(parser)
    parser.add_argument("--record", help="resolved record with the length limits: JSON or its file")
    parser.add_argument("--tokenizer", help="folder of a tokenizer with a chat template")
    parser.add_argument("--corpus", help="corpus.parquet, where the record's model is from scratch")
    parser.add_argument("--reward-model", help="folder of a reward model, to score truncated pairs")
    parser.add_argument("--evaluation-prompts", help="prompts with a column `instruction`")
    parser.add_argument("--output", help="JSON")
    parser.add_argument("--figure", help="CSV of the length distributions")
    args = parser.parse_args(argv)
    if args.record and (args.format != parser.get_default("format") or args.ignored_columns):
        parser.error("--format and --ignored-columns are of a raw file, without --record")
    record = load_record(args.record) if args.record else None
    of_record = record["data"].get("bad_rows") if record else None
    bad_rows = "drop" if "drop" in (args.bad_rows, of_record) else "error"
    if record:
        pairs, dropped = read_training(args.pairs), {}
    else:
        layout = Layout(args.format, tuple(args.ignored_columns))
        rows = track(read_rows(args.pairs), label="read pairs")
        pairs, reasons = collect(rows, args.pairs, bad_rows, layout)
        dropped = dict(sorted(reasons.items()))
    tokens = find_tokens(args, record)
    if isinstance(tokens, Ids):
        pairs, defects = without_defects(pairs, tokens.chat, args.pairs, bad_rows)
        dropped |= defects
    evaluation = args.evaluation_prompts and read_instructions(args.evaluation_prompts)
    found, histogram = diagnose(pairs, tokens, find_scorer(args, record), evaluation)
    setting = record and record["setting"]
    diagnosis = {"source": Path(args.pairs).name, "setting": setting, "dropped": dropped, **found}
    if args.figure:
        rows = [{"source": setting or diagnosis["source"], **row} for row in histogram]
        write_csv(rows, args.figure)
    if args.output:
        write_json(diagnosis, args.output)
    print(markdown(diagnosis))


if __name__ == "__main__":
    cli(main)
