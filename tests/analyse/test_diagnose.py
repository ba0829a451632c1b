"""The diagnosis: counts by hand and on real pairs, predictions on the embedded world."""

import csv
import gzip
import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_tokenizers import byte_level
from poet.analyse import completion, contamination, diagnose
from poet.analyse.completion import Completer, open_scorer
from poet.analyse.expected_order import Scorer, as_it_stands, expected_order
from poet.analyse.pair_counts import histogram, measure, poet
from poet.analyse.pair_prefixes import measure_pairs, read_pairs
from poet.analyse.pair_tokens import Ids, Tokens, Words
from poet.analyse.recommendation import markdown, recommend
from poet.data.pairs import collect, read_rows
from poet.data.templates import Chat
from poet.files import UserError, read_json, write_jsonl
from poet.train.sft import load_model
from poet.world.language import words_of


def run(capsys, *flags):
    """The report, and the JSON and CSV files where the flags ask for them."""
    diagnose.main([*map(str, flags)])
    return capsys.readouterr().out


def pair(prompt, chosen, rejected):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def as_messages(prompt, chosen, rejected, key=None):
    user = [{"role": "user", "content": prompt}]
    sides = [[{"role": "assistant", "content": text}] for text in (chosen, rejected)]
    named = {"key": key or prompt, "instruction": prompt, "prompt": user}
    return {**named, "chosen": sides[0], "rejected": sides[1]}


# --- real pairs ---


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """Report files of all the real pairs, against AlpacaEval's prompts; no model, no tokenizer."""
    folder, data = tmp_path_factory.mktemp("real"), shared / "data" / "alpacaeval2"
    diagnose.main(
        ["--pairs", str(data / "pairs.jsonl.gz"), "--evaluation-prompts",
         str(data / "prompts.jsonl.gz"), "--output", str(folder / "d.json"),
         "--figure", str(folder / "d.csv")]
    )  # fmt: skip
    with (folder / "d.csv").open() as file:
        figure = list(csv.DictReader(file))
    return data, read_json(folder / "d.json"), figure


def count(text):
    """Words and punctuation marks of a text, character by character."""
    n, within = 0, False
    for character in text:
        word = character.isalnum() or character == "_"
        n += not character.isspace() and not (word and within)
        within = word
    return n


