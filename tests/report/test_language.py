"""The language table against means and intervals computed here, and against what it must show."""

import csv
import io
import math

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy import stats

from poet.files import UserError, write_json, write_jsonl
from poet.report import language
from poet.report import tables as programs
from poet.world import simulate as world
from poet.world.language import ATTRIBUTES, TOWNS, reward


def generations_of(prompts, outputs) -> list[dict]:
    return [
        {
            "index": p["index"], "instruction": p["instruction"], "output": output,
            "generator": "sft", "finish_reason": "stop" if output.endswith(".") else "length",
        }
        for p, output in zip(prompts, outputs, strict=True)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def data():
    """A corpus of 480 answers, 24 prompts, and three seeds of samples: some good, some cut off."""
    orders = [ATTRIBUTES[i : i + 3] for i in range(4)]
    asked = [(town, order) for order in orders for town in TOWNS]
    corpus = [row for seed in range(5) for row in world.simulate_corpus(asked, "early", seed)]
    prompts, _ = world.simulate_prompts([(town, ATTRIBUTES[3:6]) for town in TOWNS], "early", 0)
    rng, seeds = np.random.default_rng(1), []
    for cut in (8, 200, 200):
        answers = [
            world.write_answer(rng, p["instruction"], "early", "average", "concise")
            for p in prompts
        ]
        seeds.append(generations_of(prompts, [" ".join(a.split()[:cut]) for a in answers]))
    return corpus, prompts, seeds


@pytest.fixture(scope="module")
def tables(data, tmp_path_factory):
    corpus, prompts, seeds = data
    folder = tmp_path_factory.mktemp("language")
    parquet.write_table(pa.Table.from_pylist(corpus), folder / "corpus.parquet")
    write_jsonl(prompts, folder / "prompts.jsonl")
    for number, rows in enumerate(seeds):
        write_json(rows[::-1], folder / f"seed-{number}.json")
    files = ["corpus.parquet", "prompts.jsonl", *(f"seed-{n}.json" for n in range(3))]
    files = [str(folder / file) for file in files]
    outputs = [folder / f"language.{suffix}" for suffix in ("csv", "md", "tex")]
    groups = ["--world", "w", *files, "--world", "again", *files]
    programs.main(["language", *groups, "--output", *map(str, outputs)])
    return [output.read_text() for output in outputs]


def test_one_row_per_setting_and_writer(tables):
    rows = list(csv.DictReader(io.StringIO(tables[0])))
    assert [row["writer"] for row in rows] == 2 * ["unigram babbler", "corpus writer", "sft"]
    # The same files given twice: a fixed seed.
    assert rows[3:] == [row | {"setting": "again"} for row in rows[:3]]
    assert [row["n_prompts"] for row in rows[:3]] == ["24", "480", "24"]
    assert [row["n_samples"] for row in rows[:3]] == ["24", "480", "72"]
    assert [row["share_ended"] for row in rows[:2]] == ["", ""]


def test_samples_equal_a_computation_by_hand(tables, data):
    """Samples of one prompt count as one cluster: Student's t over the prompts' means."""
    _, prompts, seeds = data
    table = np.array([[reward(row["instruction"], row["output"]) for row in s] for s in seeds])
    row = list(csv.DictReader(io.StringIO(tables[0])))[2]
    means = table.mean(0)
    interval = stats.t.interval(0.95, 23, means.mean(), means.std(ddof=1) / math.sqrt(24))
    assert float(row["true_reward"]) == pytest.approx(table.mean(), abs=5e-5)
    bounds = float(row["true_reward_ci_low"]), float(row["true_reward_ci_high"])
    assert bounds == pytest.approx(interval, abs=5e-5)
    assert 0 < (table == 1).mean() < 1
    assert float(row["share_perfect"]) == pytest.approx((table == 1).mean(), abs=5e-5)
    assert row["share_ended"] == "0.6667"  # the first seed is cut inside a sentence


def test_writers_rank_as_they_must(tables):
    babbler, writer, sft = (
        float(row["true_reward"]) for row in list(csv.DictReader(io.StringIO(tables[0])))[:3]
    )
    assert babbler < 0.01 and 0.5 < writer < 0.9 and babbler < sft < writer


def test_markdown_and_latex_show_the_same_digits(tables):
    row = list(csv.DictReader(io.StringIO(tables[0])))[1]
    low, high = row["true_reward_ci_low"], row["true_reward_ci_high"]
    for text in tables[1:]:
        assert f"{row['true_reward']} [{low}, {high}]" in text
        assert "95 % interval over prompts" in text


def test_answers_to_other_prompts_are_refused(data, tmp_path):
    corpus, prompts, seeds = data
    names = [str(tmp_path / name) for name in ("corpus.parquet", "prompts.jsonl", "seed-1.json")]
    parquet.write_table(pa.Table.from_pylist(corpus), names[0])
    write_jsonl(prompts, names[1])
    write_json(seeds[0][:-1], names[2])
    with pytest.raises(UserError, match="seed-1.json: no generation for prompt 23"):
        language.rows_of({("w", *names[:2]): names[2:]})
    unfinished = [{k: v for k, v in row.items() if k != "finish_reason"} for row in seeds[0]]
    write_json(unfinished, names[2])
    with pytest.raises(UserError, match="seed-1.json, row 0: no finish_reason"):
        language.rows_of({("w", *names[:2]): names[2:]})


def test_a_group_without_generations_is_refused():
    with pytest.raises(UserError, match="--world w corpus prompts: expected .* a file per seed"):
        programs.main(["language", "--world", "w", "corpus", "prompts", "--output", "t.csv"])
