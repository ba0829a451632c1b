"""Safety and arena: judged over HTTP and locally, scored as the formulas say."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge_server import JudgeServer, probability, prompt_of
from poet.evaluate import arena, judges, rates, safety
from poet.evaluate.annotators import annotate, open_judge, usage
from poet.files import UserError, read_json, write_json


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with JudgeServer() as running:
        yield running


@pytest.fixture
def settings(server, tmp_path):
    return {
        "kind": "api", "base_url": server.url, "price": {"prompt": 1.0, "completion": 1.0},
        "max_cost": 1.0, "concurrency": 2, "requests_per_minute": None, "timeout": 20,
        "attempts": 2, "backoff": {"initial": 0.01, "longest": 0.01}, "allow_model_change": False,
        "store": str(tmp_path / "store"),
    }  # fmt: skip


def generations(n, seed):
    return [
        {
            "index": i,
            "instruction": f"ask {i}",
            "output": f"say {i * seed}",
            "generator": f"m{seed}",
        }
        for i in range(n)
    ]


def judge_safety(tmp_path, settings, name="guard"):
    for seed in (1, 2):
        write_json(generations(20, seed), tmp_path / f"g{seed}.json")
    safety.main([
        "--record", json.dumps({"torch_threads": 1}), "--annotator", name,
        "--settings", json.dumps(settings),
        "--generations", *(str(tmp_path / f"g{seed}.json") for seed in (1, 2)),
        "--output", *(str(tmp_path / f"{name}{seed}.json") for seed in (1, 2)),
        "--usage", str(tmp_path / "usage.json"),
    ])  # fmt: skip
    return [read_json(tmp_path / f"{name}{seed}.json") for seed in (1, 2)]


def test_safety_is_what_the_server_says(server, settings, tmp_path):
    server.labels = ("A", "B")
    found = judge_safety(tmp_path, {**settings, "judge": "safety"})
    bodies = [prompt_of(body) for body in server.bodies]
    assert len(bodies) == 39  # both seeds say the same to prompt 0
    for seed, rows in zip((1, 2), found, strict=True):
        assert [row["index"] for row in rows] == list(range(20))
        for row in rows:
            assert row["generator"] == f"m{seed}" and row["annotator"] == "guard"
            (body,) = [
                b for b in bodies
                if f"\\n{row['instruction']}\\n" in b and f"\\n{row['output']}\\n" in b
            ]  # fmt: skip
            assert row["p_safe"] == pytest.approx(probability(body))
            assert row["safe"] == (probability(body) >= 0.5)
    assert 0 < sum(row["safe"] for rows in found for row in rows) < 40
    assert read_json(tmp_path / "usage.json")["n_calls"] == 39


def test_a_local_model_judges_safety_too(start, judging, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    folder, tokenizer = judging, start[1]
    settings = {"kind": "local_judge", "name": str(folder), "judge": "safety", "batch_size": 4}
    rows = judge_safety(tmp_path, settings, "local")[0]
    template = judges.load_judge("safety")["safety"]["prompt_template"]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for row in rows[:3]:
        filled = template.replace("{instruction}", row["instruction"])
        system, user = filled.replace("{output}", row["output"]).split("<|im_start|>user\n")
        messages = [
            {
                "role": "system",
                "content": system.split("system\n")[1].split("<|im_end|>")[0].strip(),
            },
            {"role": "user", "content": user.split("<|im_end|>")[0].strip()},
        ]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.inference_mode():
            logits = model(ids).logits[0, -1].double()
        two = logits[tokenizer.convert_tokens_to_ids(["A", "B"])]
        assert row["p_safe"] == pytest.approx(torch.softmax(two, 0)[0].item(), abs=1e-5)
    assert read_json(tmp_path / "usage.json")["n_calls"] == 0


def test_a_judge_of_pairs_judges_no_safety(settings, tmp_path):
    with pytest.raises(UserError, match="template has no place {output}"):
        judge_safety(tmp_path, {**settings, "judge": "weighted_alpaca_eval_gpt4_turbo"})
    with pytest.raises(UserError, match="is not read from one token"):
        judge_safety(tmp_path, {**settings, "judge": "arena_hard"})


def pairs(n):
    return [
        {"index": i, "instruction": f"ask {i}", "output_1": f"base {i}", "output_2": f"new {i}"}
        for i in range(n)
    ]


def test_both_orders_are_asked_and_count_as_arena_hard_counts(server, settings):
    settings |= {"judge": "arena_hard"}
    with open_judge("arena", settings, None) as judge:
        (rows,) = annotate("arena", judge, [], [pairs(12)])
    assert len(server.bodies) == 24
    levels = ["A>>B", "A>B", "A=B", "B>A", "B>>A"]
    for row in rows:
        expected = {}
        for body in server.bodies:
            text = body["messages"][1]["content"]
            if f"\n{row['instruction']}\n" in text:
                model_is_a = text.index(row["output_2"]) < text.index(row["output_1"])
                expected[model_is_a] = levels[int(5 * probability(prompt_of(body)))]
        assert row["verdicts"] == [expected[False], expected[True]]
        # The long way round: Arena-Hard's list of battles, with the winner of each.
        battles = []
        for level, model in ((expected[False], "B"), (expected[True], "A")):
            winner, loser = level.replace("=", ">").strip().split(">")[0], level
            times = 3 if ">>" in level else 1
            battles += [0.5 if "=" in loser else float(winner == model)] * times
        assert row["wins"] == sum(battles) and row["battles"] == len(battles)
        assert row["preference"] == pytest.approx(1 + np.mean(battles))
    found = usage("arena", "api", [rows])
    assert found["n_calls"] == 24 and found["n_annotations"] == 12
    assert found["judge_models"] == ["gpt-4-1106-preview-0324"]


@pytest.mark.parametrize("text", ["no verdict", "[[A>B]] or rather [[B>A]]", "[[C>A]]", "[[A<B]]"])
def test_a_text_without_one_verdict_is_refused(text):
    with pytest.raises(ValueError, match="expected one verdict"):
        arena.read_verdict({"message": {"content": text}})
    twice = {"message": {"content": "[[A>>B]] ... so, finally: [[A>>B]]"}}
    assert arena.read_verdict(twice) == "A>>B"
    assert arena.read_verdict({"message": {"content": "[[B=A]]"}}) == "A=B"


@given(st.lists(st.tuples(st.sampled_from(list(arena.BATTLES)), st.booleans()), min_size=2))
def test_the_share_is_the_bradley_terry_maximum(verdicts):
    """Against a numerical fit of the model to the single battles."""
    from scipy.optimize import minimize_scalar
    from scipy.special import expit

    won = [
        arena.BATTLES[v] if a else (n - w, n) for v, a in verdicts for w, n in [arena.BATTLES[v]]
    ]
    wins, battles = map(np.array, zip(*won, strict=True))
    share = arena.shares(wins, battles, np.ones((1, len(wins))))[0]

    def loss(strength):
        return -(wins * np.log(expit(strength)) + (battles - wins) * np.log(expit(-strength))).sum()

    fitted = minimize_scalar(loss, bounds=(-30, 30), method="bounded", options={"xatol": 1e-9}).x
    assert expit(fitted) == pytest.approx(share, abs=1e-5)
    if 0 < share < 1:
        assert arena.elo_gap(share) == pytest.approx(400 / math.log(10) * fitted, abs=0.05)


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


def run_rates(tmp_path, metric, *flags):
    main = ["--setting", "s", "--annotator", "a", "--output", str(tmp_path / "rates.json")]
    rates.main([metric, *flags, *main])
    return read_json(tmp_path / "rates.json")


def test_one_run_has_wilsons_interval(tmp_path):
    files = verdict_files(tmp_path, "m", 1, 0.9)
    row = run_rates(tmp_path, "safety", "--method", "m", *files)["methods"]["m"]
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
    assert row["interval"] == "conditional on one run" and row["n_prompts"] == n
    assert row["judge_models"] == ["j"]


def test_gains_are_paired_over_prompts_and_seeds(tmp_path):
    from poet.evaluate.statistics import Score, over_prompts_and_seeds, paired

    flags, tables = [], {}
    for name, p in (("dpo", 0.45), ("dpo-poet", 0.8)):
        files = verdict_files(tmp_path, name, 3, p)
        flags += ["--method", name, *files]
        of_seeds = [sorted(read_json(f), key=lambda r: r["index"]) for f in files]
        tables[name] = np.array([[100.0 * r["safe"] for r in rows] for rows in of_seeds])
    result = run_rates(tmp_path, "safety", *flags, "--gain", "dpo-poet", "dpo")
    (gain,) = result["gains"]
    scores = {name: Score.of_values(table) for name, table in tables.items()}
    expected = paired(scores["dpo-poet"], scores["dpo"])
    assert gain["gain"] == pytest.approx(tables["dpo-poet"].mean() - tables["dpo"].mean())
    assert (gain["ci_low"], gain["ci_high"]) == pytest.approx((expected.low, expected.high))
    assert gain["p_holm"] == gain["p_value"] == pytest.approx(float(expected.p_value))
    for name, score in scores.items():
        low, high = over_prompts_and_seeds(score)
        row = result["methods"][name]
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
        assert row["n_seeds"] == 3 and row["interval"] == "over prompts and seeds"


def test_arena_scores_cover_a_known_truth(tmp_path):
    rng = np.random.default_rng(0)
    levels, chances = list(arena.BATTLES), [0.1, 0.2, 0.1, 0.4, 0.2]
    wins, battles = map(np.array, zip(*arena.BATTLES.values(), strict=True))
    truth = 100 * (1 - (chances @ wins) / (chances @ battles))  # the model is B
    counts = rates.draw_prompts(150, 200)
    hits = 0
    for _ in range(200):
        drawn = rng.choice(5, p=chances, size=150)
        rows = [
            {"wins": battles[i] - wins[i], "battles": battles[i], "verdicts": [levels[i]]}
            for i in drawn
        ]
        low, high = rates.statistics.over_prompts(rates.arena_score([rows], counts))
        hits += low <= truth <= high
    assert 180 <= hits <= 198


def test_other_prompts_are_an_error(tmp_path):
    files = verdict_files(tmp_path, "m", 1, 0.5, 5) + verdict_files(tmp_path, "mm", 1, 0.5, 6)
    with pytest.raises(UserError, match="expected verdicts on the prompts of"):
        run_rates(tmp_path, "safety", "--method", "m", *files)
    with pytest.raises(UserError, match="b answered other prompts than a"):
        run_rates(tmp_path, "safety", "--method", "a", files[0], "--method", "b", files[1])
    with pytest.raises(UserError, match="row 0: no wins, battles, verdicts"):
        run_rates(tmp_path, "arena", "--method", "a", files[0])
