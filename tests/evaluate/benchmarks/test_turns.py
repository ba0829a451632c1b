"""A benchmark of two turns whose answers a judge grades, from its questions to its table.

It is made like MT-Bench: a grade from 1 to 10 for each answer, read from what the judge writes, and
reference answers to some questions. (MT-Bench's own code samples each category of questions at a
temperature of its own; here the setting's holds for all.)
"""

import csv
import json
import re

import numpy as np
import pytest

from judge_server import probability, prompt_of
from poet.evaluate import annotate, generation, judges, questions, summary
from poet.evaluate.benchmarks import BENCHMARKS
from poet.evaluate.benchmarks.record import Benchmark, Metric, mean
from poet.files import UserError, read_json, read_jsonl, write_json, write_jsonl
from poet.report import tables, titles

JUDGE = """
grader:
  prompt_template: grader.txt
  fn_completions: openai_completions
  completions_kwargs: {model_name: grader, max_tokens: 512, temperature: 0}
"""
TEMPLATE = "<|im_start|>user\nGrade the last answer, like [[5]].\n{conversation}\n<|im_end|>\n"


def read_grade(choice):
    found = {float(text) for text in re.findall(r"\[\[(\d+)\]\]", judges.text_of(choice))}
    if len(found) != 1 or not 1 <= min(found) <= 10:
        raise ValueError(f"expected one grade from 1 to 10, found {sorted(found)}")
    return found.pop()


def conversation(row, turn):
    said = zip(row["turns"][: turn + 1], row["outputs"], strict=False)
    parts = [f"User: {asked}\nAssistant: {answer}" for asked, answer in said]
    known = (row["reference"] or [])[turn : turn + 1]
    return "\n".join([*(f"Reference: {text}" for text in known), *parts])


def grade_answers(rows, configs, ask):
    texts = [(conversation(row, turn),) for row in rows for turn in (0, 1)]
    found = judges.ask_once(configs, ask, texts, ("conversation",), read_grade)
    return [
        {
            "grades": [read_grade(answer["choice"]) for answer in both],
            "answers": [*map(judges.answer_columns, both)],
        }
        for both in zip(found[::2], found[1::2], strict=True)
    ]


def graded_mean(value):
    return lambda verdicts: mean(verdicts, lambda verdict: value(verdict["grades"]))


BOUNDS = (1.0, 10.0)
METRICS = {
    "tiny_score": lambda grades: sum(grades) / 2,
    "first_turn": lambda grades: grades[0],
    "second_turn": lambda grades: grades[1],
}
TINY = Benchmark(
    name="tiny_mt_bench",
    title="Tiny MT-Bench",
    measures="the grades from 1 to 10 of the answers",
    judge=grade_answers,
    verdict=("grades",),
    metrics=tuple(Metric(name, graded_mean(of), bounds=BOUNDS) for name, of in METRICS.items()),
    annotators=("api",),
    places=("conversation",),
    calls=2,
    turns=2,
    columns=("reference",),
    unit="points",
)
GRADES = [str(grade) for grade in range(1, 11)]
QUESTIONS = [
    {
        "question_id": i,
        "turns": [f"Name river {i}.", "Its town?"],
        "reference": ["The Morin.", "Arlen."] if i % 2 else None,
    }
    for i in range(6)
]


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.setitem(BENCHMARKS, TINY.name, TINY)
    monkeypatch.setitem(titles.TITLES, TINY.name, (TINY.title, TINY.name))
    (tmp_path / "grader.yaml").write_text(JUDGE)
    (tmp_path / "grader.txt").write_text(TEMPLATE)


@pytest.fixture
def prompts(tmp_path):
    write_jsonl(QUESTIONS, tmp_path / "q.jsonl")
    rows = {"path": str(tmp_path / "q.jsonl"), "column": "turns", "id": "question_id"}
    output = tmp_path / "prompts.jsonl"
    questions.main([TINY.name, "--prompts", json.dumps(rows), "--output", str(output)])
    return output


def answers(tmp_path, start, prompts, method, seeds):
    record = {
        "setting": "s", "method": method, "torch_threads": 1, "length_policy": "keep_start",
        "generation": {
            "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8, "batch_size": 4,
            "stop_token_ids": [1], "backend": "transformers",
        },
    }  # fmt: skip
    files = [str(tmp_path / f"answers-{method}-{seed}.json") for seed in seeds]
    generation.main([
        "--record", json.dumps(record), "--prompts", str(prompts),
        "--models", *[str(start[0])] * len(seeds), "--seeds", *map(str, seeds),
        "--output", *files, "--summary", str(tmp_path / "made.json"),
    ])  # fmt: skip
    return files


def judged(tmp_path, settings, prompts, method, files):
    out = [str(tmp_path / f"verdicts-{method}-{n}.json") for n in range(len(files))]
    annotate.main([
        "--benchmark", TINY.name, "--record", '{"torch_threads": 1}', "--annotator", "grader",
        "--settings", json.dumps(settings), "--prompts", str(prompts), "--generations", *files,
        "--output", *out, "--usage", str(tmp_path / "usage.json"),
    ])  # fmt: skip
    return out