def test_lengths_of_the_real_pairs(real):
    data, found, figure = real
    with gzip.open(data / "pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    # isalnum and \w differ in rare characters (combining marks, some numerals).
    chosen, rejected = (
        np.array([count(row[side][0]["content"]) for row in rows])
        for side in ("chosen", "rejected")
    )
    shorter = np.minimum(chosen, rejected)
    assert found["n_pairs"] == len(rows) == 16830
    for side, counted in (("chosen", chosen), ("rejected", rejected)):
        assert found["lengths"][side]["mean"] == pytest.approx(counted.mean(), rel=1e-3)
        assert found["lengths"][side]["median"] == pytest.approx(np.median(counted), abs=1)
    ratio = found["lengths"]["min_over_max"]
    assert ratio["mean"] == pytest.approx((shorter / np.maximum(chosen, rejected)).mean(), abs=1e-3)
    dropped = 100 * (1 - 2 * shorter.sum() / (chosen.sum() + rejected.sum()))
    assert found["poet"]["dropped"] == pytest.approx(dropped, abs=0.1)
    # What the data's own description says: 425, 239, 0.50, a third.
    assert found["lengths"]["chosen"]["mean"] == pytest.approx(425, rel=0.01)
    assert found["lengths"]["rejected"]["mean"] == pytest.approx(239, rel=0.01)
    assert ratio["mean"] == pytest.approx(0.50, abs=0.015)
    assert found["poet"]["dropped"] == pytest.approx(100 / 3, abs=0.5)
    for measure_name in ("chosen", "min_over_max"):
        assert sum(int(r["n"]) for r in figure if r["measure"] == measure_name) == 16830


def test_prompts_of_the_real_pairs(real):
    data, found, _ = real
    with gzip.open(data / "pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    per_prompt = Counter(row["prompt"][0]["content"] for row in rows)
    assert found["prompts"]["n_prompts"] == len(per_prompt)
    assert found["prompts"]["most_pairs_of_a_prompt"] == max(per_prompt.values())
    repeated = Counter(
        json.dumps([row[c] for c in ("prompt", "chosen", "rejected")]) for row in rows
    )
    assert found["prompts"]["repeated_pairs"] == len(rows) - len(repeated)
    # A model trained on these pairs has seen AlpacaEval's prompts.
    assert found["evaluation"]["exact"] == found["evaluation"]["n_prompts"] == 805
    assert any("805 of the 805" in reason for reason in found["recommendation"]["reasons"])
    assert (found["order"], found["limits"], found["setting"]) == (None, None, None)
    assert found["recommendation"]["verdict"] == "unclear"


# --- the embedded world ---

RECORD = {
    "setting": "world", "scratch": {"vocab_size": 640},
    "max_length": 256, "max_prompt_length": 128, "length_policy": "keep_start",
    "chat_template_kwargs": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def world_diagnosis(early, tmp_path_factory):
    output = tmp_path_factory.mktemp("world") / "d.json"
    record = json.dumps({**RECORD, "data": early.data})
    diagnose.main(
        ["--pairs", str(early.pairs), "--record", record, "--corpus", str(early.corpus),
         "--evaluation-prompts", str(early.prompts), "--output", str(output)]
    )  # fmt: skip
    return read_json(output)


def test_the_diagnosis_predicts_the_measured_share_of_surviving_orders(
    early, world_diagnosis, average_writer, monkeypatch
):
    """Predicted from the training pairs before training, measured on others by completing them."""
    monkeypatch.setattr(completion, "sample", average_writer().sample)
    score = open_scorer("oracle", {"kind": "oracle"})
    completer = Completer(
        None, Chat(early.tokenizer, "keep_start", {}), {"stop_token_ids": [1]}, 0, score
    )
    settings = {"prefix_lengths": [2], "completions": 1, "order_completions": 16}
    pairs = read_pairs(early.pairs, early.tokens, 1000)
    section, _ = measure_pairs(pairs, settings, completer, "early")
    predicted, measured = world_diagnosis["order"], section["order"]
    assert measured["ci_low"] <= predicted["value"] <= measured["ci_high"]
    assert predicted["how"] == "exact"
    assert predicted["n_pairs"] + predicted["n_left_out"] == 400  # the training split
    assert 0 < predicted["n_kept"] < predicted["n_pairs"]


def test_lengths_are_those_that_training_sees(early, world_diagnosis):
    rows = [row for row in pq.read_table(early.tokens).to_pylist() if row["split"] == "train"]
    assert world_diagnosis["unit"] == "tokens"
    chosen, rejected = (
        np.array([len(r[f"{s}_ids"]) for r in rows]) for s in ("chosen", "rejected")
    )
    k = np.minimum(chosen, rejected)
    assert world_diagnosis["lengths"]["chosen"]["mean"] == chosen.mean()
    assert world_diagnosis["poet"]["kept"]["mean"] == k.mean()
    assert world_diagnosis["poet"]["dropped_rejected"] == pytest.approx(
        100 * (rejected - k).sum() / rejected.sum()
    )
    assert world_diagnosis["prompts"]["n_prompts"] == 400
    assert world_diagnosis["evaluation"]["exact"] == 0
    assert world_diagnosis["limits"]["pairs_cut"] == 0


def test_the_tokenizer_is_the_one_that_training_will_make(early):
    corpus = pq.read_table(early.corpus).to_pylist()
    shape = {"hidden_size": 8, "intermediate_size": 8}
    shape |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    record = {"scratch": {**RECORD["scratch"], **shape}, "sft": {"max_length": 8}, "sft_seed": 0}
    made, _ = load_model(record, corpus)
    args = diagnose.argparse.Namespace(tokenizer=None, corpus=early.corpus)
    found = diagnose.find_tokens(args, RECORD)
    assert found.chat.tokenizer.get_vocab() == made.get_vocab()


def test_length_limits(early):
    rows = pq.read_table(early.pairs).slice(0, 40).to_pylist()
    pairs = [{**row, "key": row["prompt_id"]} for row in rows]
    record = {**RECORD, "max_length": 60}
    found, _ = diagnose.diagnose(pairs, Ids(early.tokenizer, record))
    full = pq.read_table(early.tokens).slice(0, 40).to_pylist()
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    sizes = np.array([[len(row[name]) for name in names] for row in full])
    room = 60 - sizes[:, :1]
    lost = np.maximum(sizes[:, 1:] - room, 0)
    assert 0 < (lost > 0).mean() < 1
    assert found["limits"]["responses_cut"] == pytest.approx(100 * (lost > 0).mean())
    assert found["limits"]["pairs_cut"] == pytest.approx(100 * (lost > 0).any(-1).mean())
    assert found["limits"]["dropped_chosen"] == pytest.approx(
        100 * lost[:, 0].sum() / sizes[:, 1].sum()
    )
    assert any("length limits cut" in reason for reason in found["recommendation"]["reasons"])


# --- counting ---

texts = st.lists(st.sampled_from("ab"), min_size=1, max_size=8)


@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=8))
def test_counts_of_any_pairs(rows):
    counts = measure(Tokens(*row, tuple(map(len, row))) for row in rows)
    found = poet(counts)
    kept = [min(len(c), len(r)) for _, c, r in rows]
    lost = sum(len(c) + len(r) - 2 * k for (_, c, r), k in zip(rows, kept, strict=True))
    assert found["dropped"] == pytest.approx(100 * lost / sum(len(c + r) for _, c, r in rows))
    same = [c[:k] == r[:k] for (_, c, r), k in zip(rows, kept, strict=True)]
    assert found["identical"] == sum(same)
    shared = [
        next((i for i in range(k) if c[i] != r[i]), k)
        for (_, c, r), k in zip(rows, kept, strict=True)
    ]
    assert counts["shared"].tolist() == shared
    for name in ("chosen", "k", "min_over_max"):
        assert sum(row["n"] for row in histogram(counts) if row["measure"] == name) == len(rows)


def test_words_and_their_prefixes():
    text = "Hello, it's 3 o'clock — naïve_1 !"
    words = Words()
    (tokens,) = words([as_messages("p", text, text)])
    assert "".join(tokens.chosen) == "".join(text.split())
    assert len(tokens.chosen) == count(text)
    for k in range(1, len(tokens.chosen) + 1):
        prefix = words.prefix(text, tokens.chosen, k)
        assert text.startswith(prefix)
        assert count(prefix) == k
    assert len(words_of("Its dish is soup.")) == count("Its dish is soup.")


def test_bad_rows_are_an_error_unless_they_are_to_be_dropped(tmp_path, capsys):
    rows = [pair(f"What is {n}?", "a b c", "d" if n else "") for n in range(20)]
    write_jsonl(rows, tmp_path / "pairs.jsonl")
    with pytest.raises(
        UserError, match="1 of 20 rows cannot be used.\n  line 1: rejected is empty"
    ):
        run(capsys, "--pairs", tmp_path / "pairs.jsonl")
    text = (tmp_path / "pairs.jsonl").read_text().replace("a b c", "caf\u00e9")
    (tmp_path / "pairs.jsonl").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"line 1, byte \d+: found b'\\xe9', expected UTF-8"):
        run(capsys, "--pairs", tmp_path / "pairs.jsonl", "--bad-rows", "drop")


