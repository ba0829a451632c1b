"""The paper's six tasks and IFEval on local copies of their data: the lm_eval command's numbers.

The files are made here, a handful of rows each, in the hub data sets' own schema: a folder with
parquet files per configuration and split, and a README whose metadata names them. The command reads
them through a task group whose members override ``dataset_path`` (a dict override of a built-in
task is merged only there); ours through the hub ids that the tasks name.
"""

import json
import os
import random
import shutil
import subprocess
import sys

import pytest
import yaml

import small_hub
from chat_tokenizers import SHIPPED
from poet.evaluate import downstream
from poet.files import read_json

WORDS = "river stone lamp green blue seven nine tower boat cloud field bread".split()
FEWSHOT = {
    "arc_challenge": 25, "hellaswag": 10, "truthfulqa_mc2": 0, "mmlu_anatomy": 5,
    "mmlu_astronomy": 5, "winogrande": 5, "gsm8k": 5,
}  # fmt: skip
HUB = {
    "arc_challenge": "allenai/ai2_arc", "hellaswag": "Rowan/hellaswag",
    "truthfulqa_mc2": "truthfulqa/truthful_qa", "mmlu_anatomy": "cais/mmlu",
    "mmlu_astronomy": "cais/mmlu", "winogrande": "allenai/winogrande", "gsm8k": "openai/gsm8k",
}  # fmt: skip
# The leaderboard's metric of each.
METRICS = {
    "arc_challenge": "acc_norm,none", "hellaswag": "acc_norm,none", "truthfulqa_mc2": "acc,none",
    "mmlu_anatomy": "acc,none", "mmlu_astronomy": "acc,none", "winogrande": "acc,none",
    "gsm8k": "exact_match,strict-match",
}  # fmt: skip


def words(rng, n: int) -> str:
    return " ".join(rng.choices(WORDS, k=n))


def arc(rng, i):
    labels = "ABCD" if i % 3 else "1234"  # both stand in the real one
    choices = {"text": [words(rng, 1 + j % 2) for j in range(4)], "label": list(labels)}
    return {"id": f"q{i}", "question": words(rng, 5), "choices": choices,
            "answerKey": rng.choice(labels)}  # fmt: skip


def hellaswag(rng, i):
    return {
        "ind": i, "activity_label": "Cooking", "ctx_a": words(rng, 4), "ctx_b": words(rng, 2),
        "ctx": words(rng, 6), "endings": [f"{words(rng, 3)} [title] {WORDS[j]}" for j in range(4)],
        "source_id": f"s{i}", "split": "val", "split_type": "indomain",
        "label": str(rng.randrange(4)),
    }  # fmt: skip


def truthful(rng, i):
    def targets(labels):
        return {"choices": [words(rng, 3) for _ in labels], "labels": labels}

    return {"question": words(rng, 5), "mc1_targets": targets([1, 0, 0]),
            "mc2_targets": targets([1, 1, 0, 0, 0][: 4 + i % 2])}  # fmt: skip


def mmlu(rng, i):
    return {"question": f" {words(rng, 6)}", "subject": "s", "choices": [words(rng, 2)] * 3 + ["x"],
            "answer": rng.randrange(4)}  # fmt: skip


def winogrande(rng, i):
    return {"sentence": f"{words(rng, 3)} _ {words(rng, 3)}.", "option1": WORDS[i % 5],
            "option2": WORDS[5 + i % 5], "answer": str(1 + rng.randrange(2))}  # fmt: skip


def gsm8k(rng, i):
    return {"question": words(rng, 8), "answer": f"{words(rng, 4)} <<2+3=5>>\n#### 1,{i:03d}"}


