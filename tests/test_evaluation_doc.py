"""docs/evaluation.md: its words are the code's, its numbers those of the real annotations."""

import csv
import re
from pathlib import Path

import yaml

from poet.config_schema import SCHEMA
from poet.evaluate import alpaca
from poet.evaluate.statistics import VERDICTS
from poet.files import read_json

TEXT = (Path(__file__).parent.parent / "docs/evaluation.md").read_text()


def rows_after(heading: str) -> list[list[str]]:
    """The cells of the table whose first heading is this."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE).group(1)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_words_are_the_codes():
    assert {row[0].strip("`") for row in rows_after("verdict")} == set(VERDICTS)
    backends = yaml.safe_load(SCHEMA.read_text())["$defs"]["generation"]["properties"]["backend"]
    assert [row[0].split("`")[1] for row in rows_after("`backend`")] == backends["enum"]
    for keys in alpaca.LC_KEYS.values():
        assert all(f"`{key}`" in TEXT for key in keys)


def test_keys_and_length_controlled_rates_are_what_the_program_writes(shared, tmp_path):
    data = shared / "data" / "alpacaeval2"
    listed = {row[0]: row[1:] for row in rows_after("model")}
    with (data / "published.csv").open() as file:
        published = {
            r["model"]: float(r["length_controlled_winrate"]) for r in csv.DictReader(file)
        }
    outputs = [tmp_path / f"{model}.json" for model in listed]
    alpaca.main(
        ["--annotations", *[str(data / "annotations" / f"{model}.json.gz") for model in listed]]
        + ["--prompts", str(data / "prompts.jsonl.gz")]
        + ["--gamed", str(data / "df_gamed_surrogate.csv"), "--output", *map(str, outputs)]
    )
    for (model, cells), output in zip(listed.items(), outputs, strict=True):
        scores = read_json(output)
        assert cells == [f"{scores['length_controlled_winrate']:.2f}", f"{published[model]:.2f}"]
    keys = [key for row in rows_after("key") for key in re.findall(r"`(\w+)`", row[0])]
    assert set(keys) == set(scores)
