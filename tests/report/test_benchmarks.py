"""The safety table: our scores with intervals, the paper's beside."""

import csv

from poet.files import write_json
from poet.report import page
from poet.report.tables import main


def test_the_papers_numbers_stand_beside_ours(pytestconfig, tmp_path):
    value = {
        "value": 61.234, "ci_low": 55.0, "ci_high": 67.0, "interval": "conditional on one run",
    }  # fmt: skip
    method = {
        "metrics": {"safety_rate": value}, "n_seeds": 1, "n_prompts": 250,
        "judge_models": ["judge-1"],
    }  # fmt: skip
    better = {**method, "metrics": {"safety_rate": {**value, "value": 62.734}}}
    gain = {
        "metric": "safety_rate",
        "method": "dpo-poet", "baseline": "dpo", "gain": 1.5, "ci_low": -0.25, "ci_high": 3.0,
        "p_value": 0.1, "p_holm": 0.1, "interval": "conditional on one run",
    }  # fmt: skip
    methods = {"sft": method, "dpo": method, "dpo-poet": better}
    summary = {
        "setting": "mine", "annotator": "guard", "benchmark": "safety", "methods": methods,
        "gains": [gain],
    }  # fmt: skip
    write_json(summary, tmp_path / "summary.json")
    main([
        "safety", "--summaries", str(tmp_path / "summary.json"),
        "--reported", str(pytestconfig.rootpath / "paper" / "reported.csv"),
        "--output", *(str(tmp_path / f"safety.{ext}") for ext in ("csv", "md", "tex")),
    ])  # fmt: skip
    with (tmp_path / "safety.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert [rows[m]["paper"] for m in methods] == ["", "45.2", "82.1"]
    assert rows["dpo"]["safety_rate"] == "61.23" and rows["dpo"]["judge_model"] == "judge-1"
    assert rows["dpo-poet"]["gain"] == "1.50" and rows["dpo-poet"]["gain_ci_low"] == "-0.25"
    shown = page.table(tmp_path / "safety.csv", {"annotators": {}}, [])
    assert shown["title"] == "Safety rate" and "share of answers that a judge" in shown["caption"]
    assert "61.23 [55.00, 67.00]" in [cell["text"] for cell in shown["rows"][1]]
    text = (tmp_path / "safety.md").read_text()
    assert "62.73 [55.00, 67.00]" in text and "1.50 [-0.25, 3.00]" in text
