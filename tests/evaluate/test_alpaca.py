"""Scores equal alpaca-eval's published ones, and no row is lost on the way."""

import csv
import gzip
import json
import math
import random
import tempfile

import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st

from poet.evaluate import alpaca, length_control
from poet.evaluate import prompts as benchmark
from poet.files import UserError, read_json, write_json, write_jsonl
from poet.hub import download as hub
from poet.hub.wanted import ALPACAEVAL_FILES
from served_hub import ServedHub

MODELS = [
    "FuseChat-Gemma-2-9B-Instruct",
    "FuseChat-Llama-3.1-8B-Instruct",
    "OpenHermes-2.5-Mistral-7B",
    "alpaca-farm-ppo-human",
    "oasst-rlhf-llama-33b",
    "phi-2-sft",
]


def make_rows(n: int = 60, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 80, size=(n, 2))
    return [
        {
            "instruction": f"question {i}",
            "output_1": "x" * int(lengths[i, 0]),
            "output_2": "y" * int(lengths[i, 1]),
            "generator_1": "reference",
            "generator_2": "model",
            "annotator": "judge",
            "preference": 1 + float(rng.uniform()),
        }
        for i in range(n)
    ]


def make_gamed(n: int = 60, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=n)
    return pd.DataFrame(
        {
            "model": ["verbose"] * n + ["concise"] * n,
            "preference": rng.uniform(size=2 * n),
            "index": [*range(n)] * 2,
            "std_delta_len": np.r_[rng.normal(-1, 1, n), rng.normal(1, 1, n)],
            "instruction_difficulty": np.r_[difficulty, difficulty],
            "not_gamed_baseline": False,
        }
    )


def run(tmp_path, rows, *flags, n_prompts: int = 60, gamed=None) -> dict:
    """The program on these rows; its output."""
    write_json(rows, tmp_path / "annotations.json")
    write_jsonl([{"instruction": f"question {i}"} for i in range(n_prompts)], tmp_path / "p.jsonl")
    if gamed is None:
        flags = ("--without-gamed", *flags)
    else:
        gamed.to_csv(tmp_path / "gamed.csv", index=False)
        flags = ("--gamed", str(tmp_path / "gamed.csv"), *flags)
    alpaca.main([
        "--annotations", str(tmp_path / "annotations.json"), "--prompts", str(tmp_path / "p.jsonl"),
        "--output", str(tmp_path / "scores.json"), *flags,
    ])  # fmt: skip
    return read_json(tmp_path / "scores.json")


@pytest.mark.parametrize("model", MODELS)
def test_published_scores_whatever_the_order_of_rows(shared, tmp_path, model):
    data = shared / "data" / "alpacaeval2"
    with (data / "published.csv").open() as file:
        published = {row["model"]: row for row in csv.DictReader(file)}[model]
    annotations, gamed = data / "annotations" / f"{model}.json.gz", data / "df_gamed_surrogate.csv"
    rows = read_json(annotations)
    random.Random(0).shuffle(rows)
    with gzip.open(tmp_path / "shuffled.json.gz", "wt", encoding="utf-8") as file:
        json.dump(rows, file)
    alpaca.main([
        "--annotations", str(annotations), str(tmp_path / "shuffled.json.gz"),
        "--prompts", str(data / "prompts.jsonl.gz"), "--gamed", str(gamed),
        "--output", str(tmp_path / "a.json"), str(tmp_path / "b.json"),
    ])  # fmt: skip
    scores = read_json(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    for key in ("win_rate", "standard_error", "discrete_win_rate", "n_total", "avg_length"):
        assert scores[key] == pytest.approx(float(published[key]), abs=1e-6)
    lc = float(published["length_controlled_winrate"])
    assert scores["length_controlled_winrate"] == pytest.approx(lc, abs=0.5)
    assert scores["lc_kind"] == "length_controlled_v1"


def test_plain_scores_by_their_formulas(tmp_path):
    rows = make_rows()
    rows[3]["preference"], rows[4]["preference"] = 0, 1.5  # alpaca-eval's old and new draw
    scores = run(tmp_path, rows, gamed=make_gamed())
    wins = np.array([(row["preference"] or 1.5) - 1 for row in rows])
    assert scores["win_rate"] == pytest.approx(100 * wins.mean())
    assert scores["standard_error"] == pytest.approx(100 * wins.std(ddof=1) / math.sqrt(60))
    discrete = (wins > 0.5) + 0.5 * (wins == 0.5)
    assert scores["discrete_win_rate"] == pytest.approx(100 * discrete.mean())
    assert scores["avg_length"] == int(np.mean([len(row["output_2"]) for row in rows]))
    assert scores["n_total"] == 60
    assert scores["mean_reward"] is scores["share_ended"] is None


def test_length_control_removes_what_length_alone_explains(tmp_path):
    rows = make_rows(400)
    gaps = np.array([len(row["output_1"]) - len(row["output_2"]) - 15 for row in rows])
    for row, gap in zip(rows, gaps / gaps.std(ddof=1), strict=True):
        row["output_1"] = row["output_1"][:-15] or "x"
        row["preference"] = 1 + 1 / (1 + math.exp(2 * math.tanh(gap)))
    scores = run(tmp_path, rows, n_prompts=400)
    assert scores["win_rate"] > 58
    assert scores["length_controlled_minimal_winrate"] == pytest.approx(50, abs=3)
    assert scores["lc_kind"] == "length_controlled_minimal"
    # AlpacaEval's number has its name to itself
    assert not {"length_controlled_winrate", "lc_standard_error"} & set(scores)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 9))
