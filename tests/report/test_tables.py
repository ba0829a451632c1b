"""Tables against rows computed by hand, the paper's numbers and LaTeX's grammar."""

import csv
import io
import json
import re
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from poet.files import UserError
from poet.report import downstream, formats, scores, tables
from poet.report.paper import Paper, read_reported

REPORTED = "paper/reported.csv"
METHOD = {
    "n_seeds": 3, "n_prompts": 805, "interval": "over prompts and seeds",
    "lc_win_rate": 24.6789, "lc_ci_low": 22.0, "lc_ci_high": 27.357,
    "lc_prompts_ci_low": 23.0, "lc_prompts_ci_high": 26.0, "lc_degenerate_seeds": 0,
    "win_rate": 9.999, "wr_ci_low": 8.0, "wr_ci_high": 12.0,
    "wr_prompts_ci_low": 8.5, "wr_prompts_ci_high": 11.5, "wr_seed_sd": 1.25, "wr_judge_sd": 0.5,
    "avg_length": 1543.26, "share_ended": 0.98765, "share_as_start": 0.0125,
    "true_reward": None, "true_reward_ci_low": None, "true_reward_ci_high": None,
}  # fmt: skip


def comparison(**changes) -> dict:
    return {
        "setting": "mistral-7b-base",
        "annotator": "judge",
        "n_prompts": 805,
        "lc_kind": "length_controlled_v1",
        "methods": {"dpo": METHOD | {"lc_win_rate": 20.0}, "dpo-poet": METHOD},
        "gains": [
            {
                "method": "dpo-poet", "baseline": "dpo", "gain_lc": 4.6789, "ci_low": -0.004,
                "ci_high": 9.3618, "p_value": 0.02, "p_holm": 0.04, "n_prompts_needed": 700,
                "share_identical": 0.25, "not_measured": None,
            }
        ],
    } | changes  # fmt: skip


@pytest.fixture
def main_files(tmp_path, request):
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(comparison()))
    (tmp_path / "cautions.json").write_text('["Only 3 % of it, and_more."]')
    outputs = [tmp_path / f"main.{suffix}" for suffix in ("csv", "md", "tex")]
    reported = request.config.rootpath / REPORTED
    flags = ["main", "--comparison", str(path), "--reported", str(reported)]
    flags += ["--cautions", str(tmp_path / "cautions.json"), "--output"]
    tables.main([*flags, *map(str, outputs)])
    return [output.read_text() for output in outputs]


def test_main_csv_equals_rows_by_hand(main_files):
    assert main_files[0] == (
        "setting,method,annotator,n_seeds,n_prompts,lc_win_rate,lc_ci_low,lc_ci_high,"
        "lc_prompts_ci_low,lc_prompts_ci_high,lc_degenerate_seeds,win_rate,wr_ci_low,wr_ci_high,wr_prompts_ci_low,"
        "wr_prompts_ci_high,wr_seed_sd,wr_judge_sd,avg_length,share_ended,share_as_start,true_reward,"
        "true_reward_ci_low,true_reward_ci_high,paper_lc_win_rate,verdict,gain_lc,gain_lc_ci_low,"
        "gain_lc_ci_high,p_holm,n_prompts_needed,share_identical,not_measured,paper_gain_lc,gain_verdict,lc_kind,interval\n"
        "mistral-7b-base,dpo,judge,3,805,20.00,22.00,27.36,23.00,26.00,0,10.00,8.00,12.00,8.50,11.50,"
        "1.25,0.50,1543.3,0.9877,0.0125,,,,12.9,different judge,,,,,,,,,,length_controlled_v1,"
        "over prompts and seeds\n"
        "mistral-7b-base,dpo-poet,judge,3,805,24.68,22.00,27.36,23.00,26.00,0,10.00,8.00,12.00,8.50,"
        "11.50,1.25,0.50,1543.3,0.9877,0.0125,,,,24.7,different judge,4.68,0.00,9.36,0.0400,700,"
        "0.2500,,11.8,different judge,length_controlled_v1,over prompts and seeds\n"
        "mistral-7b-base,simpo,judge,,,,,,,,,,,,,,,,,,,,,,20.0,not run,,,,,,,,,,"
        "length_controlled_v1,\n"
        "mistral-7b-base,simpo-poet,judge,,,,,,,,,,,,,,,,,,,,,,24.2,not run,,,,,,,,,,"
        "length_controlled_v1,\n"
    )


