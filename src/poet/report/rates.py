"""The safety table and the arena table: rates of every method beside the paper's numbers."""

from __future__ import annotations

import argparse

from poet.files import cli, read_json
from poet.report.formats import PERCENT, SHARE, Layout, fixed, write
from poet.report.paper import read_reported

NAMES = {"safety": "safety_rate", "arena": "arena_score"}
NOTES = (
    "Percent with 95 % interval, over what the column interval says; gains in percentage points, "
    "over the same prompts, p corrected over the table (Holm). paper: as printed there.",
)


def rows_of(rates: list[dict], reported: list[dict]) -> list[dict]:
    """One row of text cells per setting, method and annotator.

    Args:
        rates: what ``poet.evaluate.rates`` writes, one per setting, all of one metric.
        reported: rows of the paper's ``reported.csv``. It reports a method's rate once, whatever
            the setting is called here.
    """
    rows = []
    for rate in rates:
        metric = NAMES[rate["metric"]]
        paper = {row["method"]: row["value"] for row in reported if row["metric"] == metric}
        gains = {gain["method"]: gain for gain in rate["gains"]}
        for method, found in rate["methods"].items():
            gain = gains.get(method, {})
            row = {"setting": rate["setting"], "method": method, "annotator": rate["annotator"]}
            row["judge_model"] = " ".join(found["judge_models"])
            row |= {"n_prompts": str(found["n_prompts"]), "n_seeds": str(found["n_seeds"])}
            row[metric] = fixed(found["value"], PERCENT)
            row |= {bound: fixed(found[bound], PERCENT) for bound in ("ci_low", "ci_high")}
            row |= {"interval": found["interval"], "paper": paper.get(method, "")}
            row["gain"] = fixed(gain.get("gain"), PERCENT)
            row |= {f"gain_{c}": fixed(gain.get(c), PERCENT) for c in ("ci_low", "ci_high")}
            row["p_holm"] = fixed(gain.get("p_holm"), SHARE)
            rows.append(row)
    return rows


def layout(metric: str) -> Layout:
    """What is shown: rate and gain with their intervals."""
    plain = ("setting", "method", "annotator", "n_prompts", "n_seeds")
    shown: dict[str, tuple[str, ...]] = {column: (column,) for column in plain}
    shown |= {metric: (metric, "ci_low", "ci_high"), "paper": ("paper",)}
    shown |= {"gain": ("gain", "gain_ci_low", "gain_ci_high"), "p_holm": ("p_holm",)}
    return Layout(shown, "{} [{}, {}]")


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", nargs="+", required=True, help="rates.json files of one metric")
    parser.add_argument("--reported", required=True, help="the paper's numbers (reported.csv)")
    parser.add_argument("--output", nargs="+", required=True, help=".csv, .md and .tex files")
    args = parser.parse_args(argv)
    rates = [*map(read_json, args.rates)]
    rows = rows_of(rates, read_reported(args.reported))
    write(rows, layout(NAMES[rates[0]["metric"]]), NOTES, args.output)


if __name__ == "__main__":
    cli(main)