def test_order_and_gamed_order_do_not_matter(random_, seed):
    rows, gamed = make_rows(seed=seed), make_gamed(seed=seed)
    instructions = [row["instruction"] for row in rows]
    expected = alpaca.align(rows, instructions, "a.json")
    assert [row["instruction"] for row in expected] == instructions
    shuffled = random_.sample(rows, len(rows))
    assert alpaca.align(shuffled, instructions, "a.json") == expected
    # alpaca-eval would read difficulty off the wrong rows of a file that alternates its models
    alternating = gamed.sort_values("index", kind="stable").reset_index(drop=True)
    difficulty = alternating.groupby("index")["instruction_difficulty"].first()
    with tempfile.TemporaryDirectory() as folder:
        alternating.to_csv(f"{folder}/gamed.csv", index=False)
        read = benchmark.read_gamed(f"{folder}/gamed.csv", 60)
    assert list(read["index"][:60]) == list(range(60))
    np.testing.assert_allclose(read["instruction_difficulty"][:60], difficulty)


def test_rewards_and_finish_reasons_stand_beside_the_scores(tmp_path):
    rows = make_rows()
    generations = []
    for i, row in enumerate(rows):
        row |= {"reward_1": 0.25, "reward_2": i / 60}
        made = {"instruction": row["instruction"], "output": row["output_2"]}
        generations.append({**made, "finish_reason": "stop" if i % 4 else "length"})
    write_json(generations, tmp_path / "g.json")
    scores = run(tmp_path, rows, "--generations", str(tmp_path / "g.json"))
    assert scores["share_ended"] == 0.75
    assert scores["mean_reward"] == pytest.approx(59 / 120)
    assert scores["mean_reward_reference"] == 0.25
    generations[7]["output"] = "another"
    write_json(generations, tmp_path / "g.json")
    with pytest.raises(UserError, match="question 7"):
        run(tmp_path, rows, "--generations", str(tmp_path / "g.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "missing .*question 0"),
        (lambda rows: [{**rows[0], "preference": None}, *rows[1:]], "missing .*question 0"),
        (lambda rows: [{**rows[0], "preference": math.nan}, *rows[1:]], "missing .*question 0"),
        (lambda rows: [*rows, rows[5]], "duplicated: 1: 'question 5'"),
        (lambda rows: [*rows, {**rows[5], "instruction": "new"}], "foreign: 1: 'new'"),
        (lambda rows: [{**rows[0], "preference": 2.5}, *rows[1:]], "row 0: preference 2.5"),
        (lambda rows: [{**rows[0], "preference": "m"}, *rows[1:]], "row 0: preference 'm'"),
        (lambda rows: [{**rows[0], "preference": True}, *rows[1:]], "row 0: preference True"),
        (lambda rows: [{**row, "preference": None} for row in rows], "missing .* 60: 'question 0'"),
        (lambda rows: [{**rows[0], "output_2": None}, *rows[1:]], "row 0: .* strings"),
        (lambda rows: [{**rows[0], "generator_2": "other"}, *rows[1:]], "several generator_2"),
        (lambda rows: [{"instruction": "question 0"}], "row 0: no output_1"),
        (lambda rows: {"rows": rows}, "expected a list"),
    ],
)
def test_what_does_not_match_the_benchmark_is_named(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, change(make_rows()))


