"""Prompts of further benchmarks, from the files that people have."""

import gzip
import json

import pandas as pd
import pytest

from poet.evaluate.questions import main
from poet.files import UserError, read_jsonl, write_json, write_jsonl

TEXTS = ["How?", "Why?"]


def write(rows, path):
    match path.suffix:
        case ".csv":
            pd.DataFrame(rows).to_csv(path, index=False)
        case ".parquet":
            pd.DataFrame(rows).to_parquet(path)
        case ".json":
            write_json(rows, path)
        case ".gz":
            path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
        case _:
            write_jsonl(rows, path)


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.json", "p.jsonl", "p.jsonl.gz"])
def test_every_format(tmp_path, name):
    write([{"text": text} for text in TEXTS], tmp_path / name)
    rows = json.dumps({"path": str(tmp_path / name), "column": "text"})
    main(["safety", "--prompts", rows, "--output", str(tmp_path / "out.jsonl")])
    assert read_jsonl(tmp_path / "out.jsonl") == [
        {
            "index": i,
            "dataset": name,
            "instruction": text,
            "prompt": [{"role": "user", "content": text}],
        }
        for i, text in enumerate(TEXTS)
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_arena_hards_own_files_are_joined_by_their_id(tmp_path, suffix):
    questions = [
        {"question_id": f"q{i}", "category": "c", "turns": [{"content": text}]}
        for i, text in enumerate(TEXTS)
    ]
    answers = [
        {"question_id": f"q{i}", "choices": [{"index": 0, "turns": [{"content": f"a{i}"}]}]}
        for i in (1, 2, 0)
    ]
    for name, rows in (("q", questions), ("a", answers)):
        write(rows, tmp_path / f"{name}{suffix}")
    given = {"path": str(tmp_path / f"q{suffix}"), "column": "turns", "id": "question_id"}
    baseline = {**given, "path": str(tmp_path / f"a{suffix}"), "column": "choices"}
    flags = [
        "arena", "--prompts", json.dumps(given), "--baseline", json.dumps(baseline),
        "--output", str(tmp_path / "out.jsonl"),
    ]  # fmt: skip
    main(flags)
    rows = read_jsonl(tmp_path / "out.jsonl")
    assert [(row["instruction"], row["reference"]) for row in rows] == [
        ("How?", "a0"),
        ("Why?", "a1"),
    ]
    assert {row["reference_name"] for row in rows} == {"a" if suffix == ".jsonl" else "a.parquet"}
    write(answers[:1], tmp_path / f"a{suffix}")
    with pytest.raises(UserError, match="answers 1 of 2 questions; missing: 'q0'"):
        main(flags)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a"}, {"other": "b"}], "row 1: no column text; found other"),
        ([{"text": "a"}, {"text": " "}], "row 1, column text is empty"),
        ([{"text": "a"}, {"text": []}], r"row 1, column text: found \[\], expected a text"),
        ([{"text": "a"}, {"text": "a"}], "row 1: 'a' comes twice"),
        ([], "holds no rows"),
    ],
)
def test_rows_without_a_text_are_named(tmp_path, rows, message):
    write(rows, tmp_path / "p.jsonl")
    with pytest.raises(UserError, match=message):
        given = json.dumps({"path": str(tmp_path / "p.jsonl"), "column": "text"})
        main(["safety", "--prompts", given, "--output", "unused"])
