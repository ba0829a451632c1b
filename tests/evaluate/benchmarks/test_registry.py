"""A benchmark is a record: one that a program judges runs as one of the workflow's own.

It is made like IFEval: instructions that can be checked, of which a prompt has several, and two
accuracies, over prompts and over instructions.
"""

import copy
import csv
import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from poet import config_schema, local_inputs
from poet.config import load
from poet.evaluate import annotate, questions, summary
from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.benchmarks.record import PROGRAM, Benchmark, Metric, mean, share
from poet.evaluate.records import records
from poet.files import UserError, read_json, read_jsonl, write_json, write_jsonl
from poet.grid import judging, members, paths
from poet.hub.wanted import repositories
from poet.report import tables

ROOT = Path(__file__).parents[3]
CHECKS = {
    "no_comma": lambda text, given: "," not in text,
    "at_least": lambda text, given: len(text.split()) >= given["words"],
}


def check_instructions(rows):
    found = []
    for row in rows:
        given = zip(row["instruction_id_list"], row["kwargs"], strict=True)
        followed = [CHECKS[name](row["output"], kwargs) for name, kwargs in given]
        found.append({"followed": sum(followed), "instructions": len(followed)})
    return found


def all_followed(verdict):
    return 100.0 * (verdict["followed"] == verdict["instructions"])


TINY = Benchmark(
    name="tiny_ifeval",
    title="Tiny IFEval",
    measures="the share of prompts, and of instructions, that are followed",
    judge=check_instructions,
    verdict=("followed", "instructions"),
    metrics=(
        Metric("prompt_accuracy", lambda found: mean(found, all_followed), binary=True),
        Metric("instruction_accuracy", lambda found: share(found, "followed", "instructions")),
    ),
    columns=("instruction_id_list", "kwargs"),
)
N = 40
QUESTIONS = [
    {
        "key": i,
        "prompt": f"Write about {i}.",
        "instruction_id_list": ["no_comma", "at_least"][: 1 + i % 2],
        "kwargs": [{}, {"words": 3}][: 1 + i % 2],
    }
    for i in range(N)
]


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(BENCHMARKS, TINY.name, TINY)
    config_schema._validator.cache_clear()
    yield
    config_schema._validator.cache_clear()


def answers(seed: int, words: int) -> list[str]:
    """Answers, some with a comma; those of a better method are longer."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(["word"] * int(rng.integers(1, words))) + ", so" * bool(rng.random() < 0.3)
        for _ in QUESTIONS
    ]


def judged(tmp_path, method: str, of_seeds: list[list[str]]) -> list[str]:
    """The files of verdicts on a method's answers."""
    made, out = [], []
    for seed, texts in enumerate(of_seeds):
        rows = [
            {"index": i, "instruction": q["prompt"], "output": text, "generator": method}
            for i, (q, text) in enumerate(zip(QUESTIONS, texts, strict=True))
        ]
        made.append(str(tmp_path / f"{method}-{seed}.json"))
        out.append(str(tmp_path / f"verdicts-{method}-{seed}.json"))
        write_json(rows, made[-1])
    annotate.main([
        "--benchmark", TINY.name, "--record", "{}", "--annotator", PROGRAM, "--settings", "{}",
        "--prompts", str(tmp_path / "prompts.jsonl"), "--generations", *made, "--output", *out,
        "--usage", str(tmp_path / "usage.json"),
    ])  # fmt: skip
    return out


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_from_a_file_of_questions_to_a_table(registered, tmp_path, suffix):
    if suffix == ".parquet":
        import pandas as pd

        pd.DataFrame(QUESTIONS).to_parquet(tmp_path / "q.parquet")
    else:
        write_jsonl(QUESTIONS, tmp_path / "q.jsonl")
    rows = {"path": str(tmp_path / f"q{suffix}"), "column": "prompt", "id": "key"}
    prompts = str(tmp_path / "prompts.jsonl")
    questions.main([TINY.name, "--prompts", json.dumps(rows), "--output", prompts])
    first, second = read_jsonl(prompts)[:2]
    assert first["prompt"] == [{"role": "user", "content": "Write about 0."}]
    assert second["instruction_id_list"] == ["no_comma", "at_least"]

    methods = {"dpo": [answers(s, 5) for s in (0, 1)], "dpo-poet": [answers(s, 9) for s in (2, 3)]}
    flags = []
    for name, of_seeds in methods.items():
        flags += ["--method", name, *judged(tmp_path, name, of_seeds)]
    assert read_json(tmp_path / "usage.json")["kind"] == PROGRAM
    output = str(tmp_path / "summary.json")
    named = ["--setting", "s", "--annotator", PROGRAM, "--gain", "dpo-poet", "dpo"]
    summary.main([TINY.name, *flags, *named, "--output", output])
    found = read_json(output)

    expected = {}
    for name, of_seeds in methods.items():
        kept = [
            [["," not in text, len(text.split()) >= 3][: 1 + i % 2] for i, text in enumerate(texts)]
            for texts in of_seeds
        ]
        expected[name] = {
            "prompt_accuracy": 100 * np.mean([[all(of) for of in texts] for texts in kept]),
            "instruction_accuracy": 100 * np.mean([np.mean(sum(texts, [])) for texts in kept]),
        }
        for metric, value in expected[name].items():
            row = found["methods"][name]["metrics"][metric]
            assert row["value"] == pytest.approx(value)
            assert row["ci_low"] < value < row["ci_high"]
    assert [(gain["metric"], gain["gain"]) for gain in found["gains"]] == [
        (metric, pytest.approx(value - expected["dpo"][metric]))
        for metric, value in expected["dpo-poet"].items()
    ]

    reported = tmp_path / "reported.csv"
    reported.write_text("table,setting,method,metric,value\nt,s,dpo,instruction_accuracy,61.5\n")
    files = [str(tmp_path / f"t.{ext}") for ext in ("csv", "md")]
    tables.main([
        TINY.name, "--summaries", output, "--reported", str(reported), "--output", *files
    ])  # fmt: skip
    with open(files[0]) as file:
        dpo, poet = csv.DictReader(file)
    assert (dpo["paper"], dpo["instruction_accuracy_paper"]) == ("", "61.5")
    for metric, prefix in (
        ("prompt_accuracy", ""),
        ("instruction_accuracy", "instruction_accuracy_"),
    ):
        assert poet[metric] == f"{expected['dpo-poet'][metric]:.2f}"
        assert float(poet[f"{prefix}gain_ci_low"]) < float(poet[f"{prefix}gain"])
    shown = Path(files[1]).read_text()
    assert "instruction_accuracy" in shown and poet["instruction_accuracy_gain"] in shown


