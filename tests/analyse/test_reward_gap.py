"""Margins, entropies and shares against passes of one response at a time, in float64."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM

from poet.analyse import reward_gap
from poet.analyse.intervals import by_position, share, share_among
from poet.analyse.margins import shared_lengths
from poet.files import UserError, read_json, write_json
from poet.train import reference

KS = [2, 8, 32]
N = 12
PROMPTS = 3
SIDES = ("chosen", "rejected")


@pytest.fixture(scope="module")
def files(early, models, tmp_path_factory):
    """Reference cache, and answers with annotations of every method."""
    folder = tmp_path_factory.mktemp("gap")
    record = {
        "setting": "world", "torch_threads": 1, "reference_batch_size": 16,
        "forward": "padded", "token_budget": None, "dtype": "float32",
        "analysis": {"pairs": N, "prefix_lengths": KS},
    }  # fmt: skip
    reference.main(
        ["--record", json.dumps(record), "--tokens", str(early.tokens), "--model",
         models["sft"][0], "--output", str(folder / "reference.parquet")]
    )  # fmt: skip
    rng, made = np.random.default_rng(0), {}
    for method in models:
        made[method] = {"generations": [], "annotations": []}
        for seed in (1, 2):
            rewards = rng.random(PROMPTS)
            rows = [
                {"index": i, "instruction": f"ask {i}", "output_2": f"{method} {i}", "reward_2": r}
                for i, r in enumerate(rewards)
            ]
            answers = [{"n_tokens": 4 + i, "finish_reason": "stop" if i else "length"}
                       for i in range(PROMPTS)]  # fmt: skip
            for kind, value in (("generations", answers), ("annotations", rows)):
                path = folder / f"{kind}-{method}-{seed}.json"
                write_json(value, path)
                made[method][kind].append(str(path))
    return folder, record, made


def run(early, models, files, folder, annotations=True):
    source, record, made = files
    flags = ["--record", json.dumps(record), "--tokens", str(early.tokens)]
    flags += ["--reference", str(source / "reference.parquet"), "--start", models["sft"][0]]
    for method, kinds in made.items():
        if method != "sft":
            flags += ["--models", method, *models[method]]
        flags += ["--generations", method, *kinds["generations"]]
        if annotations:
            flags += ["--annotations", method, *kinds["annotations"]]
    flags += ["--gain", "dpo-poet", "dpo", "--gain", "dpo", "dpo-poet"]
    for flag, name in {"output": "g.json", "curves": "g.csv", "positions": "p.csv"}.items():
        flags += [f"--{flag}", str(folder / name)]
    reward_gap.main(flags)
    tables = []
    for name in ("g.csv", "p.csv"):
        with (folder / name).open() as file:
            tables.append(list(csv.DictReader(file)))
    return read_json(folder / "g.json"), *tables


@pytest.fixture(scope="module")
def made(early, models, files, tmp_path_factory):
    return run(early, models, files, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def pairs(early):
    """The first test pair of each prompt; the world has one per prompt."""
    rows = [row for row in pq.read_table(early.tokens).to_pylist() if row["split"] == "test"]
    return rows[:N]


@pytest.fixture(scope="module")
def direct(models, pairs):
    """(log-probabilities, entropies) of every response by model and side, one pass each."""
    found = {}
    for method, folders in models.items():
        for seed, folder in enumerate(folders):
            model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
            for side in SIDES:
                rows = []
                for pair in pairs:
                    ids = torch.tensor([pair["prompt_ids"] + pair[f"{side}_ids"]])
                    with torch.no_grad():
                        logits = model(ids).logits[0, len(pair["prompt_ids"]) - 1 : -1]
                    logp = logits.log_softmax(-1)
                    taken = logp.gather(-1, torch.tensor(pair[f"{side}_ids"])[:, None])[:, 0]
                    rows.append((taken.numpy(), -(logp.exp() * logp).sum(-1).numpy()))
                found[method, seed, side] = rows
    return found


def prefix_margins(direct, method, seed, k):
    """Margins of the first k tokens, [pairs]: before and after."""
    rewards = {}
    for side in SIDES:
        for when, (policy, number) in {"before": ("sft", 0), "after": (method, seed)}.items():
            values = []
            for (logp, _), (ref, _) in zip(
                direct[policy, number, side], direct["sft", 0, side], strict=True
            ):
                if method == "simpo":
                    values.append(2.0 * logp[:k].mean())
                else:
                    values.append(0.1 * (logp[:k] - ref[:k]).sum())
            rewards[when, side] = np.array(values)
    return [rewards[when, "chosen"] - rewards[when, "rejected"] for when in ("before", "after")]


@pytest.mark.parametrize("method", ["dpo", "dpo-poet", "simpo"])
def test_margins_at_every_prefix_length(made, direct, pairs, method):
    result, curves, _ = made
    entry = result["methods"][method]
    assert entry["unit"] == ("nats per token" if method == "simpo" else "nats")
    by_k = {row["k"]: row for row in entry["margins"]}
    assert list(by_k) == [*KS, None]
    rows = {int(row["prefix_length"]): row for row in curves if row["method"] == method}
    longest = max(len(pair[f"{side}_ids"]) for pair in pairs for side in SIDES)
    assert list(rows) == list(range(1, longest + 1))
    for k in (1, 2, 5, 8, 32, longest):
        margins = [prefix_margins(direct, method, seed, k) for seed in (0, 1)]
        before, after = np.moveaxis(np.array(margins), 1, 0)
        assert float(rows[k]["before"]) == pytest.approx(before.mean(), abs=2e-5)
        assert float(rows[k]["after"]) == pytest.approx(after.mean(), abs=2e-5)
        key = None if k == longest else k
        if key in by_k:
            assert by_k[key]["after"] == pytest.approx(after.mean(), abs=2e-5)
    low, high = stats.ttest_1samp(prefix_margins(direct, method, 0, 8)[0], 0).confidence_interval()
    bounds = [rows[8][f"before_ci_{end}"] for end in ("low", "high")]
    if method == "simpo":
        assert [*map(float, bounds)] == pytest.approx([low, high], abs=2e-5)
    else:  # 0 for every pair, by construction
        assert low == high == 0 and bounds == ["", ""]


@pytest.mark.parametrize("method", ["dpo", "simpo"])
def test_shares_of_pairs(made, direct, method):
    entry = made[0]["methods"][method]
    whole = [prefix_margins(direct, method, seed, None) for seed in (0, 1)]
    grew = np.array([after > before for before, after in whole])
    assert entry["margin_grew"]["value"] == pytest.approx(100 * grew.mean())
    assert 0 < grew.mean() < 1
    for row in entry["smaller_prefix"]:
        at_k = [prefix_margins(direct, method, seed, row["k"]) for seed in (0, 1)]
        shrank = np.array([after < before - 1e-9 for before, after in at_k])
        assert row["n_given"] == grew.sum()
        assert row["value"] == pytest.approx(100 * (grew & shrank).sum() / grew.sum())
    scale = {"dpo": lambda x: 0.1 * x.sum(), "simpo": lambda x: 2.0 * x.mean()}[method]
    fell = np.array(
        [
            [
                scale(logp) < scale(ref)
                for (logp, _), (ref, _) in zip(
                    direct[method, seed, "chosen"], direct["sft", 0, "chosen"], strict=True
                )
            ]
            for seed in (0, 1)
        ]
    )
    assert entry["chosen_fell"]["value"] == pytest.approx(100 * (grew & fell).mean())


def test_method_against_baseline(made, direct):
    assert len(made[0]["against"]) == 2 * len(KS)
    for row in made[0]["against"]:
        larger, both = 0, 0
        for seed in (0, 1):
            whole, at_k = (
                prefix_margins(direct, row["baseline"], seed, k)[1]
                - prefix_margins(direct, row["method"], seed, k)[1]
                for k in (None, row["k"])
            )
            larger += (whole > 0).sum()
            both += ((whole > 0) & (at_k < -1e-9)).sum()
        assert row["n_given"] == larger
        assert row["value"] == (pytest.approx(100 * both / larger) if larger else None)


def test_entropy_and_logp_by_position(made, direct, pairs):
    _, _, positions = made
    for method, n_seeds in (("sft", 1), ("simpo", 2)):
        for side in SIDES:
            rows = [r for r in positions if r["method"] == method and r["side"] == side]
            lengths = sorted(len(pair[f"{side}_ids"]) for pair in pairs)
            assert len(rows) == lengths[-2]  # the longest one's end stands alone
            for position in (1, 7, len(rows)):
                row = rows[position - 1]
                there = [
                    (logp[position - 1], entropy[position - 1])
                    for seed in range(n_seeds)
                    for logp, entropy in direct[method, seed, side]
                    if len(logp) >= position
                ]
                logp, entropy = np.mean(there, axis=0)
                assert int(row["position"]) == position
                assert int(row["n"]) * n_seeds == len(there)
                assert float(row["logp"]) == pytest.approx(logp, abs=1e-4)
                assert float(row["entropy"]) == pytest.approx(entropy, abs=1e-4)


def test_entropy_summary(made, direct):
    for method, n_seeds in (("sft", 1), ("dpo", 2)):
        rows = [e for seed in range(n_seeds) for _, e in direct[method, seed, "chosen"]]
        expected = np.concatenate([row[:8] for row in rows]).mean()
        assert made[0]["entropy"][method]["first_8"] == pytest.approx(expected, abs=1e-4)


def test_what_the_models_write(made, files):
    result, _, kinds = made[0], None, files[2]
    for method, found in result["generated"].items():
        rewards = [[row["reward_2"] for row in read_json(f)] for f in kinds[method]["annotations"]]
        assert found["reward"] == pytest.approx(np.mean(rewards))
        assert (found["tokens"], found["n_prompts"], found["n_seeds"]) == (5.0, PROMPTS, 2)
        assert found["share_ended"] == pytest.approx(100 * 2 / 3)
    example = result["examples"][1]
    assert example["instruction"] == "ask 1"
    assert example["answers"]["dpo"]["output"] == "dpo 1"


def test_without_annotations_there_are_no_rewards(early, models, files, tmp_path):
    result, _, _ = run(early, models, files, tmp_path, annotations=False)
    assert all(found["reward"] is None for found in result["generated"].values())
    assert result["generated"]["dpo"]["tokens"] == 5.0
    assert result["examples"] == []


def test_seeds_of_different_objectives_are_refused(early, models, files, tmp_path):
    mixed = {**models, "dpo": [models["dpo"][0], models["simpo"][0]]}
    with pytest.raises(UserError, match="expected one objective and its parameters"):
        run(early, mixed, files, tmp_path)


def test_shared_lengths():
    tokens = {"chosen_ids": [[1, 2, 3], [1], [4, 5]], "rejected_ids": [[1, 2, 4], [2], [4, 5, 6]]}
    assert shared_lengths(tokens).tolist() == [2, 0, 2]


def test_shares_with_one_seed_have_students_interval():
    rng = np.random.default_rng(0)
    event = rng.random((1, 60)) < 0.4
    found = share(event)
    low, high = stats.ttest_1samp(100.0 * event[0], 0).confidence_interval()
    assert (found["value_ci_low"], found["value_ci_high"]) == pytest.approx((low, high))
    given = rng.random((1, 60)) < 0.5
    found = share_among(event, given)
    assert found["value"] == pytest.approx(100 * event[given].mean())
    assert share_among(event, np.zeros_like(given))["value"] is None


def test_interval_of_a_conditional_share_covers():
    """The delta method's interval covers the true conditional chance about 95 times in 100."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        given = rng.random((1, 150)) < 0.6
        event = rng.random((1, 150)) < np.where(given, 0.3, 0.8)
        found = share_among(event, given)
        covered += found["value_ci_low"] <= 30 <= found["value_ci_high"]
    assert 0.92 <= covered / 400 <= 0.98


def test_positions_end_where_one_response_is_left():
    values = {"x": np.array([[[1.0, 2.0, 5.0], [3.0, 6.0, 0.0]]])}
    mask = np.array([[1, 1, 1], [1, 1, 0]])
    rows = by_position(values, mask)
    assert [(row["position"], row["n"], row["x"]) for row in rows] == [(1, 2, 2.0), (2, 2, 4.0)]
