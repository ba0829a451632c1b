"""Tables against rows computed by hand, the paper's numbers and LaTeX's grammar."""

import csv
import io
import json
import re
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet.files import UserError
from poet.report import tables

REPORTED = "paper/reported.csv"
METHOD = {
    "n_seeds": 3, "n_prompts": 805, "interval": "over prompts and seeds",
    "lc_win_rate": 24.6789, "lc_ci_low": 22.0, "lc_ci_high": 27.357,
    "win_rate": 9.999, "wr_ci_low": 8.0, "wr_ci_high": 12.0,
    "avg_length": 1543.26, "share_ended": 0.98765,
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
            }
        ],
    } | changes  # fmt: skip


@pytest.fixture
def main_files(tmp_path, request):
    path = tmp_path / "comparison.json"
    path.write_text(json.dumps(comparison()))
    outputs = [tmp_path / f"main.{suffix}" for suffix in ("csv", "md", "tex")]
    reported = request.config.rootpath / REPORTED
    flags = ["main", "--comparison", str(path), "--reported", str(reported), "--output"]
    tables.main([*flags, *map(str, outputs)])
    return [output.read_text() for output in outputs]


def test_main_csv_equals_rows_by_hand(main_files):
    assert main_files[0] == (
        "setting,method,annotator,n_seeds,n_prompts,lc_win_rate,lc_ci_low,lc_ci_high,win_rate,"
        "wr_ci_low,wr_ci_high,avg_length,share_ended,true_reward,true_reward_ci_low,"
        "true_reward_ci_high,paper_lc_win_rate,gain_lc,gain_lc_ci_low,gain_lc_ci_high,p_holm,"
        "lc_kind,interval\n"
        "mistral-7b-base,dpo,judge,3,805,20.00,22.00,27.36,10.00,8.00,12.00,1543.3,0.9877,,,,12.9,"
        ",,,,length_controlled_v1,over prompts and seeds\n"
        "mistral-7b-base,dpo-poet,judge,3,805,24.68,22.00,27.36,10.00,8.00,12.00,1543.3,0.9877,,,,"
        "24.7,4.68,0.00,9.36,0.0400,length_controlled_v1,over prompts and seeds\n"
    )


def test_markdown_shows_the_same_digits(main_files):
    heading, rule, _, poet = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in main_files[1].splitlines()[:4]
    )
    assert set("".join(rule)) == {"-", ":"}
    shown = dict(zip(heading, poet, strict=True))
    assert shown["LC win rate %"] == "24.68 [22.00, 27.36]"
    assert shown["paper's LC"] == "24.7"
    assert shown["gain LC"] == "4.68 [0.00, 9.36]"
    assert shown["true reward"] == ""
    assert "Intervals (95 %): over prompts and seeds. LC: length_controlled_v1." in main_files[1]


def test_latex_is_a_booktabs_tabular(main_files):
    text = re.sub(r"(?m)^%.*\n", "", main_files[2])
    lines = text.splitlines()
    columns = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", lines[0]).group(1)
    assert [line for line in lines if line.endswith("rule")] == [
        "\\toprule", "\\midrule", "\\bottomrule",
    ]  # fmt: skip
    assert lines[-1] == "\\end{tabular}"
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 3
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(columns)}


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"])))
def test_latex_escapes_every_special_character(text):
    escaped = tables._escape(text)
    rest = re.sub(r"\\text(backslash|ascii(tilde|circum))\{\}|\$\\pm\$|\\[&%$#_{}]", "", escaped)
    assert not set("&%$#_{}~^\\") & set(rest)


def test_paper_values_are_the_main_tables_only(request):
    reported = tables.read_reported(request.config.rootpath / REPORTED)
    assert reported["mistral-7b-base", "dpo-poet"] == "24.7"
    assert reported["gemma-2-9b-it", "simpo"] == "78.5"
    assert len(reported) == 16
    assert ("mistral-7b-base", "dpo-own-25") not in reported  # of the ablation


def test_reported_without_a_column_is_refused(tmp_path):
    (tmp_path / "reported.csv").write_text("table,setting,method,value\n")
    with pytest.raises(UserError, match="line 1: columns missing: metric"):
        tables.read_reported(tmp_path / "reported.csv")


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected \.csv, \.md or \.tex"):
        tables.write([{"a": "1"}], {"a": ("a",)}, "", [], [tmp_path / "table.xlsx"])


def lm_eval_result(model: str, choice: float, answer: float) -> dict:
    return {
        "model_name": model,
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


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (float("nan"), ""), (-0.001, "0.00"), (3, "3.00")]
)
def test_fixed_decimals(value, text):
    assert tables.fixed(value, 2) == text
