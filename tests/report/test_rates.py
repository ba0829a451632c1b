"""The safety table: our rates with intervals, the paper's beside."""

import csv

from poet.files import write_json
from poet.report.rates import main


def test_the_papers_numbers_stand_beside_ours(pytestconfig, tmp_path):
    method = {
        "value": 61.234, "ci_low": 55.0, "ci_high": 67.0, "interval": "conditional on one run",
        "n_seeds": 1, "n_prompts": 250, "judge_models": ["judge-1"],
    }  # fmt: skip
    gain = {
        "method": "dpo-poet", "baseline": "dpo", "gain": 1.5, "ci_low": -0.25, "ci_high": 3.0,
        "p_value": 0.1, "p_holm": 0.1, "interval": "conditional on one run",
    }  # fmt: skip
    methods = {"sft": method, "dpo": method, "dpo-poet": {**method, "value": 62.734}}
    rates = {
        "setting": "mine", "annotator": "guard", "metric": "safety", "methods": methods,
        "gains": [gain],
    }  # fmt: skip
    write_json(rates, tmp_path / "rates.json")
    main([
        "--rates", str(tmp_path / "rates.json"),
        "--reported", str(pytestconfig.rootpath / "paper" / "reported.csv"),
        "--output", *(str(tmp_path / f"safety.{ext}") for ext in ("csv", "md", "tex")),
    ])  # fmt: skip
    with (tmp_path / "safety.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert [rows[m]["paper"] for m in methods] == ["", "45.2", "82.1"]
    assert rows["dpo"]["safety_rate"] == "61.23" and rows["dpo"]["judge_model"] == "judge-1"
    assert rows["dpo-poet"]["gain"] == "1.50" and rows["dpo-poet"]["gain_ci_low"] == "-0.25"
    text = (tmp_path / "safety.md").read_text()
    assert "62.73 [55.00, 67.00]" in text and "1.50 [-0.25, 3.00]" in text
