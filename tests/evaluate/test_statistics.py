"""Intervals cover, tests hold their level, and refits are alpaca-eval's own regression."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from poet.evaluate import alpaca, benchmark, compare, length_control, statistics
from poet.evaluate.statistics import Score
from poet.files import UserError, read_json, write_json, write_jsonl

# Standard deviations of prompts, residual and seeds, in percent. The first is near what AlpacaEval
# shows (a seed moves a score by a point); the others let one component dominate in turn.
LAYOUTS = {
    "typical": (30.0, 20.0, 1.0),
    "no seed effect": (30.0, 20.0, 0.0),
    "seeds as large as prompts": (30.0, 20.0, 4.0),
    "seeds dominate": (10.0, 10.0, 5.0),
    "residual dominates": (5.0, 40.0, 0.5),
}


def simulate(rng, layout, draws: int, n_seeds: int, n_prompts: int = 200, prompts=None):
    """Values [draws, seeds, prompts] of the layout with true mean 50, and the seeds' effects."""
    sd_prompt, sd_residual, sd_seed = LAYOUTS[layout]
    if prompts is None:
        prompts = sd_prompt * rng.standard_normal((draws, 1, n_prompts))
    seeds = sd_seed * rng.standard_normal((draws, n_seeds, 1))
    residual = sd_residual * rng.standard_normal((draws, n_seeds, n_prompts))
    return 50 + prompts + seeds + residual, seeds


def coverage(interval, truth) -> float:
    return 100 * np.mean((interval.low < truth) & (truth < interval.high))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_interval_over_prompts_covers_given_the_models(layout):
    rng = np.random.default_rng(0)
    values, seeds = simulate(rng, layout, 1000, 3)
    truth = 50 + seeds.mean((1, 2))  # of these three models
    assert 93 <= coverage(statistics.over_prompts(Score.of_values(values)), truth) <= 97


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n_seeds", [3, 5])
def test_interval_over_prompts_and_seeds_covers(layout, n_seeds):
    score = Score.of_values(simulate(np.random.default_rng(1), layout, 1000, n_seeds)[0])
    assert 93 <= coverage(statistics.over_prompts_and_seeds(score), 50.0) <= 98


def test_interval_covers_for_judgements_between_zero_and_one():
    """Preferences as judges give them: near 0 or 1, a random win rate per prompt and seed."""
    rng = np.random.default_rng(2)
    logit = 3 * rng.standard_normal((1000, 1, 200)) + 0.15 * rng.standard_normal((1000, 3, 1))
    values = 1 / (1 + np.exp(-(logit + rng.standard_normal((1000, 3, 200)))))
    score = Score.of_values(100 * values)  # symmetric: the truth is 50
    assert 93 <= coverage(statistics.over_prompts_and_seeds(score), 50.0) <= 98


