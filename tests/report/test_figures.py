"""Figures: axis labels, n and units in the drawing; the CSV holds its numbers; the same bytes."""

import csv
import json
import xml.etree.ElementTree as ElementTree

import pytest

from poet.files import UserError
from poet.report import figures

METHOD = {
    "n_seeds": 3, "n_prompts": 123, "interval": "over prompts and seeds",
    "lc_win_rate": 61.234, "lc_ci_low": 55.5, "lc_ci_high": 66.6,
    "win_rate": 43.21, "wr_ci_low": 40.0, "wr_ci_high": 46.0,
}  # fmt: skip


def written(tmp_path, *flags):
    """The paths and the bytes of .svg, .png and .csv; drawn twice, the bytes must not differ."""
    outputs = [tmp_path / f"figure.{suffix}" for suffix in ("svg", "png", "csv")]
    found = []
    for _ in range(2):
        figures.main([*map(str, flags), "--output", *map(str, outputs)])
        found.append([output.read_bytes() for output in outputs])
    assert found[0] == found[1]
    return outputs


def texts(svg) -> list[str]:
    """All texts of an SVG in which text is text."""
    nodes = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(node.itertext()) for node in nodes]


def rows_of(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def comparison(tmp_path):
    def write(name, **methods):
        path = tmp_path / f"{name}.json"
        value = {"setting": name, "annotator": "oracle", "n_prompts": 123, "methods": methods}
        path.write_text(json.dumps(value))
        return path

    return write


def test_win_rates_show_units_n_and_seeds(tmp_path, comparison):
    path = comparison("world", **{"sft": METHOD | {"n_seeds": 1}, "dpo-poet": METHOD})
    svg, png, table = written(tmp_path, "win-rates", "--comparison", path)
    shown = texts(svg)
    for text in (
        "world, annotator oracle, n = 123 prompts",
        "wins over the reference answers (%)",
        "95 % intervals over prompts and seeds",
        "sft (1 seed)",
        "dpo-poet (3 seeds)",
        "length-controlled win rate",
        "win rate",
    ):
        assert text in shown, text
    assert png.read_bytes().startswith(b"\x89PNG")
    assert rows_of(table)[2] == {
        "setting": "world", "annotator": "oracle", "method": "dpo-poet", "n_seeds": "3",
        "n_prompts": "123", "metric": "lc_win_rate", "value": "61.23", "ci_low": "55.50",
        "ci_high": "66.60", "interval": "over prompts and seeds",
    }  # fmt: skip


def test_a_missing_length_controlled_rate_is_left_out(tmp_path, comparison):
    without = METHOD | {"lc_win_rate": None, "lc_ci_low": None, "lc_ci_high": None}
    paths = [comparison("first", dpo=without), comparison("second", dpo=METHOD)]
    svg, _, table = written(tmp_path, "win-rates", "--comparison", *paths)
    assert [row["metric"] for row in rows_of(table)] == ["win_rate", "lc_win_rate", "win_rate"]
    assert "length-controlled win rate" in texts(svg)  # of the second panel


@pytest.fixture
def train_json(tmp_path):
    def write(name, objective, chosen, steps=(10, 20)):
        rows = [
            {"step": step, "loss": 0.6, "rewards/chosen": chosen + step / 100,
             "rewards/rejected": 0.5, "rewards/margins": chosen + step / 100 - 0.5}
            for step in steps
        ]  # fmt: skip
        path = tmp_path / f"{name}.json"
        log = [*rows, {"step": steps[-1], "train_loss": 0.6}] if steps else [{"step": 1}]
        path.write_text(json.dumps({"record": {"objective": objective}, "log_history": log}))
        return path

    return write


def test_training_shows_mean_and_range_over_seeds(tmp_path, train_json):
    dpo = [train_json(f"dpo-{i}", "dpo", chosen) for i, chosen in enumerate((1.0, 2.0, 6.0))]
    simpo = [train_json("simpo", "simpo", -4.0)]
    svg, _, table = written(
        tmp_path, "training", "--runs", "world", "dpo", *dpo, "--runs", "world", "simpo", *simpo
    )
    shown = texts(svg)
    for text in (
        "world, dpo (3 seeds)", "world, simpo (1 seed)", "β log π/π_ref (nats)",
        "β mean log π (nats per token)", "implicit reward", "margin", "optimizer step", "chosen",
        "rejected", "margin (chosen - rejected); band: range over seeds",
    ):  # fmt: skip
        assert text in shown, text
    first = rows_of(table)[0]
    assert (first["method"], first["n_seeds"], first["step"]) == ("dpo", "3", "10")
    assert [first[f"chosen_{end}"] for end in ("mean", "min", "max")] == [
        "3.100000", "1.100000", "6.100000",
    ]  # fmt: skip
    assert first["margins_mean"] == "2.600000"
    assert len(rows_of(table)) == 4


def test_training_without_rewards_names_the_file(tmp_path, train_json):
    path = train_json("empty", "dpo", 1.0, steps=())
    with pytest.raises(UserError, match=r"empty\.json: log_history has no row with the key"):
        figures.training_rows([("world", "dpo", [path])])


def test_more_panels_than_a_row_holds_are_all_drawn(tmp_path, train_json):
    path = train_json("run", "dpo", 1.0)
    flags = [text for i in range(5) for text in ("--runs", "world", f"method-{i}", path)]
    svg, *_ = written(tmp_path, "training", *flags)
    assert sum(text.startswith("world, method-") for text in texts(svg)) == 5