def settings(tmp_path, section):
    made = copy.deepcopy(yaml.safe_load((ROOT / "config.yaml").read_text()))
    made["settings"]["world"][TINY.name] = section
    return made


def test_the_configuration_takes_it_like_the_others(registered, tmp_path):
    rows = {"path": str(tmp_path / "none.jsonl"), "column": "prompt"}
    loaded = load(settings(tmp_path, {"prompts": rows}))
    with pytest.raises(UserError, match=r"tiny_ifeval.prompts.path is .*none.jsonl: no such file"):
        local_inputs.check(loaded, "my.yaml")
    with pytest.raises(UserError, match="unknown key annotator; known keys: prompts"):
        load(settings(tmp_path, {"prompts": rows, "annotator": "oracle"}))
    hub = {"dataset": "google/IFEval", "revision": "unpinned", "file": "q.jsonl", "column": "p"}
    asked = repositories(load(settings(tmp_path, {"prompts": hub})))
    assert asked["datasets/google/IFEval"]["files"] == ("q.jsonl",)
    assert members.judges(loaded) == {PROGRAM}
    assert paths.summaries(loaded, TINY.name) == [f"results/{TINY.name}/world/program/summary.json"]
    assert judging.settings(loaded, PROGRAM) == "{}" and judging.content(loaded, PROGRAM) == []
    assert judging.check(loaded, PROGRAM, "world", TINY.name) == []


def test_a_configuration_without_it_does_not_know_it(tmp_path):
    with pytest.raises(UserError, match="unknown key tiny_ifeval"):
        load(settings(tmp_path, {"prompts": {"path": "q", "column": "p"}}))


def test_a_new_module_of_a_package_is_found_by_its_record(tmp_path, monkeypatch):
    (tmp_path / "shelf").mkdir()
    record = "from types import SimpleNamespace\nK = SimpleNamespace(name='{}')"
    for name, text in (("b", record), ("__init__", ""), ("helper", ""), ("a", record)):
        (tmp_path / "shelf" / f"{name}.py").write_text(text.format(name))
    monkeypatch.syspath_prepend(tmp_path)
    found = records("shelf", [str(tmp_path / "shelf")], "K")
    assert [*found] == ["a", "b"]
    assert found["b"] is importlib.import_module("shelf.b").K


def test_the_registries_load_no_library():
    """The configuration imports them at every start of Snakemake."""
    code = (
        "import sys, poet.evaluate.annotators, poet.evaluate.benchmarks; print({'numpy', 'pandas', "
        "'scipy', 'torch', 'transformers', 'alpaca_eval'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_a_record_that_cannot_work_is_refused():
    for column in ("index", "prompt", "output", "turns"):
        with pytest.raises(ValueError, match=f"{column} is a column of the workflow's own"):
            replace(TINY, columns=("kwargs", column))
    assert replace(TINY, columns=("reference",)).asked[2:] == ("reference",)
    with pytest.raises(ValueError, match="reference is a column"):
        replace(TINY, columns=("reference",), baseline=True)
    with pytest.raises(ValueError, match="oracle judges pairs only"):
        replace(TINY, annotators=("api", "oracle"))


@pytest.mark.parametrize("baseline", [False, True])
def test_a_judge_is_given_the_columns_of_a_question_with_a_baseline_too(baseline):
    prompt = {"index": 0, "dataset": "d", "instruction": "x", "words": 3}
    prompt |= {"reference": "r", "reference_name": "b"}
    made = {"index": 0, "instruction": "x", "output": "y", "generator": "m"}
    benchmark = replace(TINY, columns=("words",), baseline=baseline)
    (row,) = annotate.rows_to_judge([prompt], [made], "g.json", benchmark, None)
    assert row["words"] == 3 and row["output_2" if baseline else "output"] == "y"
