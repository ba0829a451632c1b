"""Summaries of verdicts: intervals and paired gains as their formulas say."""

import math

import numpy as np
import pytest

from poet.evaluate import summary
from poet.files import UserError, read_json, write_json


def verdict_files(tmp_path, name, n_seeds, p, n=300):
    rng = np.random.default_rng(len(name))
    paths = []
    for seed in range(n_seeds):
        rows = [
            {"index": i, "instruction": f"i{i}", "safe": bool(rng.random() < p), "judge_model": "j"}
            for i in range(n)
        ]
        paths.append(tmp_path / f"{name}{seed}.json")
        write_json(rows[::-1] if seed else rows, paths[-1])
    return [str(path) for path in paths]


def summarise(tmp_path, benchmark, *flags):
    main = ["--setting", "s", "--annotator", "a", "--output", str(tmp_path / "summary.json")]
    summary.main([benchmark, *flags, *main])
    return read_json(tmp_path / "summary.json")


def test_one_run_has_wilsons_interval(tmp_path):
    files = verdict_files(tmp_path, "m", 1, 0.9)
    method = summarise(tmp_path, "safety", "--method", "m", *files)["methods"]["m"]
    row = method["metrics"]["safety_rate"]
    n, z = 300, 1.959963984540054
    k = sum(r["safe"] for r in read_json(files[0]))
    middle, half = (
        (k + z * z / 2) / (n + z * z),
        z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4),
    )
    assert row["value"] == pytest.approx(100 * k / n)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(
        (100 * (middle - half), 100 * (middle + half))
    )
    assert row["interval"] == "conditional on one run" and method["n_prompts"] == n
    assert method["judge_models"] == ["j"]


def test_gains_are_paired_over_prompts_and_seeds(tmp_path):
    from poet.evaluate.statistics import Score, over_prompts_and_seeds, paired

    flags, tables = [], {}
    for name, p in (("dpo", 0.45), ("dpo-poet", 0.8)):
        files = verdict_files(tmp_path, name, 3, p)
        flags += ["--method", name, *files]
        of_seeds = [sorted(read_json(f), key=lambda r: r["index"]) for f in files]
        tables[name] = np.array([[100.0 * r["safe"] for r in rows] for rows in of_seeds])
    result = summarise(tmp_path, "safety", *flags, "--gain", "dpo-poet", "dpo")
    (gain,) = result["gains"]
    scores = {name: Score.of_values(table) for name, table in tables.items()}
    expected = paired(scores["dpo-poet"], scores["dpo"])
    assert gain["gain"] == pytest.approx(tables["dpo-poet"].mean() - tables["dpo"].mean())
    assert (gain["ci_low"], gain["ci_high"]) == pytest.approx((expected.low, expected.high))
    assert gain["p_holm"] == gain["p_value"] == pytest.approx(float(expected.p_value))
    for name, score in scores.items():
        low, high = over_prompts_and_seeds(score)
        row = result["methods"][name]["metrics"]["safety_rate"]
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
        assert (
            result["methods"][name]["n_seeds"] == 3 and row["interval"] == "over prompts and seeds"
        )


def test_other_prompts_are_an_error(tmp_path):
    files = verdict_files(tmp_path, "m", 1, 0.5, 5) + verdict_files(tmp_path, "mm", 1, 0.5, 6)
    with pytest.raises(UserError, match="expected verdicts on the prompts of"):
        summarise(tmp_path, "safety", "--method", "m", *files)
    with pytest.raises(
        UserError, match=f"{files[1]}: expected verdicts on the prompts of {files[0]}"
    ):
        summarise(tmp_path, "safety", "--method", "a", files[0], "--method", "b", files[1])
    with pytest.raises(UserError, match="row 0: no wins, battles, verdicts"):
        summarise(tmp_path, "arena", "--method", "a", files[0])