def test_a_column_split_of_a_raw_file_leaves_nothing_out(tmp_path):
    rows = [pair(f"What is {n}?", "a", "b") for n in range(8)]
    rows = [{**row, "split": ["train", "test"][n % 2]} for n, row in enumerate(rows)]
    write_jsonl(rows, tmp_path / "pairs.jsonl")
    pairs, dropped = collect(read_rows(tmp_path / "pairs.jsonl"), "pairs.jsonl", "error")
    assert len(pairs) == 8 and not dropped


def test_with_a_record_the_file_is_the_workflows(tmp_path, early):
    found = diagnose.read_training(early.pairs)
    assert len(found) == 400 and {pair["split"] for pair in found} == {"train"}
    write_jsonl([pair("What is it?", "a", "b")], tmp_path / "pairs.jsonl")
    with pytest.raises(UserError, match="pairs.jsonl: not a readable parquet file"):
        diagnose.read_training(tmp_path / "pairs.jsonl")
    pq.write_table(pq.read_table(early.pairs, columns=["prompt", "split"]), tmp_path / "p.parquet")
    with pytest.raises(UserError, match="p.parquet: no column instruction, key; with --record"):
        diagnose.read_training(tmp_path / "p.parquet")


@pytest.mark.parametrize("flags", [("--format", "orca"), ("--ignored-columns", "notes")])
def test_with_a_record_no_layout_is_named(early, capsys, flags):
    with pytest.raises(SystemExit):
        diagnose.main(["--pairs", str(early.pairs), "--record", "{}", *flags])
    assert "of a raw file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("chosen", "rejected", "problem"),
    [
        ("a b c", "d <|end|> e", "rejected has the text"),
        ("a b c", " a b c\n", "chosen and rejected have the same tokens"),
    ],
)
def test_what_tokenization_refuses_is_no_pair_here_either(
    tmp_path, capsys, chosen, rejected, problem
):
    template = "{% for m in messages %}{{ m.content | trim }}<|end|>{% endfor %}"
    byte_level(template, None, "<|end|>").save_pretrained(tmp_path / "tokenizer")
    rows = [pair(f"What is {n}?", chosen, "d" if n else rejected) for n in range(20)]
    rows.append(pair("Why?", "a  b", "a b"))  # which a template does not make the same
    write_jsonl(rows, tmp_path / "pairs.jsonl")
    flags = ("--pairs", tmp_path / "pairs.jsonl", "--tokenizer", tmp_path / "tokenizer")
    said = rf"1 of 21 rows cannot be used.\n  pair 1 \(prompt 'What is 0\?'\): {problem}"
    with pytest.raises(UserError, match=said):
        run(capsys, *flags)
    assert "pairs.jsonl: 20 pairs" in run(capsys, *flags, "--bad-rows", "drop")