def test_allow_missing_scores_what_is_there_with_each_prompts_own_difficulty(tmp_path):
    rows, gamed = make_rows(), make_gamed()
    full = run(tmp_path, rows, "--allow-missing", gamed=gamed)
    assert full == run(tmp_path, rows, gamed=gamed)
    part = run(
        tmp_path, [{**rows[0], "preference": None}, *rows[2:]], "--allow-missing", gamed=gamed
    )
    assert part["n_total"] == 58 and part["compared"] is None
    wins = [row["preference"] - 1 for row in rows[2:]]
    assert part["win_rate"] == pytest.approx(100 * np.mean(wins))
    aligned = alpaca.align(rows[2:], [row["instruction"] for row in rows], "a", allow_missing=True)
    assert [row["index"] for row in aligned] == list(range(2, 60))
    for change in (lambda rows: [*rows, rows[5]], lambda rows: [{**rows[0], "instruction": "new"}]):
        with pytest.raises(UserError):
            run(tmp_path, change(rows), "--allow-missing")


def test_a_failed_annotations_length_counts_as_in_alpaca_eval(tmp_path):
    """Against alpaca-eval's own function on the rows as they are, null and all."""
    rows, gamed = make_rows(), make_gamed()
    for failed in (0, 17, 40):
        rows[failed] |= {"preference": None, "output_2": "z" * 300}
    found = run(tmp_path, rows, "--allow-missing", gamed=gamed)
    frame = pd.DataFrame(rows).assign(index=range(60))
    with length_control.offline_regression(gamed) as (metric, _):
        theirs = metric(frame, save_weights_dir=None, is_add_glm_preference_inplace=False)
    assert found["n_total"] == theirs["n_total"] == 57
    for key in ("win_rate", "standard_error", "length_controlled_winrate", "lc_standard_error"):
        assert found[key] == pytest.approx(theirs[key], abs=1e-9), key
    assert found["avg_length"] == int(frame["output_2"].str.len().mean())


def test_a_retry_takes_the_place_of_the_annotation_that_failed(tmp_path):
    rows = make_rows()
    expected = run(tmp_path, rows, gamed=make_gamed())
    again = [{**rows[3], "preference": None}, *rows]
    assert run(tmp_path, again, gamed=make_gamed()) == expected


def test_whatever_else_stands_in_the_rows(tmp_path):
    """Whole-number preferences, columns of all kinds, text of any script."""
    rows = make_rows()
    for number, row in enumerate(rows):
        row["preference"] = 1 + number % 2
        row["instruction"] = f"question {number}: ärger \u2028 \u202e 日本 😀\r\n\ttab"
        row |= {"index": 1000 - number, "price_per_example": None, "raw_completion": {"a": [1]}}
    instructions = [row["instruction"] for row in rows]
    write_json(rows[::-1], tmp_path / "a.json")
    write_jsonl([{"instruction": text} for text in instructions], tmp_path / "p.jsonl")
    alpaca.main([
        "--annotations", str(tmp_path / "a.json"), "--prompts", str(tmp_path / "p.jsonl"),
        "--without-gamed", "--output", str(tmp_path / "s.json"),
    ])  # fmt: skip
    scores = read_json(tmp_path / "s.json")
    assert scores["win_rate"] == scores["discrete_win_rate"] == 50 and scores["n_total"] == 60


@pytest.mark.parametrize("preference", [1, 2, 1.5])
def test_one_sided_judgements_have_scores(tmp_path, preference):
    rows = [{**row, "preference": preference} for row in make_rows()]
    scores = run(tmp_path, rows, gamed=make_gamed())
    assert scores["win_rate"] == 100 * (preference - 1) and scores["standard_error"] == 0
    assert 0 <= scores["length_controlled_winrate"] <= 100
    own = run(tmp_path, rows)["length_controlled_minimal_winrate"]
    assert own == pytest.approx(scores["win_rate"], abs=0.2)