def test_markdown_shows_the_same_digits(main_files):
    heading, rule, _, poet, *_ = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in main_files[1].splitlines()[:6]
    )
    assert set("".join(rule)) == {"-", ":"}
    shown = dict(zip(heading, poet, strict=True))
    assert shown["LC win rate %"] == "24.68 [22.00, 27.36]"
    assert shown["paper's LC"] == "24.7"
    assert shown["gain LC"] == "4.68 [0.00, 9.36]"
    assert shown["verdict"] == "different judge"
    assert "true reward" not in shown  # no row has one
    assert shown["seed sd"] == "1.25" and shown["judge sd"] == "0.50"
    assert "Intervals (95 %): over prompts and seeds; " in main_files[1]
    assert "LC: length_controlled_v1." in main_files[1]
    assert "not measured:" not in main_files[1] and "degenerate:" not in main_files[1]
    before, caution, after = main_files[1].partition("\n\nCaution: Only 3 % of it, and_more.\n")
    assert caution and before.endswith("|") and "Intervals (95 %)" in after  # before all notes
    assert main_files[2].startswith("% Caution: Only 3 % of it, and_more.\n")


def test_latex_is_a_booktabs_tabular(main_files):
    text = re.sub(r"(?m)^%.*\n", "", main_files[2])
    lines = text.splitlines()
    columns = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", lines[0]).group(1)
    assert [line for line in lines if line.endswith("rule")] == [
        "\\toprule", "\\midrule", "\\bottomrule",
    ]  # fmt: skip
    assert lines[-1] == "\\end{tabular}"
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 5
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(columns)}


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"])))
def test_latex_escapes_every_special_character(text):
    escaped = formats._escape(text)
    rest = re.sub(r"\\text(backslash|ascii(tilde|circum))\{\}|\$\\pm\$|\\[&%$#_{}]", "", escaped)
    assert not set("&%$#_{}~^\\") & set(rest)


def test_paper_values_are_of_one_table(request):
    reported = read_reported(request.config.rootpath / REPORTED)
    of_main = Paper.of(reported, "main").values
    assert of_main["mistral-7b-base", "dpo-poet"] == "24.7"
    assert of_main["gemma-2-9b-it", "simpo"] == "78.5"
    assert len(of_main) == 16
    of_ablation = Paper.of(reported, "ablation")
    assert of_ablation.values["mistral-7b-base", "dpo-own-25"] == "14.1"
    assert len(of_ablation.methods("mistral-7b-base")) == 8


def test_reported_without_a_column_is_refused(tmp_path):
    (tmp_path / "reported.csv").write_text("table,setting,method,value\n")
    with pytest.raises(UserError, match="line 1: columns missing: metric"):
        read_reported(tmp_path / "reported.csv")


def test_an_unknown_suffix_is_refused(tmp_path):
    layout = formats.Layout({"a": ("a",)}, "")
    with pytest.raises(UserError, match=r"expected \.csv, \.md or \.tex"):
        formats.write([{"a": "1"}], layout, [], [tmp_path / "table.xlsx"])


# (gain's interval, POET's interval) about the paper's 12.9 -> 24.7, a gain of 11.8.
VERDICTS = {
    "reproduced": ((9.0, 14.0), (22.0, 27.0)),
    "direction only": ((2.0, 8.0), (12.0, 20.0)),
    "contradicts": ((-8.0, -2.0), (5.0, 10.0)),
    "inconclusive": ((-4.0, 12.0), (15.0, 25.0)),
}


@pytest.mark.parametrize("expected", VERDICTS)
def test_verdicts_on_the_papers_own_judge(expected):
    (gain_low, gain_high), (low, high) = VERDICTS[expected]
    found = comparison()
    found["methods"]["dpo-poet"] = METHOD | {"lc_ci_low": low, "lc_ci_high": high}
    found["gains"][0] |= {"ci_low": gain_low, "ci_high": gain_high}
    values = {("mistral-7b-base", "dpo"): "12.9", ("mistral-7b-base", "dpo-poet"): "24.7"}
    _, poet = scores.main_rows([found], Paper(values, ["judge"]))
    assert (poet["verdict"], poet["gain_verdict"]) == (expected, expected)
    _, other = scores.main_rows([found | {"annotator": "another"}], Paper(values, ["judge"]))
    assert (other["verdict"], other["gain_verdict"]) == ("different judge", "different judge")


NO_LC = {key: None for key in METHOD if key.startswith("lc_") and "ci_" in key}
NO_GAIN = {key: None for key in ("ci_low", "ci_high", "p_value", "p_holm", "n_prompts_needed")}