@pytest.mark.parametrize("name", ["", "absent", "pairs.jsonl"])
def test_a_tokenizer_that_cannot_be_loaded(tmp_path, capsys, name):
    write_jsonl([pair("What is it?", "a", "b")], tmp_path / "pairs.jsonl")
    name = name and tmp_path / name
    with pytest.raises(UserError, match=f"--tokenizer {name} cannot be loaded: .*\nExpected a fol"):
        run(capsys, "--pairs", tmp_path / "pairs.jsonl", "--tokenizer", name)


def test_another_format_is_read_where_it_is_named(tmp_path, capsys):
    rows = [{"system": "S", "question": f"Q {n}", "chosen": "a b", "rejected": "c"} for n in "ab"]
    write_jsonl(rows, tmp_path / "pairs.jsonl")
    flags = ("--pairs", tmp_path / "pairs.jsonl")
    with pytest.raises(UserError, match="no prompt among the columns .*: set `format: orca`"):
        run(capsys, *flags)
    assert "pairs.jsonl: 2 pairs" in run(capsys, *flags, "--format", "orca")


def test_duplicates_and_contradictions(tmp_path, capsys):
    rows = [
        pair("What is it?", "a b c", "d"),
        pair("What is it?", "a b c", "d"),  # repeated
        pair("What is it?", "d", "a b c"),  # contradicting
        pair("what  is IT", "x", "y"),  # another spelling
        pair("Else", "same start here", "same start"),  # identical once truncated
        pair("Else", "", "y"),  # no pair
    ]
    write_jsonl(rows, tmp_path / "pairs.jsonl")
    write_jsonl([{"instruction": "WHAT is it"}, {"instruction": "No"}], tmp_path / "prompts.jsonl")
    report = run(
        capsys, "--pairs", tmp_path / "pairs.jsonl", "--evaluation-prompts",
        tmp_path / "prompts.jsonl", "--output", tmp_path / "d.json", "--bad-rows", "drop",
    )  # fmt: skip
    found = read_json(tmp_path / "d.json")
    first = report.splitlines()[:5]
    assert "**1 of 6 rows were left out:**" in first and "- 1 rows: chosen is empty" in first
    assert found["dropped"] == {"chosen is empty": 1}
    assert found["source"] == "pairs.jsonl" and found["n_pairs"] == 5
    assert found["prompts"] == {
        "n_prompts": 3,
        "pairs_per_prompt": pytest.approx(5 / 3),
        "most_pairs_of_a_prompt": 3,
        "in_several_spellings": 1,
        "repeated_pairs": 1,
        "contradicting_pairs": 2,
    }
    assert found["poet"]["identical"] == 1
    assert (found["evaluation"]["exact"], found["evaluation"]["too_short"]) == (1, 1)
    for reason in found["recommendation"]["reasons"]:
        assert reason in report


