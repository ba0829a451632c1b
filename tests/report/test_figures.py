"""Figures: axis labels, n and units in the drawing; the CSV holds its numbers; the same bytes."""

import csv
import json
import xml.etree.ElementTree as ElementTree

import pytest

from poet.files import UserError, csv_text
from poet.report import figure_training, figures

METHOD = {
    "n_seeds": "3", "n_prompts": "123", "interval": "over prompts and seeds",
    "lc_win_rate": "61.23", "lc_ci_low": "55.50", "lc_ci_high": "66.60",
    "win_rate": "43.21", "wr_ci_low": "40.00", "wr_ci_high": "46.00", "avg_length": "150.5",
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
def table(tmp_path):
    """Write a table of scores: setting, method and what differs from METHOD."""

    def write(*rows):
        path = tmp_path / "table.csv"
        cells = [
            {"setting": setting, "method": method, "annotator": "oracle", **METHOD, **changes}
            for setting, method, changes in rows
        ]
        path.write_text(csv_text(cells))
        return path

    return write


def test_win_rates_show_units_n_and_seeds(tmp_path, table):
    path = table(("world", "sft", {"n_seeds": "1"}), ("world", "dpo-poet", {}))
    svg, png, data = written(tmp_path, "win-rates", "--table", path)
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
    assert rows_of(data)[2] == {
        "setting": "world", "annotator": "oracle", "method": "dpo-poet", "n_seeds": "3",
        "n_prompts": "123", "metric": "lc_win_rate", "value": "61.23", "ci_low": "55.50",
        "ci_high": "66.60", "interval": "over prompts and seeds",
    }  # fmt: skip


NONE = {"lc_win_rate": "", "lc_ci_low": "", "lc_ci_high": ""}


def test_a_missing_length_controlled_rate_is_left_out(tmp_path, table):
    path = table(("first", "dpo", NONE), ("second", "dpo", {}))
    svg, _, data = written(tmp_path, "win-rates", "--table", path)
    assert [row["metric"] for row in rows_of(data)] == ["win_rate", "lc_win_rate", "win_rate"]
    assert "length-controlled win rate" in texts(svg)  # of the second panel


def test_a_number_without_an_interval_is_a_dot(tmp_path, table):
    """Degenerate length control, answers that all win."""
    unknown = {"lc_win_rate": "50.00", "lc_ci_low": "", "lc_ci_high": ""}
    varied = {"objective": "dpo", "truncation": "none", "keep": "100", "paper_lc_win_rate": ""}
    path = table(("world", "dpo", unknown | varied | {"wr_ci_low": "", "wr_ci_high": ""}))
    for figure in ("win-rates", "lc-length", "ablation-curves"):
        _, _, data = written(tmp_path, figure, "--table", path)
        assert all("50.00" in row.values() or row["value"] == "43.21" for row in rows_of(data))


def test_length_control_against_length(tmp_path, table):
    path = table(
        ("world", "dpo", {}), ("world", "dpo-poet", {"avg_length": "120.0"}),
        ("world", "simpo-poet", {}), ("world", "not-run", NONE),
    )  # fmt: skip
    gains = ["--gain", "dpo-poet", "dpo", "--gain", "simpo-poet", "simpo"]
    svg, _, data = written(tmp_path, "lc-length", "--table", path, *gains)
    shown = texts(svg)
    for text in (
        "world, annotator oracle, n = 123 prompts", "length-controlled win rate (%)",
        "95 % intervals", "mean length of the answers (characters)", "dpo-poet",
    ):  # fmt: skip
        assert text in shown, text
    assert [(row["method"], row["baseline"], row["avg_length"]) for row in rows_of(data)] == [
        ("dpo", "", "150.5"), ("dpo-poet", "dpo", "120.0"), ("simpo-poet", "simpo", "150.5"),
    ]  # fmt: skip


def test_ablation_curves_hold_ours_and_the_papers(tmp_path, table):
    def row(truncation, keep, **changes):
        varied = {"objective": "dpo", "truncation": truncation, "keep": keep}
        return "mistral", f"dpo-{truncation}-{keep}", varied | {"paper_lc_win_rate": ""} | changes

    path = table(
        row("own", "25", paper_lc_win_rate="14.1"), row("none", "100", paper_lc_win_rate="12.9"),
        row("random", ""),
        row("poet", "25"), row("poet", "50", **NONE, n_prompts="", paper_lc_win_rate="24.9"),
    )  # fmt: skip
    svg, _, data = written(tmp_path, "ablation-curves", "--table", path)
    assert [(r["curve"], r["keep"]) for r in rows_of(data)] == [
        ("own", "25"), ("own", "100"), ("poet", "25"), ("poet", "50"),
    ]  # fmt: skip
    shown = texts(svg)
    for text in (
        "dpo, mistral, annotator oracle, n = 123 prompts", "share of the length that is kept (%)",
        "of each response's own length", "of each response's own length, the paper's", "of POET's",
    ):  # fmt: skip
        assert text in shown, text


def test_lengths_are_the_quantiles_of_the_answers(tmp_path):
    lengths = {1: [10, 20, 30, 40], 2: [50, 60, 70, 1000]}
    flags = ["lengths", "--of", "world", "dpo"]
    for seed, values in lengths.items():
        path = tmp_path / f"seed-{seed}.json"
        path.write_text(json.dumps([{"output_1": "r" * 7, "output_2": "é" * n} for n in values]))
        flags.append(path)
    svg, _, data = written(tmp_path, *flags)
    reference, dpo = rows_of(data)
    assert (reference["writer"], reference["n_answers"], reference["q50"]) == (
        "reference",
        "4",
        "7.0",
    )
    assert (dpo["n_seeds"], dpo["n_answers"], dpo["mean"], dpo["q50"]) == (
        "2",
        "8",
        "160.0",
        "45.0",
    )
    assert "dpo (n = 8)" in texts(svg)
    assert any("characters" in text for text in texts(svg))


@pytest.fixture
def trained(tmp_path):
    def write(name, objective, chosen, steps=(10, 20)):
        rows = [
            {"step": step, "loss": 0.6, "rewards/chosen": chosen + step / 100,
             "rewards/rejected": 0.5, "rewards/margins": chosen + step / 100 - 0.5}
            for step in steps
        ]  # fmt: skip
        path = tmp_path / name
        path.mkdir()
        log = [*rows, {"step": steps[-1], "train_loss": 0.6}] if steps else [{"step": 1}]
        of = {"record": {"objective": objective}, "log_history": log}
        (path / "train.json").write_text(json.dumps(of))
        return path

    return write


def test_training_shows_mean_and_range_over_seeds(tmp_path, trained):
    dpo = [trained(f"dpo-{i}", "dpo", chosen) for i, chosen in enumerate((1.0, 2.0, 6.0))]
    simpo = [trained("simpo", "simpo", -4.0)]
    svg, _, table = written(
        tmp_path, "training", "--of", "world", "dpo", *dpo, "--of", "world", "simpo", *simpo
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


def test_training_without_rewards_names_the_file(tmp_path, trained):
    path = trained("empty", "dpo", 1.0, steps=())
    with pytest.raises(UserError, match=r"empty/train\.json: log_history has no row with the key"):
        figure_training.training_rows({("world", "dpo"): [path]})


def test_more_panels_than_a_row_holds_are_all_drawn(tmp_path, trained):
    path = trained("run", "dpo", 1.0)
    flags = [text for i in range(5) for text in ("--of", "world", f"method-{i}", path)]
    svg, *_ = written(tmp_path, "training", *flags)
    assert sum(text.startswith("world, method-") for text in texts(svg)) == 5