def test_instructions_that_repeat_are_counted():
    rows = make_rows(4)
    rows[3] = {**rows[3], "instruction": rows[1]["instruction"]}
    instructions = [row["instruction"] for row in rows]
    expected = alpaca.align(rows, instructions, "a.json")
    assert sorted(row["output_2"] for row in expected) == sorted(row["output_2"] for row in rows)
    assert alpaca.align(rows[::-1], instructions, "a.json") == expected
    with pytest.raises(UserError, match="missing .*question 1"):
        alpaca.align(rows[:3], instructions, "a.json")
    with pytest.raises(UserError, match="duplicated.*question 1"):
        alpaca.align([*rows, rows[1]], instructions, "a.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["index"] < 59], "missing: 1: 59"),
        (lambda t: t.assign(index=t["index"] + 1), "foreign: 1: 60"),
        (lambda t: t.drop(columns="instruction_difficulty"), "no column instruction_difficulty"),
        (lambda t: t.assign(preference=t["preference"] + 1), r"lie in \[0, 1\]"),
    ],
)
def test_a_gamed_file_of_another_benchmark_is_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, make_rows(), gamed=change(make_gamed()))


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.json cannot be read"):
        benchmark.read_rows(tmp_path / "nowhere.json")
    (tmp_path / "half.json.gz").write_bytes(gzip.compress(b'[{"a": 1}]' * 100)[:40])
    with pytest.raises(UserError, match="half.json.gz cannot be read"):
        benchmark.read_rows(tmp_path / "half.json.gz")
    for gamed in (None, make_gamed(4)):
        with pytest.raises(UserError, match="annotations.json: .* at least 5 annotations; found 4"):
            run(tmp_path, make_rows(4), n_prompts=4, gamed=gamed)


def test_lengths_that_all_differ_alike_control_nothing(tmp_path):
    """alpaca-eval's regression has no scale then; ours is the win rate."""
    rows = [{**row, "output_1": "a", "output_2": "bc"} for row in make_rows()]
    with pytest.raises(UserError, match="length differences that differ"):
        run(tmp_path, rows, gamed=make_gamed())
    scores = run(tmp_path, rows)
    assert scores["length_controlled_minimal_winrate"] == pytest.approx(
        scores["win_rate"], abs=0.02
    )
    assert scores["lc_minimal_standard_error"] == pytest.approx(scores["standard_error"], rel=0.01)


def test_the_reference_against_itself_scores_half():
    rows = [{**row, "generator_2": "reference", "preference": 1.5} for row in make_rows()]
    rows = alpaca.align(rows, [row["instruction"] for row in rows], "a.json")
    for gamed, key in ((None, "length_controlled_minimal_winrate"),
                       (make_gamed(), "length_controlled_winrate")):  # fmt: skip
        scores, strength = alpaca.score(rows, gamed)
        assert scores["win_rate"] == scores[key] == 50
        assert strength is None and scores["degenerate"] is False
        compared = alpaca.compared(rows, [row["instruction"] for row in rows], strength, gamed)
        assert (compared is None) == (gamed is not None)  # nothing was fitted


def test_what_no_flag_names_is_fetched_by_the_lock_once(tmp_path, monkeypatch):
    """Prompts and gamed rows from a served hub; afterwards without it."""
    root, lock_file = tmp_path / "hub", tmp_path / "hub.lock.yaml"
    folder = root / "datasets" / "tatsu-lab" / "alpaca_eval"
    folder.mkdir(parents=True)
    rows = make_rows()
    prompts = [{"instruction": row["instruction"], "output": row["output_1"]} for row in rows]
    write_json(prompts, folder / "alpaca_eval_gpt4_baseline.json")
    make_gamed().to_csv(folder / "df_gamed.csv", index=False)
    write_json(rows[::-1], tmp_path / "a.json")

    def scores(*flags):
        alpaca.main(["--annotations", str(tmp_path / "a.json"), "--lock", str(lock_file), *flags,
                     "--output", str(tmp_path / "s.json")])  # fmt: skip
        return read_json(tmp_path / "s.json")

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("POET_HUB_MIRROR", raising=False)
    with pytest.raises(UserError, match="make lock"):
        scores()
    with ServedHub(root) as server:
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        name = "datasets/tatsu-lab/alpaca_eval"
        lock_file.write_text(yaml.safe_dump({name: hub.describe(name, None, ALPACAEVAL_FILES)}))
        fetched = scores()
    given = scores("--prompts", str(folder / "alpaca_eval_gpt4_baseline.json"),
                   "--gamed", str(folder / "df_gamed.csv"))  # fmt: skip
    assert fetched == given == scores()  # the server is gone
    assert fetched["lc_kind"] == "length_controlled_v1"
