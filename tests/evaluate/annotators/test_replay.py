"""Annotations already paid for give what they say, for the outputs that they were given on."""

import gzip
import json

import pytest

from poet.evaluate.alpaca import align, score
from poet.evaluate.annotate import annotate, main
from poet.evaluate.annotators.replay import replay
from poet.evaluate.prompts import read_rows
from poet.files import UserError, read_json, write_json, write_jsonl


def annotation(i, **change):
    return {
        "instruction": f"i{i}", "output_1": f"ref {i}", "generator_1": "ref",
        "output_2": f"out {i}", "generator_2": "m", "annotator": "judge", "preference": 1 + i / 10,
        **change,
    }  # fmt: skip


def replayed(*files):
    return replay("r", {"files": files, "allow_model_change": False}, None)


def pairs(n):
    return [
        {"index": i, "instruction": f"i{i}", "output_1": f"ref {i}", "output_2": f"out {i}"}
        for i in range(n)
    ]


def test_rows_are_found_by_instruction_and_outputs_whatever_their_order(tmp_path):
    write_json([annotation(i) for i in (3, 1)], tmp_path / "a.json")
    rows = [annotation(i) for i in (0, 2)] + [annotation(2, output_2="b", preference=2)]
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    judge = replayed(tmp_path / "a.json", tmp_path / "b.json.gz")
    (found,) = annotate("r", judge, [], [pairs(4)])
    assert [row["preference"] for row in found] == [1.0, 1.1, 1.2, 1.3]
    assert {(row["annotator"], row["judge_model"]) for row in found} == {("r", "judge")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_2": "out 1!"}, "output_2 is another.\n.*annotated.*'out 1!'\n.*judge.*'out 1'"),
        ({"output_1": "other"}, "output_1 is another"),
        ({"instruction": "j"}, "no verdict for 'i1': the instruction is not in it"),
        ({"preference": None}, "preference is None"),
        ({"annotator": "other"}, "verdicts of judge and of other"),
    ],
)
def test_what_was_not_annotated_is_an_error(tmp_path, change, message):
    write_json([annotation(0), annotation(1, **change)], tmp_path / "a.json")
    with pytest.raises(UserError, match=message):
        annotate("r", replayed(tmp_path / "a.json"), [], [pairs(2)])


def test_two_verdicts_on_one_pair_are_an_error(tmp_path):
    write_json([annotation(0), annotation(0, preference=2)], tmp_path / "a.json")
    with pytest.raises(UserError, match="two verdicts on one pair, 'i0'"):
        replayed(tmp_path / "a.json")


def test_real_annotations_replayed_score_as_published(shared, tmp_path):
    """Through the program: the win rate is the leaderboard's."""
    import csv

    folder = shared / "data" / "alpacaeval2"
    source = folder / "annotations" / "phi-2-sft.json.gz"
    prompts = [
        {
            **row,
            "prompt": [{"role": "user", "content": row["instruction"]}],
            "reference": row["reference_output"],
        }
        for row in read_rows(folder / "prompts.jsonl.gz")
    ]
    outputs = {row["instruction"]: row["output_2"] for row in read_rows(source)}
    generations = [{**p, "output": outputs[p["instruction"]], "generator": "phi"} for p in prompts]
    write_jsonl(prompts, tmp_path / "prompts.jsonl")
    write_json(generations, tmp_path / "g.json")
    main([
        "--record", json.dumps({"reference_name": "gpt4_1106_preview"}), "--annotator", "paid",
        "--settings", json.dumps({"kind": "replay", "files": [str(source)],
                                  "allow_model_change": False}),
        "--prompts", str(tmp_path / "prompts.jsonl"), "--generations", str(tmp_path / "g.json"),
        "--output", str(tmp_path / "a.json"), "--usage", str(tmp_path / "usage.json"),
    ])  # fmt: skip
    rows = align(read_json(tmp_path / "a.json"), [p["instruction"] for p in prompts], "a")
    with (folder / "published.csv").open() as file:
        published = {row["model"]: row for row in csv.DictReader(file)}
    assert score(rows)[0]["win_rate"] == pytest.approx(
        float(published["phi-2-sft"]["win_rate"]), abs=1e-6
    )
    usage = read_json(tmp_path / "usage.json")
    assert usage["judge_models"] == ["weighted_alpaca_eval_gpt4_turbo"] and usage["n_calls"] == 0