def test_from_questions_of_two_turns_to_a_table(server, settings, start, prompts, tmp_path):
    assert read_jsonl(prompts)[1] == {
        "index": 1, "dataset": "q.jsonl", "instruction": "Name river 1.",
        "prompt": [{"role": "user", "content": "Name river 1."}],
        "turns": ["Name river 1.", "Its town?"], "reference": ["The Morin.", "Arlen."],
    }  # fmt: skip
    server.verdicts = GRADES
    settings |= {"judge": str(tmp_path / "grader.yaml")}
    values, flags = {}, []
    for method, seeds in {"dpo": (1, 2), "dpo-poet": (3, 4)}.items():
        files = answers(tmp_path, start, prompts, method, seeds)
        verdicts = judged(tmp_path, settings, prompts, method, files)
        flags += ["--method", method, *verdicts]
        found = [read_json(file) for file in verdicts]
        for rows, made in zip(found, map(read_json, files), strict=True):
            for row, answer in zip(rows, made, strict=True):
                (later,) = answer["later"]
                assert row["outputs"] == [answer["output"], later["output"]]
                assert row["turns"] == QUESTIONS[row["index"]]["turns"]
        values[method] = np.array([[row["grades"] for row in rows] for rows in found])
    # Every grade is what the server said of a conversation up to that answer.
    said = {
        body["messages"][0]["content"].partition("\n")[2]: probability(prompt_of(body))
        for body in server.bodies
    }
    for row in read_json(verdicts[0])[:2]:
        first, second = row["outputs"]
        talk = f"User: {row['instruction']}\nAssistant: {first}"
        texts = [talk, f"{talk}\nUser: Its town?\nAssistant: {second}"]
        if row["index"] % 2:
            texts = [f"Reference: The Morin.\n{texts[0]}", f"Reference: Arlen.\n{texts[1]}"]
        assert row["grades"] == [float(GRADES[int(10 * said[text.strip()])]) for text in texts]
    asked = {a["request"] for file in verdicts for row in read_json(file) for a in row["answers"]}
    assert read_json(tmp_path / "usage.json")["n_calls"] == len(asked)

    output = str(tmp_path / "summary.json")
    named = ["--setting", "s", "--annotator", "grader", "--gain", "dpo-poet", "dpo"]
    summary.main([TINY.name, *flags, *named, "--output", output])
    reported = tmp_path / "reported.csv"
    reported.write_text("table,setting,method,metric,value\nt,s,dpo,tiny_score,7.1\n")
    shown = [str(tmp_path / f"t.{ext}") for ext in ("csv", "md")]
    tables.main([TINY.name, "--summaries", output, "--reported", str(reported), "--output", *shown])
    with open(shown[0]) as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    whole, first, second = (
        each.mean() for each in (values["dpo"], *np.moveaxis(values["dpo"], -1, 0))
    )
    means = {"tiny_score": whole, "first_turn": first, "second_turn": second}
    assert {name: rows["dpo"][name] for name in means} == {
        name: f"{value:.4f}" for name, value in means.items()
    }
    gain = values["dpo-poet"].mean() - whole
    assert float(rows["dpo-poet"]["gain"]) == pytest.approx(gain, abs=1e-4)
    assert rows["dpo"]["paper"] == "7.1"
    assert 1 <= float(rows["dpo"]["ci_low"]) < float(rows["dpo"]["ci_high"]) <= 10
    text = (tmp_path / "t.md").read_text()
    assert "Points, one row per setting" in text and "ercent" not in text


@pytest.mark.parametrize("turns", ["one", ["one"], ["one", "two", "three"], ["one", ""]])
def test_a_question_of_another_number_of_turns_is_named(tmp_path, turns):
    rows = [QUESTIONS[0], {**QUESTIONS[1], "turns": turns}]
    write_jsonl(rows, tmp_path / "q.jsonl")
    given = json.dumps({"path": str(tmp_path / "q.jsonl"), "column": "turns"})
    with pytest.raises(UserError, match="row 1, column turns(: found .*, expected 2| is empty)"):
        questions.main([TINY.name, "--prompts", given, "--output", "unused"])


def test_answers_of_one_turn_and_other_judges_are_refused(settings, prompts, tmp_path):
    rows = [
        {"index": i, "instruction": q["turns"][0], "output": "a", "generator": "m"}
        for i, q in enumerate(QUESTIONS)
    ]
    write_json(rows, tmp_path / "one.json")
    settings |= {"judge": str(tmp_path / "grader.yaml")}
    with pytest.raises(UserError, match="row 0: no later; found index"):
        judged(tmp_path, settings, prompts, "m", [str(tmp_path / "one.json")])
    write_json([row | {"later": [{"output": "b"}]} for row in rows], tmp_path / "two.json")
    with pytest.raises(UserError, match="no place {conversation}; expected those of tiny_mt_bench"):
        two = [str(tmp_path / "two.json")]
        judged(tmp_path, settings | {"judge": "arena_hard"}, prompts, "m", two)