# hub id -> configuration -> split -> (rows, how a row is made)
SHAPES = {
    "allenai/ai2_arc": {
        "ARC-Challenge": {"train": (30, arc), "validation": (3, arc), "test": (5, arc)}
    },
    "Rowan/hellaswag": {"default": {"train": (12, hellaswag), "validation": (5, hellaswag)}},
    "truthfulqa/truthful_qa": {"multiple_choice": {"validation": (5, truthful)}},
    "cais/mmlu": {
        subject: {"test": (5, mmlu), "validation": (2, mmlu), "dev": (5, mmlu)}
        for subject in ("anatomy", "astronomy")
    },
    "allenai/winogrande": {
        "winogrande_xl": {"train": (8, winogrande), "validation": (6, winogrande)}
    },
    "openai/gsm8k": {"main": {"train": (8, gsm8k), "test": (3, gsm8k)}},
}  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Hub id -> the folder of its local copy, as the hub has it: parquet, and README metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    home, rng, folders = tmp_path_factory.mktemp("hub"), random.Random(0), {}
    for name, configurations in SHAPES.items():
        folder, listed = home / name, []
        for configuration, splits in configurations.items():
            files = []
            for split, (n, make) in splits.items():
                path = f"{configuration}/{split}-00000-of-00001.parquet"
                (folder / configuration).mkdir(parents=True, exist_ok=True)
                table = pa.Table.from_pylist([make(rng, i) for i in range(n)])
                pq.write_table(table, folder / path)
                files.append({"split": split, "path": path})
            listed.append({"config_name": configuration, "data_files": files})
        head = yaml.safe_dump({"configs": listed})
        (folder / "README.md").write_text(f"---\n{head}---\n")
        folders[name] = str(folder)
    return folders


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model whose context holds 25 examples."""
    from poet.train.scratch import make_model, train_tokenizer

    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = train_tokenizer([" ".join(WORDS)] * 4, 320)
    model = make_model(tokenizer, shape | {"num_attention_heads": 2}, 4096, seed=0)
    for weight in model.parameters():  # as it is, nearly all choices are as likely
        weight.data.mul_(8 if weight.dim() > 1 else 1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def result(hub, model, tmp_path_factory):
    output = tmp_path_factory.mktemp("results") / "seed-1.json"
    settings = {"tasks": list(FEWSHOT), "num_fewshot": FEWSHOT, "batch_size": "auto"}
    record = {"torch_threads": 1, "downstream": settings}
    datasets = [text for name, folder in hub.items() for text in ("--dataset", name, folder)]
    downstream.main(
        ["--record", json.dumps(record), "--models", str(model), *datasets, "--output", str(output)]
    )
    return read_json(output)


def test_equals_the_lm_eval_command_on_a_group_of_local_copies(result, hub, model, tmp_path):
    members = [
        {"task": task, "dataset_path": hub[HUB[task]], "num_fewshot": n}
        for task, n in FEWSHOT.items()
    ]
    (tmp_path / "local.yaml").write_text(yaml.safe_dump({"group": "local", "task": members}))
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args",
        f"pretrained={model}", "--tasks", "local", "--include_path", str(tmp_path),
        "--batch_size", "16", "--device", "cpu", "--output_path", str(tmp_path), "--log_samples",
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    theirs = read_json(next(tmp_path.rglob("results_*.json")))
    for key in ("results", "versions", "n-shot", "n-samples", "task_hashes"):
        found = {task: value for task, value in theirs[key].items() if task != "local"}
        assert result[key] == found, key


def test_few_shot_counts_metrics_and_seeds_are_in_the_result(result):
    assert result["n-shot"] == FEWSHOT
    for task, metric in METRICS.items():
        found = result["results"][task]
        assert 0 <= found[metric] <= 1
        assert found[metric.replace(",", "_stderr,")] >= 0
        assert result["task_hashes"][task] and result["versions"][task]
    values = [result["results"][task][metric] for task, metric in METRICS.items()]
    assert len(set(values)) > 3  # the comparison with the command compares something
    assert result["config"]["fewshot_seed"] == 1234
    assert result["config"]["batch_size"] == 16  # `auto`, without a GPU
    assert result["backend"].endswith(" hf float32 cpu")


@pytest.fixture
def sentences(tmp_path, monkeypatch):
    """NLTK's model of sentences, which IFEval asks for when it is imported; here it is empty."""
    import nltk

    (tmp_path / "tokenizers" / "punkt_tab").mkdir(parents=True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])


def test_ifeval_in_the_chat_template_beside_a_task_without(
    sentences, hub, model, tmp_path, monkeypatch
):
    """One section holds both: lm-eval has one template for all tasks of a call."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    small_hub.write_ifeval(tmp_path / "ifeval")
    shutil.copytree(model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = SHIPPED["qwen3"]
    tokenizer.save_pretrained(tmp_path / "model")
    asked, loglikelihood = {}, HFLM.loglikelihood
    # To the prompts of `small_hub.IFEVAL`: as asked, as asked, one of two as asked.
    answers = ["No comma here.", "*one* and *two*", "With a Capital. the end"]

    def answered(self, requests, **how):
        asked["ifeval"] = [request.args[0] for request in requests]
        return answers

    def scored(self, requests, **how):
        asked["winogrande"] = [request.args[0] for request in requests]
        return loglikelihood(self, requests, **how)

    monkeypatch.setattr(HFLM, "generate_until", answered)
    monkeypatch.setattr(HFLM, "loglikelihood", scored)
    settings = {"tasks": ["ifeval", "winogrande"], "apply_chat_template": ["ifeval"],
                "num_fewshot": {"winogrande": 5}, "batch_size": 4}  # fmt: skip
    record = {"torch_threads": 1, "downstream": settings}
    record["chat_template_kwargs"] = {"enable_thinking": False}
    downstream.main(
        ["--record", json.dumps(record), "--models", str(tmp_path / "model"),
         "--dataset", "google/IFEval", str(tmp_path / "ifeval"),
         "--dataset", "allenai/winogrande", hub["allenai/winogrande"],
         "--output", str(tmp_path / "o.json")]
    )  # fmt: skip
    found = read_json(tmp_path / "o.json")
    assert asked["ifeval"] == [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": f"Write about the mill, {i}."}],
            tokenize=False, add_generation_prompt=True, enable_thinking=False,
        )
        for i in range(3)
    ]  # fmt: skip
    assert asked["ifeval"][0].endswith("<think>\n\n</think>\n\n")
    assert not any("<|im_start|>" in context for context in asked["winogrande"])
    ifeval = found["results"]["ifeval"]
    assert ifeval["prompt_level_strict_acc,none"] == pytest.approx(2 / 3)
    assert ifeval["inst_level_strict_acc,none"] == pytest.approx(3 / 4)
    assert found["n-shot"] == {"ifeval": 0, "winogrande": 5}
    assert set(found["task_hashes"]) == {"ifeval", "winogrande"}
    assert found["apply_chat_template"] == ["ifeval"]