@pytest.mark.parametrize("interaction", [0.0, 15.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_paired_test_holds_its_level(layout, interaction):
    """Methods share the prompts' effects, and differ by ``interaction`` on single prompts."""
    rng = np.random.default_rng(3)
    shared, pair = LAYOUTS[layout][0] * rng.standard_normal((4000, 1, 200)), []
    for _ in range(2):
        prompts = shared + interaction * rng.standard_normal((4000, 1, 200))
        pair.append(Score.of_values(simulate(rng, layout, 4000, 3, prompts=prompts)[0]))
    result = statistics.paired(*pair)
    assert 4 <= 100 * np.mean(result.p_value < 0.05) <= 6
    assert result.interval == "over prompts and seeds"
    significant = (result.low > 0) | (result.high < 0)
    np.testing.assert_array_equal(significant, result.p_value < 0.05)


def test_paired_test_of_single_runs_holds_its_level_and_is_the_paired_t_test():
    rng = np.random.default_rng(4)
    prompts = 30 * rng.standard_normal((4000, 1, 100))
    first, second = (prompts + 20 * rng.standard_normal((4000, 1, 100)) for _ in range(2))
    result = statistics.paired(Score.of_values(first), Score.of_values(second))
    assert 4 <= 100 * np.mean(result.p_value < 0.05) <= 6
    assert result.interval == "conditional on one run"
    expected = stats.ttest_rel(first[:, 0], second[:, 0], axis=-1)
    np.testing.assert_allclose(result.p_value, expected.pvalue)
    bounds = expected.confidence_interval()
    np.testing.assert_allclose([result.low, result.high], [bounds.low, bounds.high])


def test_pairing_prompts_pays():
    rng = np.random.default_rng(5)
    prompts = 30 * rng.standard_normal((1, 300))
    first, second = (prompts + 5 * rng.standard_normal((3, 300)) + d for d in (50.0, 48.0))
    paired = statistics.paired(Score.of_values(first), Score.of_values(second))
    apart = statistics.over_prompts_and_seeds(Score.of_values(first))
    assert paired.p_value < 0.01
    assert paired.high - paired.low < (apart.high - apart.low) / 3


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(3, 40), st.integers(0, 1000))
def test_components_are_the_mean_squares_of_the_two_way_table(n_seeds, n_prompts, seed):
    values = np.random.default_rng(seed).normal(size=(n_seeds, n_prompts))
    score = Score.of_values(values)
    grand, rows, columns = values.mean(), values.mean(1), values.mean(0)
    ms_seed = n_prompts * ((rows - grand) ** 2).sum() / (n_seeds - 1)
    ms_prompt = n_seeds * ((columns - grand) ** 2).sum() / (n_prompts - 1)
    rest = values - rows[:, None] - columns + grand
    ms_residual = (rest**2).sum() / ((n_seeds - 1) * (n_prompts - 1))
    size = n_seeds * n_prompts
    assert score.seed_variance == pytest.approx(ms_seed / size)
    assert score.residual_variance == pytest.approx(ms_residual / size)
    low, high = statistics.over_prompts(score)
    half = stats.t.ppf(0.975, n_prompts - 1) * math.sqrt(ms_prompt / size)
    assert (high - low) / 2 == pytest.approx(half) and (high + low) / 2 == pytest.approx(grand)


def test_one_seed_is_conditional_on_the_run():
    values = np.random.default_rng(6).uniform(size=(1, 50))
    score = Score.of_values(values)
    assert score.interval == "conditional on one run"
    expected = stats.ttest_1samp(values[0], 0).confidence_interval()
    assert statistics.over_prompts_and_seeds(score) == pytest.approx(tuple(expected))


def test_no_variance_is_no_error():
    same = Score.of_values(np.full((3, 10), 50.0))
    assert statistics.over_prompts_and_seeds(same) == (50.0, 50.0)
    assert statistics.paired(same, same).p_value == 1
    better = Score.of_values(np.full((3, 10), 60.0))
    assert statistics.paired(better, same).p_value == 0
    assert statistics.prompts_needed(same, same, 10) is None


def test_bootstrap_of_a_mean_is_the_mean_of_values():
    rng = np.random.default_rng(7)
    values = 50 + 30 * rng.normal(size=(3, 150)) + rng.normal(size=(3, 1))
    counts = length_control.draw_prompts(150, 20000)
    draws = values @ counts.T / 150
    score, exact = Score.of_draws(values.mean(1), draws, 150), Score.of_values(values)
    for interval in (statistics.over_prompts, statistics.over_prompts_and_seeds):
        half, expected = (np.diff(interval(each))[0] for each in (score, exact))
        assert half == pytest.approx(expected, rel=0.02)


def test_holm_by_hand():
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(statistics.holm([0.6, 0.7]), [1.0, 1.0])
    assert statistics.holm([]).size == 0


def test_that_many_prompts_give_the_power():
    rng = np.random.default_rng(8)
    noise = 20 * rng.normal(size=(2, 1, 4000))
    first, second = (Score.of_values(50 + gain + e) for gain, e in zip((2, 0), noise, strict=True))
    needed = statistics.prompts_needed(first, second, 4000)
    # Cohen's formula with the true spread; the plug-in varies around it
    expected = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 * 800 / 2**2
    assert needed == pytest.approx(expected, rel=0.5)
    gain = (first.value - second.value).item()
    draws = gain + math.sqrt(800) * rng.standard_normal((4000, 1, needed))
    zero = Score.of_values(np.zeros_like(draws))
    power = np.mean(statistics.paired(Score.of_values(draws), zero).p_value < 0.05)
    assert power == pytest.approx(0.8, abs=0.03)
    apart = np.array([[40.0], [50.0], [60.0]]) + rng.normal(size=(3, 100))
    assert (
        statistics.prompts_needed(Score.of_values(apart + 1), Score.of_values(apart), 100) is None
    )


def make_rows(rng, n: int, shift: float, difficulty) -> list[dict]:
    lengths = rng.integers(200, 1500, size=(n, 2))
    tilt = np.tanh((lengths[:, 1] - lengths[:, 0]) / 500)
    logit = 1.5 * rng.standard_normal(n) + shift + tilt - difficulty
    return [
        {
            "instruction": f"question {i}", "dataset": "d", "index": i, "annotator": "judge",
            "output_1": "x" * int(lengths[i, 0]), "output_2": "y" * int(lengths[i, 1]),
            "generator_1": "reference", "generator_2": f"model {shift}",
            "preference": 1 + 1 / (1 + math.exp(-logit[i])),
            "reward_1": 0.5, "reward_2": 1 / (1 + math.exp(-logit[i])),
        }
        for i in range(n)
    ]  # fmt: skip


def make_gamed(rng, n: int, path):
    import pandas as pd

    difficulty = rng.standard_normal(n)
    lengths = np.r_[rng.normal(-1, 1, n), rng.normal(1, 1, n)]
    logit = -np.tanh(lengths) + 0.5 * rng.standard_normal(2 * n)
    pd.DataFrame(
        {
            "model": ["verbose"] * n + ["concise"] * n,
            "preference": 1 / (1 + np.exp(-logit)),
            "index": [*range(n)] * 2,
            "std_delta_len": lengths,
            "instruction_difficulty": np.tile(difficulty, 2),
            "not_gamed_baseline": False,
        }
    ).to_csv(path, index=False)
    return benchmark.read_gamed(path, n), difficulty


@pytest.mark.parametrize("with_gamed", [True, False])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 1.0])
def test_refit_is_alpaca_evals_own_fit(tmp_path, with_gamed, shift):
    rng = np.random.default_rng(9)
    gamed, difficulty = make_gamed(rng, 200, tmp_path / "gamed.csv")
    rows = make_rows(rng, 200, shift, difficulty)
    gamed = gamed if with_gamed else None
    scores, strength = alpaca.score(rows, gamed)
    preference = np.array([row["preference"] - 1 for row in rows])
    delta = np.array([len(row["output_1"]) - len(row["output_2"]) for row in rows], dtype=float)
    counts = np.ones((1, 200), dtype=int)
    refit = length_control.refit(preference, delta, counts, strength, gamed)
    key = "length_controlled_winrate" if with_gamed else "length_controlled_minimal_winrate"
    # liblinear stops at a tolerance of 1e-4
    assert refit[0] == pytest.approx(scores[key], abs=0.02)


