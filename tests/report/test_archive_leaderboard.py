"""Models of the public leaderboard: real verdicts of its judge, against what it publishes."""

import csv
import gzip

import pytest

from poet import config
from poet.evaluate import alpaca, compare
from poet.files import UserError, read_json, read_jsonl, write_json
from poet.report import leaderboard
from poet.report.cautions import cautions

MODELS = [
    "phi-2-sft", "OpenHermes-2.5-Mistral-7B", "FuseChat-Gemma-2-9B-Instruct",
    "FuseChat-Llama-3.1-8B-Instruct", "alpaca-farm-ppo-human", "oasst-rlhf-llama-33b",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(shared):
    return shared / "data" / "alpacaeval2"


@pytest.fixture(scope="module")
def board(data, tmp_path_factory):
    """The folder as a clone of the alpaca_eval repository has it."""
    board = tmp_path_factory.mktemp("board")
    for path in (data / "annotations").glob("*.json.gz"):
        target = board / path.name.removesuffix(".json.gz") / leaderboard.FILE
        target.parent.mkdir(parents=True)
        target.write_bytes(gzip.decompress(path.read_bytes()))
    prompts = read_jsonl(data / "prompts.jsonl.gz")
    outputs = [{"instruction": p["instruction"], "output": p["reference_output"]} for p in prompts]
    write_json(outputs, board / "gpt4_1106_preview" / "model_outputs.json")
    return board


def take(board, tmp_path, *models, gamed=None):
    more = ["--gamed", str(gamed)] if gamed else []
    leaderboard.main(
        ["--from", str(board), "--models", *models, "--into", str(tmp_path / "results"),
         "--write-config", str(tmp_path / "results" / "config.yaml"), *more]
    )  # fmt: skip
    return tmp_path / "results"


def test_the_leaderboards_own_numbers(board, data, tmp_path):
    gamed = data / "df_gamed_surrogate.csv"
    results = take(board, tmp_path, *MODELS, gamed=gamed)
    folder = results / "annotations" / leaderboard.SETTING / leaderboard.JUDGE
    outputs = [str(tmp_path / f"{model}.json") for model in MODELS]
    alpaca.main(
        ["--annotations", *(str(folder / model / "seed-1.json") for model in MODELS), "--prompts",
         str(results / "data" / leaderboard.SETTING / "prompts.jsonl"), "--gamed", str(gamed),
         "--output", *outputs]
    )  # fmt: skip
    with (data / "published.csv").open() as file:
        published = {row["model"]: row for row in csv.DictReader(file)}
    assert set(published) == set(MODELS)
    for model, path in zip(MODELS, outputs, strict=True):
        found, expected = read_json(path), published[model]
        for key in ("win_rate", "standard_error", "discrete_win_rate"):
            assert found[key] == pytest.approx(float(expected[key]), abs=1e-9), (model, key)
        assert found["n_total"] == int(expected["n_total"]) and not found["degenerate"]
        assert found["avg_length"] == int(expected["avg_length"])
        difference = found["length_controlled_winrate"] - float(
            expected["length_controlled_winrate"]
        )
        assert abs(difference) < 0.41, model  # the surrogate's error, see the data's README


@pytest.mark.parametrize("gamed", [True, False])
def test_its_configuration_is_valid(tmp_path, gamed):
    found = config.load(leaderboard.configuration(MODELS, gamed), "config")
    assert found["grid"] == {"alpacaeval2": MODELS}
    assert found["gains"] == dict.fromkeys(MODELS[1:], MODELS[0])
    assert ("evaluation" in found["settings"]["alpacaeval2"]["data"]) is gamed


def test_cautions_say_what_such_a_table_is(board, tmp_path):
    results = take(board, tmp_path, *MODELS[:2])
    folder = results / "annotations" / leaderboard.SETTING / leaderboard.JUDGE
    outputs = [str(tmp_path / f"{model}.json") for model in MODELS[:2]]
    alpaca.main(
        ["--annotations", *(str(folder / model / "seed-1.json") for model in MODELS[:2]),
         "--prompts", str(results / "data" / leaderboard.SETTING / "prompts.jsonl"),
         "--without-gamed", "--output", *outputs]
    )  # fmt: skip
    flags = [
        word
        for name, path in zip(MODELS[:2], outputs, strict=True)
        for word in ("--method", name, path)
    ]
    compare.main(
        ["--setting", "alpacaeval2", "--annotator", leaderboard.JUDGE, "--kind", "replay", *flags,
         "--gain", MODELS[1], MODELS[0], "--output", str(tmp_path / "comparison.json")]
    )  # fmt: skip
    of = leaderboard.configuration(MODELS[:2], False)
    said = "\n".join(cautions([read_json(tmp_path / "comparison.json")], of, [], []))
    assert "published answers and verdicts. Nothing was trained" in said
    assert f"over {MODELS[0]}, named first" in said
    assert "by a regression of our own (length_controlled_minimal)" in said
    made_here = {"record": {"setting": "alpacaeval2", "method": MODELS[0]}, "runs": []}
    said = cautions([read_json(tmp_path / "comparison.json")], of, [], [made_here])
    assert "published" not in "\n".join(said)


def test_a_wrong_name_lists_those_there_are(board, tmp_path):
    with pytest.raises(
        UserError, match=r"of phi-3\.\n  there are those of: FuseChat-Gemma"
    ) as error:
        take(board, tmp_path, "phi-2-sft", "phi-3")
    assert "gpt4_1106_preview" not in str(error.value)  # it has no verdicts
    assert not (tmp_path / "results").exists()


def test_missing_verdicts_are_counted(board, tmp_path):
    path = tmp_path / "board" / "short" / leaderboard.FILE
    write_json(read_json(board / "phi-2-sft" / leaderboard.FILE)[7:], path)
    reference = tmp_path / "board" / "gpt4_1106_preview"
    reference.symlink_to(board / "gpt4_1106_preview", target_is_directory=True)
    with pytest.raises(UserError, match=r"annotations\.json does not match .*\n  missing .*: 7: "):
        take(tmp_path / "board", tmp_path, "short")
    assert not (tmp_path / "results").exists()


def test_another_table_is_not_mixed_in(board, tmp_path):
    results = take(board, tmp_path, *MODELS[:2])
    write_json({}, results / "scores" / "alpacaeval2" / leaderboard.JUDGE / "comparison.json")
    take(board, tmp_path, *MODELS[:2])
    with pytest.raises(UserError, match="results of another table"):
        take(board, tmp_path, *MODELS[:3])
    taken = results / "annotations" / "alpacaeval2" / leaderboard.JUDGE
    assert {path.name for path in taken.iterdir()} == set(MODELS[:2])
