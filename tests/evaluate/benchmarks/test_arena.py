"""Arena-Hard style: asked in both orders, counted and scored as Arena-Hard does."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge_server import probability, prompt_of
from poet.evaluate import statistics
from poet.evaluate.annotate import annotate, open_judge, usage
from poet.evaluate.benchmarks import arena


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
    rows = [{"wins": w, "battles": b} for w, b in won]
    share = float(arena.score([rows]).value) / 100

    def loss(strength):
        return -(wins * np.log(expit(strength)) + (battles - wins) * np.log(expit(-strength))).sum()

    fitted = minimize_scalar(loss, bounds=(-30, 30), method="bounded", options={"xatol": 1e-9}).x
    assert expit(fitted) == pytest.approx(share, abs=1e-5)
    if 0 < share < 1:
        assert arena.elo_gap(share) == pytest.approx(400 / math.log(10) * fitted, abs=0.05)


def test_arena_scores_cover_a_known_truth(tmp_path):
    rng = np.random.default_rng(0)
    levels, chances = list(arena.BATTLES), [0.1, 0.2, 0.1, 0.4, 0.2]
    wins, battles = map(np.array, zip(*arena.BATTLES.values(), strict=True))
    truth = 100 * (1 - (chances @ wins) / (chances @ battles))  # the model is B
    hits = 0
    for _ in range(200):
        drawn = rng.choice(5, p=chances, size=150)
        rows = [
            {"wins": battles[i] - wins[i], "battles": battles[i], "verdicts": [levels[i]]}
            for i in drawn
        ]
        low, high = statistics.over_prompts(arena.score([rows]))
        hits += low <= truth <= high
    assert 180 <= hits <= 198