# --- order ---


def test_a_reward_model_reads_the_truncated_text_as_it_stands():
    seen = []

    def rewards(prompts, texts):
        seen.append(texts)
        return [*map(len, texts)]

    pairs = [
        as_messages("p", "one two three four", "yyyyyyyyy two"),
        as_messages("q", "a", "bb cc"),
    ]
    found = expected_order(pairs, Words(), as_it_stands("lengths", rewards))
    whole = ["one two three four", "a", "yyyyyyyyy two", "bb cc"]
    assert seen == [whole + ["one two", "a", "yyyyyyyyy two", "bb"]]
    # 18 against 13 becomes 7 against 13; 1 against 5 becomes 1 against 2.
    assert (found["n_pairs"], found["n_kept"], found["value"]) == (2, 1, 50.0)


def test_one_pair_of_each_prompt_is_looked_at():
    pairs = [as_messages("p", "a b", "c"), as_messages("p", "d e", "f"), as_messages("q", "g", "h")]

    def score(prompts, texts, prefixes):
        return [1, 1, 0, 0], [1, float("nan"), 0, 0]

    found = expected_order(pairs, Words(), Scorer("fixed", "as it stands", score))
    assert (found["n_pairs"], found["n_left_out"]) == (1, 1)


# --- contamination ---


def test_overlap():
    training = [
        "Write a poem about the sea, in the style of a sailor who misses home.",
        "Name three rivers!",
    ]
    evaluation = [
        "name THREE rivers",  # but for case and punctuation
        "Please write a poem about the sea in the style of a sailor who is old.",  # most runs
        "Write a poem about the sea in one go and then explain what it is all about.",  # few
        "Name four rivers",  # too short for a run
    ]
    found = contamination.overlap(training, evaluation)
    assert (found["exact"], found["near"], found["too_short"]) == (1, 1, 1)
    assert found["examples"] == evaluation[:2]


words = st.lists(st.sampled_from("abc"), max_size=14)


@given(st.lists(words, max_size=4), st.lists(words, min_size=1, max_size=4))
def test_overlap_of_any_prompts(training, evaluation):
    found = contamination.overlap(map(" ".join, training), [*map(" ".join, evaluation)])
    runs = {tuple(t[i : i + 8]) for t in training for i in range(len(t) - 7)}
    exact = near = 0
    for prompt in evaluation:
        own = {tuple(prompt[i : i + 8]) for i in range(len(prompt) - 7)}
        if prompt in training:
            exact += 1
        elif own and len([run for run in own if run in runs]) * 2 >= len(own):
            near += 1
    assert (found["exact"], found["near"]) == (exact, near)


# --- recommendation ---


def diagnosis(**changes):
    """A diagnosis with nothing to mend, changed."""
    pairs = [as_messages(f"prompt {i}", "a b c d e f", "g h") for i in range(50)]
    found, _ = diagnose.diagnose(pairs, Words())
    order = {"value": 97.0, "ci_low": 95.0, "ci_high": 98.0, "n_pairs": 50}
    return {"source": "x", **found, "order": order, **changes}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "suits"),
        ({"order": None}, "unclear"),
        ({"order": {"value": 80.0, "ci_low": 70.0, "ci_high": 90.0, "n_pairs": 50}}, "risky"),
        ({"order": {"value": 90.0, "ci_low": 80.0, "ci_high": 95.0, "n_pairs": 50}}, "suits"),
        ({"order": dict.fromkeys(("value", "ci_low", "ci_high")) | {"n_pairs": 0}}, "unclear"),
    ],
)
def test_verdicts(changes, verdict):
    assert recommend(diagnosis(**changes))["verdict"] == verdict


def test_responses_of_like_length_gain_little():
    pairs = [as_messages(f"prompt {i}", "a b c d", "e f g h") for i in range(9)]
    found, _ = diagnose.diagnose(pairs, Words())
    assert found["recommendation"]["verdict"] == "little effect"
    assert markdown({"source": "x", "dropped": {}, **found}).startswith(
        "# POET would change little"
    )


def test_many_identical_pairs_are_named():
    found = diagnosis()
    found["poet"]["identical"] = 3
    assert any("3 pairs are identical" in reason for reason in recommend(found)["reasons"])
