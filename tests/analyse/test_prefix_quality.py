"""The program: files in, files out, and its numbers from the completions that it kept."""

import csv
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from poet.analyse import prefix_quality
from poet.evaluate.statistics import Score, over_prompts_and_seeds, paired
from poet.files import UserError, read_json, read_jsonl, write_json
from poet.world.language import reward
from poet.world.simulate import write_answer

SAMPLING = {
    "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 6, "stop_token_ids": [1], "batch_size": 64,
}  # fmt: skip
ANALYSIS = {
    "pairs": 15, "prompts": 6, "completions": 2, "order_completions": 3,
    "prefix_lengths": [4, 64], "own_prefix_lengths": [2, 64],
}  # fmt: skip


@pytest.fixture(scope="module")
def generations(early, tmp_path_factory):
    """Answers by two methods and two seeds; every third one was cut before its end."""
    folder, rng = tmp_path_factory.mktemp("generations"), np.random.default_rng(0)
    files = {}
    for method, writer in (("dpo", "weak"), ("dpo-poet", "good")):
        files[method] = [folder / f"{method}-{seed}.json" for seed in (1, 2)]
        for path in files[method]:
            rows = []
            for prompt in read_jsonl(early.prompts):
                text = write_answer(rng, prompt["instruction"], "early", writer, "concise")
                cut = prompt["index"] % 3 == 0
                row = {"index": prompt["index"], "instruction": prompt["instruction"]}
                row["output"] = text[: len(text) // 2] if cut else text
                ids = early.tokenizer(row["output"])["input_ids"]
                row["token_ids"] = ids if cut else [*ids, early.tokenizer.eos_token_id]
                rows.append(row | {"finish_reason": "length" if cut else "stop"})
            write_json(rows, path)
    return {method: [*map(str, paths)] for method, paths in files.items()}


def run(early, models, generations, folder):
    record = {
        "setting": "world", "torch_threads": 1, "sft_seed": 1, "data": early.data,
        "length_policy": "keep_start",
        "chat_template_kwargs": {},
        "generation": SAMPLING, "analysis": ANALYSIS,
    }  # fmt: skip
    flags = ["--record", json.dumps(record), "--start", models["sft"][0]]
    flags += ["--pairs", str(early.pairs), "--tokens", str(early.tokens)]
    flags += ["--prompts", str(early.prompts), "--annotator", "oracle"]
    flags += ["--settings", '{"kind": "oracle"}', "--gain", "dpo-poet", "dpo"]
    for method, files in generations.items():
        flags += ["--generations", method, *files]
    outputs = {"output": "pq.json", "figure": "pq.csv", "completions": "pq.parquet"}
    for flag, name in outputs.items():
        flags += [f"--{flag}", str(folder / name)]
    prefix_quality.main(flags)
    with (folder / "pq.csv").open() as file:
        figure = list(csv.DictReader(file))
    return read_json(folder / "pq.json"), figure, pq.read_table(folder / "pq.parquet").to_pylist()


@pytest.fixture(scope="module")
def made(early, models, generations, tmp_path_factory):
    return run(early, models, generations, tmp_path_factory.mktemp("out"))


def table(rows, method, k):
    """Q by seed and prompt, from the completions."""
    by_seed = {}
    for row in rows:
        name, _, seed = row["source"].partition("/")
        if (row["measure"], name, row["k"]) == ("own", method, k):
            by_seed.setdefault(seed, {}).setdefault(row["prompt_id"], []).append(row["reward"])
    return [[np.mean(q) for q in prompts.values()] for _, prompts in sorted(by_seed.items())]


def test_models_own_prefixes(made):
    result, _, rows = made
    assert [(row["method"], row["k"]) for row in result["own"]["methods"]] == [
        (method, k) for method in ("dpo", "dpo-poet") for k in (2, 64)
    ]
    for row in result["own"]["methods"]:
        score = Score.of_values(table(rows, row["method"], row["k"]))
        assert score.replicates.shape == (2, 6) == (row["n_seeds"], row["n_prompts"])
        assert row["value"] == pytest.approx(float(score.value))
        interval = over_prompts_and_seeds(score)
        # prefixes that are all worth the same have no interval
        bounds = [math.nan if row[end] is None else row[end] for end in ("ci_low", "ci_high")]
        assert bounds == pytest.approx(tuple(interval), nan_ok=True)
    for gain in result["own"]["gains"]:
        both = (Score.of_values(table(rows, m, gain["k"])) for m in ("dpo-poet", "dpo"))
        expected = paired(*both)
        assert gain["gain"] == pytest.approx(expected.gain)
        if np.isnan(expected.p_value):
            assert gain["p_value"] is gain["p_holm"] is gain["ci_low"] is None
        else:
            assert gain["p_value"] == pytest.approx(expected.p_value)
            assert gain["p_holm"] >= gain["p_value"]


def test_every_completion_is_kept(made, early):
    result, _, rows = made
    assert result["pairs"]["n_pairs"] == 15
    instructions = {str(p["index"]): p["instruction"] for p in read_jsonl(early.prompts)}
    for row in rows:
        assert row["text"].startswith(row["prefix"])
        if row["measure"] == "own":
            assert row["reward"] == reward(instructions[row["prompt_id"]], row["text"])
    ways = {row["finish_reason"] for row in rows}
    assert ways >= {"whole", "length"}
    gaps = {gap["k"]: gap for gap in result["pairs"]["gaps"]}
    for k, gap in gaps.items():
        of_k = [row for row in rows if row["measure"] == "pairs" and row["k"] == k]
        whole = [row["finish_reason"] == "whole" for row in of_k]
        # a whole response stands once, a begun one twice
        share = 100 * sum(whole) / (sum(whole) + (len(whole) - sum(whole)) / 2)
        assert gap["share_whole"] == pytest.approx(share)


def test_an_answer_that_was_cut_is_never_whole(made):
    _, _, rows = made
    of_64 = [row for row in rows if row["measure"] == "own" and row["k"] == 64]
    assert of_64
    for row in of_64:  # concise answers are shorter
        assert (row["finish_reason"] == "whole") == (int(row["prompt_id"]) % 3 != 0)


def test_figure_holds_the_json_files_numbers(made):
    result, figure, _ = made
    gaps = {str(gap["k"]): gap for gap in result["pairs"]["gaps"]}
    for row in figure:
        if row["measure"] == "dq":
            assert float(row["value"]) == gaps[row["k"]]["value"]
            low = gaps[row["k"]]["ci_low"]
            assert row["ci_low"] == ("" if low is None else str(low))
        if row["measure"] == "dq_exact":
            assert float(row["value"]) == gaps[row["k"]]["exact"]["value"]
    assert [row["measure"] for row in figure] == ["dq", "dq_exact"] * 2 + ["own"] * 4


def test_same_numbers_again(made, early, models, generations, tmp_path):
    assert run(early, models, generations, tmp_path) == made


def test_other_prompts_are_refused(early, models, generations, tmp_path):
    rows = read_json(generations["dpo"][0])
    write_json(rows[1:], tmp_path / "other.json")
    other = {"dpo": [str(tmp_path / "other.json")], "dpo-poet": generations["dpo-poet"]}
    with pytest.raises(UserError, match="the answers of dpo are to other prompts"):
        run(early, models, other, tmp_path)


def test_pairs_and_tokens_of_different_rows_are_refused(early, models, generations, tmp_path):
    table = pq.read_table(early.pairs)
    pq.write_table(table.slice(1), tmp_path / "pairs.parquet")
    early = type(early)(**{**vars(early), "pairs": tmp_path / "pairs.parquet"})
    with pytest.raises(UserError, match="is not made of"):
        run(early, models, generations, tmp_path)