@pytest.mark.parametrize("why", ["degenerate length control", "identical answers"])
def test_a_number_without_an_interval_is_marked_and_no_verdict(why, tmp_path, request):
    found = comparison()
    degenerate = why.startswith("degenerate")
    if degenerate:
        found["methods"]["dpo-poet"] = METHOD | NO_LC | {
            "lc_win_rate": 50.0, "lc_degenerate_seeds": 2,
        }  # fmt: skip
    found["gains"][0] |= NO_GAIN | {"not_measured": why}
    values = {("mistral-7b-base", "dpo"): "12.9", ("mistral-7b-base", "dpo-poet"): "24.7"}
    _, poet = scores.main_rows([found], Paper(values, ["judge"]))
    assert poet["gain_verdict"] == "inconclusive" and poet["not_measured"] == why
    if degenerate:
        assert (poet["lc_degenerate_seeds"], poet["lc_ci_low"]) == ("2", "")
        assert poet["verdict"] == "inconclusive"
    (tmp_path / "c.json").write_text(json.dumps(found))
    (tmp_path / "cautions.json").write_text("[]")
    tables.main(
        ["main", "--comparison", str(tmp_path / "c.json"), "--cautions",
         str(tmp_path / "cautions.json"), "--reported", str(request.config.rootpath / REPORTED),
         "--output", str(tmp_path / "main.md"), str(tmp_path / "main.tex")]
    )  # fmt: skip
    for name in ("main.md", "main.tex"):
        text = (tmp_path / name).read_text()
        assert "4.68 (not measured)" in text and f"not measured: {why}." in text
        assert ("50.00 (degenerate)" in text) == ("degenerate: alpaca" in text) == degenerate


def test_two_judges_never_share_a_row():
    both = [comparison(), comparison(annotator="another")]
    rows = scores.main_rows(both, Paper({}))
    assert [(row["method"], row["annotator"]) for row in rows] == [
        ("dpo", "judge"), ("dpo-poet", "judge"), ("dpo", "another"), ("dpo-poet", "another"),
    ]  # fmt: skip


METHODS = {
    "dpo": {"objective": "dpo"},
    "dpo-poet": {"objective": "dpo", "truncation": {"strategy": "poet", "keep": 1.0}},
    "dpo-poet-25": {"objective": "dpo", "truncation": {"strategy": "poet", "keep": 0.25}},
    "dpo-own-25": {"objective": "dpo", "truncation": {"strategy": "own", "keep": 0.25}},
    "dpo-random": {"objective": "dpo", "truncation": {"strategy": "random", "seed": 0}},
    "dpo-d2po": {"objective": "dpo", "weighting": {"d2po": 0.98}},
    "simpo": {"objective": "simpo"},
}


def test_ablation_and_baselines_hold_what_they_vary(request):
    found = comparison(methods=dict.fromkeys(METHODS, METHOD), gains=[])
    paper = Paper.of(read_reported(request.config.rootpath / REPORTED), "ablation")
    ablation = scores.variant_rows("ablation", [found], paper, METHODS)
    shown = [(row["truncation"], row["keep"], row["paper_lc_win_rate"]) for row in ablation[-5:]]
    assert shown == [
        ("own", "25", "14.1"), ("none", "100", "12.9"), ("poet", "25", "23.5"),
        ("poet", "100", "24.7"), ("random", "", ""),
    ]  # fmt: skip
    missing = {"dpo-own-50", "dpo-own-75", "dpo-poet-50", "dpo-poet-75"}
    assert {row["method"] for row in ablation if row["verdict"] == "not run"} == missing
    baselines = scores.variant_rows("baselines", [found], Paper({}), METHODS)
    assert {row["method"]: row["weighting"] for row in baselines} == {
        "dpo": "uniform", "dpo-d2po": "d2po 0.98", "dpo-poet": "uniform",
    }  # fmt: skip
    plain = comparison()
    assert not scores.variant_rows("ablation", [plain], paper, METHODS)
    assert not scores.belongs("baselines", METHODS, ["dpo", "dpo-poet", "sft"])


def lm_eval_result(model: str, choice: float, answer: float) -> dict:
    return {
        "model_name": model,
        "backend": "lm-eval 0.4.13 hf float32 cpu",
        "group_subtasks": {"all": ["part"]},
        "results": {
            "choice": {
                "name": "choice", "alias": "choice", "sample_len": 200, "acc,none": choice,
                "acc_stderr,none": 0.03, "acc_norm,none": choice + 0.1,
                "acc_norm_stderr,none": 0.04,
            },
            "answer": {
                "name": "answer", "alias": "answer", "sample_len": 50,
                "exact_match,strict-match": answer, "exact_match_stderr,strict-match": "N/A",
            },
            "part": {"alias": "part", "sample_len": 9, "acc,none": 0.0, "acc_stderr,none": 0.0},
            "all": {"alias": "all", "sample_len": 9, "acc,none": 0.5, "acc_stderr,none": 0.1},
        },
    }  # fmt: skip


