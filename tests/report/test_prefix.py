"""The prefix table and the figures of the analyses, from small files in their documented form."""

import csv
import json

import pytest

from poet.files import csv_text
from poet.report import tables
from report.test_figures import texts, written


def gap(k, value, exact=None) -> dict:
    return {
        "metric": f"dq_{k}", "k": k, "value": value, "ci_low": value - 0.001,
        "ci_high": value + 0.001, "n_pairs": 50,
        "exact": None if exact is None else {"value": exact, "n_pairs": 40},
    }  # fmt: skip


@pytest.fixture
def measured(tmp_path):
    own = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n_seeds": 3, "n_prompts": 20}
    path = tmp_path / "prefix_quality.json"
    value = {
        "setting": "mistral-7b-base", "annotator": "armorm",
        "pairs": {
            "gaps": [gap(2, 0.0026), gap(4, -0.01, exact=0.02)],
            "order": {
                "metric": "order_kept_after_truncation", "value": 98.0, "ci_low": 97.0,
                "ci_high": 99.0, "n_pairs": 50, "exact": None,
            },
        },
        "own": {
            "methods": [{"method": "dpo", "k": 2, **own}, {"method": "dpo-poet", "k": 2, **own}],
            "gains": [
                {"method": "dpo-poet", "baseline": "dpo", "k": 2, "gain": 0.1, "ci_low": -0.1,
                 "ci_high": 0.3, "p_holm": 0.25}
            ],
        },
    }  # fmt: skip
    path.write_text(json.dumps(value))
    return path


def table(measured, request, *judges) -> list[dict]:
    output = measured.parent / "prefix.csv"
    reported = str(request.config.rootpath / "paper" / "reported.csv")
    tables.main(
        ["prefix", "--measured", str(measured), "--reported", reported,
         "--judged-by", json.dumps({"annotators": {"armorm": {"kind": "oracle"}}}), "--judges",
         "--paper-annotators", *judges, "--output", str(output)]
    )  # fmt: skip
    with output.open(newline="") as file:
        return list(csv.DictReader(file))


def test_prefix_table_beside_the_papers_numbers(measured, request):
    rows = table(measured, request, "armorm")
    assert [row["measure"] for row in rows] == ["gap", "gap", "order kept (%)", "own", "own"]
    same_sign, other_sign, order, _, own = rows
    assert (same_sign["value"], same_sign["paper_value"]) == ("0.0026", "0.0026")
    assert (same_sign["verdict"], other_sign["verdict"]) == ("direction only", "contradicts")
    assert other_sign["true_value"] == "0.0200"
    assert (order["value"], order["paper_value"], order["verdict"]) == (
        "98.00", "98.5", "reproduced",
    )  # fmt: skip
    assert (own["method"], own["gain"], own["p_holm"]) == ("dpo-poet", "0.1000", "0.2500")


def test_prefix_table_of_another_scorer(measured, request):
    rows = table(measured, request)
    assert {row["verdict"] for row in rows if row["paper_value"]} == {"different judge"}


def rows_of(figure) -> list[dict]:
    """Rows of an analysis' CSV file, as its module documents them."""
    if figure == "prefix-quality":
        who = {"setting": "world", "ci_low": 0.1, "ci_high": 0.3, "value": 0.2, "n": 17}
        kinds = (("dq", ""), ("dq_exact", ""), ("own", "dpo"), ("own", "dpo-poet"))
        return [who | {"measure": m, "method": of, "k": k} for m, of in kinds for k in (2, 4, 8)]
    if figure == "margins":
        ends = {f"{when}{end}": 0.5 for when in ("before", "after")
                for end in ("", "_ci_low", "_ci_high")}  # fmt: skip
        who = {"setting": "world", "n_pairs": 17, "n_seeds": 3, **ends}
        units = {"dpo": "nats", "simpo": "nats per token"}
        return [
            who | {"method": m, "prefix_length": k, "unit": unit}
            for m, unit in units.items() for k in (1, 2)
        ]  # fmt: skip
    if figure == "entropy":
        who = {"setting": "world", "n_seeds": 1, "logp": -1, "entropy": 1.5,
               "entropy_ci_low": 1, "entropy_ci_high": 2}  # fmt: skip
        return [
            who | {"method": m, "side": side, "position": i, "n": 17 if i < 3 else 2}
            for m in ("sft", "dpo") for side in ("chosen", "rejected") for i in (1, 2, 3)
        ]  # fmt: skip
    kinds = ("prompt", "chosen", "rejected", "k", "min_over_max")
    bins = ((1, 2, 10), (2, 4, 7))
    return [
        {"source": "world", "measure": m, "low": low, "high": high, "n": n}
        for m in kinds for low, high, n in bins
    ]  # fmt: skip


EXPECTED = {
    "prefix-quality": ["world, n = 17 pairs", "prefix length k (tokens)", "dpo-poet",
                       "what the models write, n = 17 prompts", "true, where it is known"],
    "margins": ["world, dpo", "3 seeds, n = 17 pairs", "prefix length (tokens)",
                "margin (nats)", "margin (nats per token)"],
    "entropy": ["world, chosen responses, n = 17 to 17", "entropy of the next token (nats)"],
    "pair-lengths": ["world, n = 17 pairs", "pairs", "k, what POET keeps"],
}  # fmt: skip


@pytest.mark.parametrize("figure", EXPECTED)
def test_figures_of_analyses_show_units_and_n(tmp_path, figure):
    path = tmp_path / "analysis.csv"
    path.write_text(csv_text(rows_of(figure)))
    svg, _, data = written(tmp_path, figure, "--table", path)
    shown = texts(svg)
    for text in EXPECTED[figure]:
        assert text in shown, text
    drawn = data.read_text().splitlines()
    all_rows = path.read_text().splitlines()
    # Positions that few responses reach are left out of the figure, and of its data.
    assert drawn == (all_rows if figure != "entropy" else [r for r in all_rows if ",3," not in r])


@pytest.mark.parametrize("figure", sorted(set(EXPECTED) - {"pair-lengths"}))
def test_figures_of_analyses_do_without_intervals(tmp_path, figure):
    """Where nothing varies there is none: prefixes all worth the same, DPO's margins before."""
    path = tmp_path / "analysis.csv"
    rows = [{k: "" if "ci_" in k else v for k, v in row.items()} for row in rows_of(figure)]
    path.write_text(csv_text(rows))
    svg, *_ = written(tmp_path, figure, "--table", path)
    assert set(EXPECTED[figure]) <= set(texts(svg))


def test_a_gap_without_an_interval_is_no_verdict(measured, request):
    value = json.loads(measured.read_text())
    for found in (*value["pairs"]["gaps"], *value["own"]["methods"], *value["own"]["gains"]):
        found |= {"ci_low": None, "ci_high": None}
    value["own"]["gains"][0]["p_holm"] = None
    measured.write_text(json.dumps(value))
    rows = table(measured, request, "armorm")
    assert [row["verdict"] for row in rows[:2]] == ["inconclusive", "inconclusive"]
    assert {row["ci_low"] for row in rows[:2]} == {""} and rows[-1]["p_holm"] == ""