def test_refit_minimises_the_objective_of_each_draw():
    """Against scipy's general optimiser, L1 term and drawn rows written out."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(10)
    preference, delta = rng.uniform(size=40), rng.normal(size=40) * 100
    counts = length_control.draw_prompts(40, 3)
    refits = length_control.refit(preference, delta, counts, 0.3)
    for count, refit in zip(counts, refits, strict=True):
        rows = np.repeat(np.arange(40), count)
        x = np.stack([np.tanh(delta[rows] / delta[rows].std(ddof=1)), np.ones(40)], axis=1)

        def objective(w, x=x, y=preference[rows]):
            # split into positive and negative parts: |w| = w+ + w-
            logit = x @ (w[:2] - w[2:])
            return w.sum() + 0.3 * (np.logaddexp(0, logit) - y * logit).sum()

        w = minimize(objective, np.full(4, 0.1), bounds=[(0, None)] * 4, tol=1e-14).x
        assert refit == pytest.approx(100 / (1 + math.exp(w[3] - w[1])), abs=1e-2)


def judged(rng, seeds_effects, n: int):
    """Preferences and length differences [seeds, n] of models that the judge likes by length."""
    shape = (len(seeds_effects), n)
    delta = 400 * rng.standard_normal(n) + 300 * rng.standard_normal(shape)
    logit = 0.6 + 3 * rng.standard_normal(n) - 2 * np.tanh(delta / 500)
    logit = logit + 2 * np.array(seeds_effects)[:, None] + 2 * rng.standard_normal(shape)
    return 1 / (1 + np.exp(-logit)), delta


@pytest.mark.parametrize("sd_seed", [0.0, 0.2])
def test_intervals_of_refits_cover(sd_seed):
    """A small simulation: 200 draws hold 95 % to 1.5 points (one standard error)."""
    rng, n, strength = np.random.default_rng(13), 120, 10.0
    # The truth for a model, by its effect: the regression on so many prompts that no error is left.
    grid = np.linspace(-1, 1, 9)
    everyone = [judged(np.random.default_rng(14), [effect], 100_000) for effect in grid]
    weights = np.ones((1, 100_000), dtype=int)
    truths = [length_control.refit(p[0], d[0], weights, strength)[0] for p, d in everyone]
    overall = np.interp(sd_seed * rng.standard_normal(100_000), grid, truths).mean()
    estimates, draws, given = np.empty((200, 3)), np.empty((200, 3, 50)), np.empty(200)
    for number in range(200):
        effects = sd_seed * rng.standard_normal(3)
        given[number] = np.interp(effects, grid, truths).mean()
        preferences, deltas = judged(rng, effects, n)
        counts = length_control.draw_prompts(n, 50, seed=number)
        counts = np.concatenate([np.ones((1, n), dtype=int), counts])
        for seed in range(3):
            fits = length_control.refit(preferences[seed], deltas[seed], counts, strength)
            estimates[number, seed], draws[number, seed] = fits[0], fits[1:]
    score = Score.of_draws(estimates, draws, n)
    assert 91 <= coverage(statistics.over_prompts(score), given) <= 99
    assert 91 <= coverage(statistics.over_prompts_and_seeds(score), overall) <= 99.5


def test_a_draw_of_one_prompt_alone_has_a_fit():
    counts = np.array([[1, 1, 1], [3, 0, 0]])
    fits = length_control.refit(np.array([0.9, 0.2, 0.5]), np.array([5.0, -3.0, 1.0]), counts, 100)
    assert fits[1] == pytest.approx(90, abs=1)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """The program on five methods, three seeds, 200 prompts: its folder and its output."""
    folder = tmp_path_factory.mktemp("compare")
    rng = np.random.default_rng(11)
    _, difficulty = make_gamed(rng, 200, folder / "gamed.csv")
    write_jsonl([{"instruction": f"question {i}"} for i in range(200)], folder / "prompts.jsonl")
    flags = []
    shifts = {"sft": -1.0, "dpo": 0.0, "dpo-poet": 1.0, "simpo": 0.2, "simpo-poet": 0.25}
    for name, shift in shifts.items():
        flags += ["--method", name]
        for seed in range(3):
            path = folder / f"{name}-{seed}.json"
            write_json(make_rows(rng, 200, shift, difficulty), path)
            flags.append(str(path))
    compare.main([
        "--setting", "s", "--annotator", "oracle", "--kind", "oracle",
        "--prompts", str(folder / "prompts.jsonl"), "--gamed", str(folder / "gamed.csv"), *flags,
        "--gain", "dpo-poet", "dpo", "--gain", "simpo-poet", "simpo",
        "--output", str(folder / "c.json"),
    ])  # fmt: skip
    return folder, read_json(folder / "c.json")


def test_comparison_says_what_the_scores_say(comparison):
    folder, result = comparison
    assert (result["setting"], result["annotator"], result["n_prompts"]) == ("s", "oracle", 200)
    gamed = benchmark.read_gamed(folder / "gamed.csv", 200)
    for name, row in result["methods"].items():
        seeds = [read_json(folder / f"{name}-{seed}.json") for seed in range(3)]
        scores = [alpaca.score(rows, gamed)[0] for rows in seeds]
        lc = [score["length_controlled_winrate"] for score in scores]
        assert row["lc_win_rate"] == pytest.approx(np.mean(lc))
        assert row["lc_seed_sd"] == pytest.approx(np.std(lc, ddof=1))
        assert row["win_rate"] == pytest.approx(np.mean([score["win_rate"] for score in scores]))
        assert row["true_reward"] == pytest.approx(np.mean([s["mean_reward"] for s in scores]))
        assert row["n_seeds"] == 3 and row["interval"] == "over prompts and seeds"
        wins = [[100 * (each["preference"] - 1) for each in rows] for rows in seeds]
        low, high = statistics.over_prompts_and_seeds(Score.of_values(wins))
        assert (row["wr_ci_low"], row["wr_ci_high"]) == pytest.approx((low, high))
        for key, value in (("lc", "lc_win_rate"), ("true_reward", "true_reward")):
            for over in ("ci", "prompts_ci"):
                assert row[f"{key}_{over}_low"] < row[value] < row[f"{key}_{over}_high"]
        width = row["lc_prompts_ci_high"] - row["lc_prompts_ci_low"]
        assert width > 2 * max(score["lc_standard_error"] for score in scores)


def test_judge_spread_is_that_of_verdicts_drawn_once(comparison):
    folder, result = comparison
    rng = np.random.default_rng(12)
    wins = np.array([row["preference"] - 1 for row in read_json(folder / "dpo-0.json")])
    drawn = 100 * (rng.uniform(size=(20000, 200)) < wins).mean(1)
    assert result["methods"]["dpo"]["wr_judge_sd"] == pytest.approx(drawn.std(), rel=0.05)


def test_comparison_finds_the_gain_that_is_there_and_no_other(comparison):
    clear, none = comparison[1]["gains"]
    assert (clear["method"], clear["baseline"]) == ("dpo-poet", "dpo")
    assert clear["gain_lc"] > 0 and clear["ci_low"] > 0 and clear["p_holm"] < 0.05
    assert clear["p_holm"] == pytest.approx(2 * clear["p_value"])
    assert none["ci_low"] < 0 < none["ci_high"] and none["p_holm"] > 0.05
    assert clear["n_prompts_needed"] < 200
    assert none["n_prompts_needed"] is None or none["n_prompts_needed"] > 200
    methods = comparison[1]["methods"]
    for row in (clear, none):
        for gain, key in (("gain_lc", "lc_win_rate"), ("gain_wr", "win_rate")):
            difference = methods[row["method"]][key] - methods[row["baseline"]][key]
            assert row[gain] == pytest.approx(difference)


def test_comparison_is_reproducible_and_one_run_is_labelled(comparison, tmp_path):
    folder, _ = comparison
    for name in ("a.json", "b.json"):
        compare.main([
            "--setting", "s", "--annotator", "rm", "--kind", "reward_model", "--draws", "20",
            "--prompts", str(folder / "prompts.jsonl"), "--without-gamed",
            "--output", str(tmp_path / name), "--method", "dpo", str(folder / "dpo-0.json"),
            "--method", "sft", str(folder / "sft-0.json"), "--gain", "dpo", "sft",
        ])  # fmt: skip
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    result = json.loads((tmp_path / "a.json").read_text())
    row, gain = result["methods"]["dpo"], result["gains"][0]
    assert row["interval"] == gain["interval"] == "conditional on one run"
    assert row["lc_ci_low"] == row["lc_prompts_ci_low"] and row["lc_seed_sd"] is None
    assert row["true_reward"] is None and "gain_true_reward" not in gain
    assert result["lc_kind"] == "length_controlled_minimal"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "dpo", "a.json", "--gain", "dpo", "sft"], "sft has no --method"),
        (["--method", "dpo"], "--method dpo: expected"),
        (["--method", "dpo", "a", "--method", "dpo", "b"], "--method dpo: expected"),
        (["--method", "d", "a", "--generations", "d", "a", "b"], "1 annotations, 2 generations"),
    ],
)
def test_flags_that_do_not_fit_are_named(flags, message):
    base = ["--setting", "s", "--annotator", "o", "--kind", "oracle", "--prompts", "p",
            "--without-gamed", "--output", "o.json"]  # fmt: skip
    with pytest.raises(UserError, match=message):
        compare.main([*base, *flags])