def test_downstream_equals_rows_by_hand(tmp_path):
    values = [(0.5, 0.2), (0.6, 0.3), (0.4, 0.7)]
    seeds, sft = [], []
    for i, pair in enumerate(values):
        seeds.append(tmp_path / f"dpo-{i}.json")
        seeds[-1].write_text(json.dumps(lm_eval_result(f"dpo/seed-{i}", *pair)))
        sft.append(tmp_path / f"sft-{i}.json")
        sft[-1].write_text(json.dumps(lm_eval_result("sft", *values[0])))
    outputs = [tmp_path / f"downstream.{suffix}" for suffix in ("csv", "md", "tex")]
    flags = [("--results", "world", m, *files) for m, files in (("sft", sft), ("dpo", seeds))]
    flat = [str(text) for flag in flags for text in flag]
    tables.main(["downstream", *flat, "--output", *map(str, outputs)])
    of_sft, of_dpo = csv.DictReader(io.StringIO(outputs[0].read_text()))

    assert of_dpo["n_seeds"] == "3"
    assert of_dpo["choice_acc"] == "0.5000"
    assert of_dpo["choice_acc_se_questions"] == "0.0300"
    spread = statistics.stdev([0.5, 0.6, 0.4]) / 3**0.5
    assert of_dpo["choice_acc_se_seeds"] == f"{spread:.4f}"
    assert (of_dpo["choice_n"], of_dpo["answer_n"]) == ("200", "50")
    assert of_dpo["answer_exact_match_strict-match"] == "0.4000"
    assert of_dpo["answer_exact_match_strict-match_se_questions"] == ""
    # acc_norm of `choice`, the only metric of the others; members of groups do not count.
    assert of_dpo["average"] == f"{(0.6 + 0.4 + 0.5) / 3:.4f}"
    assert not [column for column in of_dpo if column.startswith("part")]

    assert of_sft["n_seeds"] == "1"  # one model, whatever the seed
    assert of_sft["choice_acc_se_seeds"] == ""
    markdown = outputs[1].read_text()
    assert " 0.5000 ± 0.0300 (-) |" in markdown
    assert "| 0.5000 ± 0.0300 (0.0577) |" in markdown
    assert r"0.5000 $\pm$ 0.0300 (0.0577)" in outputs[2].read_text()

    other = lm_eval_result("sft", *values[0]) | {"backend": "lm-eval 0.4.13 hf bfloat16 cuda"}
    sft[0].write_text(json.dumps(other))
    with pytest.raises(UserError, match="several backends: .* cuda; .* cpu"):
        tables.main(["downstream", *flat, "--output", *map(str, outputs)])


def test_downstream_says_who_was_asked_in_a_chat_template(tmp_path):
    flags, output = [], tmp_path / "downstream.csv"
    asked = {"base": {}, "chat": {"apply_chat_template": True}}
    asked["some"] = {"apply_chat_template": ["ifeval"]}
    for setting, chat in asked.items():
        path = tmp_path / f"{setting}.json"
        path.write_text(json.dumps(lm_eval_result("sft", 0.5, 0.2) | chat))
        flags += ["--results", setting, "sft", str(path)]
    tables.main(["downstream", *flags, "--output", str(output)])
    rows = {row["setting"]: row for row in csv.DictReader(io.StringIO(output.read_text()))}
    assert {name: row["chat_template"] for name, row in rows.items()} == {
        "base": "no",
        "chat": "yes",
        "some": "ifeval",
    }
    tables.main(["downstream", *flags[:4], "--output", str(output)])
    assert "chat_template" not in output.read_text()


def test_downstream_gain_is_welchs(tmp_path):
    answers = {"dpo": [0.2, 0.3, 0.7], "dpo-poet": [0.5, 0.55, 0.6], "sft": [0.1] * 3}
    flags, averages = [], {}
    for method, values in answers.items():
        flags += ["--results", "world", method]
        averages[method] = [(0.6 + value + 0.5) / 3 for value in values]
        for i, value in enumerate(values):
            path = tmp_path / f"{method}-{i}.json"
            path.write_text(json.dumps(lm_eval_result(f"{method}-{i}", 0.5, value)))
            flags.append(str(path))
    output = tmp_path / "downstream.csv"
    gains = ["--gain", "dpo-poet", "dpo", "--gain", "absent", "dpo"]
    tables.main(["downstream", *flags, *gains, "--output", str(output)])
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(output.read_text()))}
    ours, theirs = averages["dpo-poet"], averages["dpo"]
    parts = [statistics.variance(x) / 3 for x in (ours, theirs)]
    error = sum(parts) ** 0.5
    freedom = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    gain = statistics.mean(ours) - statistics.mean(theirs)
    half = stats.t.ppf(0.975, freedom) * error
    expected = [gain, gain - half, gain + half, 2 * stats.t.sf(abs(gain) / error, freedom)]
    found = [rows["dpo-poet"][column] for column in downstream.GAIN]
    assert found == [f"{number:.4f}" for number in expected]
    assert {rows[method]["p_holm"] for method in ("dpo", "sft")} == {""}


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (float("nan"), ""), (-0.001, "0.00"), (3, "3.00")]
)
def test_fixed_decimals(value, text):
    assert formats.fixed(value, 2) == text
