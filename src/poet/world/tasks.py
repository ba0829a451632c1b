"""The embedded world's downstream tasks, as YAML and data that lm-eval reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from poet.files import write_jsonl
from poet.world.language import ARTICLES, TRUTH, VALUES, neighbour

WORLD_TASKS = ("world_choice", "world_answer")  # names, as lm-eval knows them
# Braces are doubled once for str.format; "{{{{" ends as Jinja's "{{".
_TASK = """\
task: {name}
tag: world
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
doc_to_text: "{{{{text}}}}"
{answer}
metric_list: [{{metric: {metric}, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""
_CHOICE = """\
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: gold"""
_ANSWER = """\
output_type: generate_until
doc_to_target: "{{value}}"
generation_kwargs: {until: ["."], do_sample: false, max_gen_toks: 16}
filter_list: [{name: strip, filter: [{function: remove_whitespace}, {function: take_first}]}]"""


def write_tasks(folder: Path, home: Path) -> None:
    """Write the lm-eval tasks :data:`WORLD_TASKS` to ``folder``, later ``home``.

    Both ask for every fact of the gazetteer once, as completions of a sentence of the corpus.
    """
    rng, choice, answer = np.random.default_rng(0), [], []
    for town, facts in TRUTH.items():
        for attribute, value in facts.items():
            question = f"Question: What is the {attribute} of {town}?\nAnswer:"
            text = f"{question} The {attribute} of {town} is {ARTICLES.get(attribute, '')}".rstrip()
            mistaken = TRUTH[neighbour(town)][attribute]
            others = [each for each in VALUES[attribute] if each not in (value, mistaken)]
            options = [value, mistaken, *rng.choice(others, 2, replace=False).tolist()]
            options = rng.permutation(options).tolist()
            choice.append({"text": text, "choices": options, "gold": options.index(value)})
            answer.append({"text": text, "value": value})
    made = (choice, _CHOICE, "acc"), (answer, _ANSWER, "exact_match")
    for name, (rows, how, metric) in zip(WORLD_TASKS, made, strict=True):
        write_jsonl(rows, folder / f"{name}.jsonl")
        path = json.dumps(str(home / f"{name}.jsonl"))  # a quoted YAML string, too
        task = _TASK.format(name=name, rows=path, answer=how, metric=metric)
        (folder / f"{name}.yaml").write_text(task)
