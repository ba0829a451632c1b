"""What a configuration names on this machine: any change of it re-runs what reads it, nothing else.

Paths may have braces, quotes, blanks and dollars in them. Mostly dry runs of the real Snakemake.
"""

import copy
import json
import os
import re
import shlex
import shutil

import pytest
import yaml

from poet.files import read_json

ODD = 'br{x} {setting} it\'s $HOME; "a" & b'
JUDGE = {
    "mine": {
        "prompt_template": "template.txt",
        "fn_completions": "openai_completions",
        "completions_kwargs": {"model_name": "m", "max_tokens": 1, "logprobs": True},
        "fn_completion_parser": "logprob_parser",
        "completion_parser_kwargs": {"numerator_token": "m", "denominator_tokens": ["m", "M"]},
        "completion_key": "completions_all",
        "batch_size": 1,
    }
}


def pairs(n=80, word="ink"):
    rows = [
        {"prompt": f"Name thing {i}.", "chosen": f"A {word} pot {i}.", "rejected": f"A box {i}."}
        for i in range(n)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def odd(tmp_path):
    """A folder that shells and Snakemake would read much into."""
    folder = tmp_path / ODD
    folder.mkdir()
    (folder / "pairs.jsonl").write_text(pairs())
    return folder


def same_time_other_content(path, content: bytes):
    """Change a file in place; size, time of change and inode stay."""
    found = path.stat()
    assert len(content) == found.st_size and content != path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def rules(result) -> set[str]:
    """The rules whose jobs a dry run lists."""
    assert result.returncode == 0, result.stderr[-3000:] + result.stdout[-3000:]
    return set(re.findall(r"^(?:local)?rule (\w+):", result.stdout + result.stderr, re.M))


def test_pairs_and_model_in_an_odd_folder_and_changed_there(
    workflow, own_model_config, odd, chat_model
):
    model = odd / "model"
    shutil.copytree(chat_model, model)
    run = workflow(own_model_config)
    target = "results/data/own/tokens.parquet"
    given = ("--config", f"pairs={odd}/pairs.jsonl", f"model={model}", "--", target)
    first = run(*given, "results/analysis/own/diagnosis.json")
    assert first.returncode == 0, first.stderr[-3000:]
    assert read_json(run.folder / "results/analysis/own/diagnosis.json")["unit"] == "tokens"
    again = ("-n", *given)
    # A newer time alone is no change.
    for path in (odd / "pairs.jsonl", *model.iterdir()):
        path.touch()
    assert rules(run(*again)) == set()
    weights = (model / "model.safetensors").read_bytes()
    same_time_other_content(model / "model.safetensors", weights[:-1] + bytes([weights[-1] ^ 1]))
    assert rules(run(*again)) == {"take_model", "tokenize"}
    (model / "model.safetensors").write_bytes(weights)
    # Replaced by an older file, as `cp -p` and `git checkout` do.
    (odd / "older.jsonl").write_text(pairs(75))
    os.utime(odd / "older.jsonl", (1e9, 1e9))
    os.replace(odd / "older.jsonl", odd / "pairs.jsonl")
    assert rules(run(*again)) == {"load", "tokenize"}
    assert run(*given).returncode == 0
    assert read_json(run.folder / "results/data/own/summary.json")["rows"] == 75
    # A limit that is only checked against the model re-runs nothing.
    own_model_config["settings"]["own"]["generation"]["max_new_tokens"] += 1
    assert rules(workflow(own_model_config)(*again)) == set()
    # A model that is taken as it is has no seed and no threads.
    own_model_config |= {"seeds": [0, 1], "torch_threads": 1}
    assert rules(workflow(own_model_config)(*again)) == set()


def test_chats_and_questions_in_an_odd_folder_and_changed_there(workflow, own_config, odd):
    chats = {"messages": [{"role": r, "content": "The Morin."} for r in ("user", "assistant")]}
    (odd / "chats.jsonl").write_text((json.dumps(chats) + "\n") * 4)
    (odd / "questions.csv").write_text("text\nWho are you?\n")
    own_config["settings"]["own"]["sft"]["dataset"] = f"{odd}/chats.jsonl"
    own_config["settings"]["own"]["safety"] = {
        "annotator": "safe", "prompts": {"path": f"{odd}/questions.csv", "column": "text"}
    }  # fmt: skip
    own_config["annotators"]["safe"] = {
        "kind": "api", "judge": "safety", "base_url": "http://127.0.0.1:1/v1",
        "price": {"prompt": 0, "completion": 0}, "max_cost": 0,
    }  # fmt: skip
    run = workflow(own_config)
    targets = ("results/data/own/chats.parquet", "results/safety/own/prompts.jsonl")
    given = ("--config", f"pairs={odd}/pairs.jsonl", "--", *targets)
    first = run(*given)
    assert first.returncode == 0, first.stderr[-3000:]
    assert rules(run("-n", *given)) == set()
    for name, old, new in (("questions.csv", b"you", b"we?"), ("chats.jsonl", b"Mor", b"Mar")):
        same_time_other_content(odd / name, (odd / name).read_bytes().replace(old, new))
    assert rules(run("-n", *given)) == {"read_questions", "load_chats"}


def test_an_annotators_files_in_an_odd_folder_and_changed_there(
    workflow, small_config, odd, chat_model
):
    shutil.copytree(chat_model, odd / "model")
    (odd / "judge.yaml").write_text(yaml.safe_dump(JUDGE))
    (odd / "template.txt").write_text("<|im_start|>user\nm: {output_1} M: {output_2}\n<|im_end|>\n")
    texts = {"instruction": "Name a river.", "dataset": "d", "index": 0}
    who = {"annotator": "someone", "generator_1": "r", "generator_2": "g"}
    paid = {**texts, **who, "output_1": "The Morin.", "output_2": "A lake.", "preference": 1.2}
    (odd / "paid.json").write_text(json.dumps([paid]))
    local = {"kind": "local_judge", "name": f"{odd}/model", "judge": f"{odd}/judge.yaml"}
    small_config = copy.deepcopy(small_config) | {"seeds": [1]}
    small_config["annotators"] |= {
        "local": local,
        "paid": {"kind": "replay", "files": [f"{odd}/paid.json"]},
    }
    small_config["settings"]["world"]["annotators"] = ["oracle", "local", "paid"]
    run = workflow(small_config)
    prompt = [{"role": "user", "content": "Name a river."}]
    for path, rows in (
        ("data/world/prompts.jsonl", {**texts, "prompt": prompt, "reference": "The Morin."}),
        ("generations/world/sft/seed-1.json", [{**texts, "output": "A lake.", "generator": "g"}]),
    ):
        (run.folder / "results" / path).parent.mkdir(parents=True)
        (run.folder / "results" / path).write_text(json.dumps(rows))
    # What others would make of it lies there, made by hand.
    only = ("--allowed-rules", "annotate", "--")
    usage = {n: f"results/annotations/world/{n}/sft/usage.json" for n in ("local", "paid")}
    first = run(*only, *usage.values())
    assert first.returncode == 0, first.stderr[-3000:]
    # A comment is no change to a judge, who is compared as it is read.
    (odd / "judge.yaml").write_text("# mine\n" + yaml.safe_dump(JUDGE))
    assert rules(run("-n", *only, *usage.values())) == set()
    for name, file, old, new in (
        ("local", "template.txt", b"M: ", b"M = "),
        ("local", "model/config.json", b"1024", b"1023"),
        ("paid", "paid.json", b"1.2", b"1.3"),
    ):
        text = (odd / file).read_bytes()
        assert old in text
        (odd / file).write_bytes(text.replace(old, new))
        result = run("-n", *only, *usage.values())
        assert rules(result) == {"annotate"} and f"annotator={name}" in result.stdout
        (odd / file).write_bytes(text)


def test_vllms_interpreter_in_an_odd_folder_is_one_word(workflow, own_config, odd):
    own_config |= {"vllm_python": f"{odd}/bin/python", "lock": f"{odd}/lock.yaml"}
    own_config["settings"]["own"]["generation"]["backend"] = "vllm"
    run = workflow(own_config)
    target = "results/generations/own/sft/summary.json"
    result = run("-n", "-p", "--config", f"pairs={odd}/pairs.jsonl", "--", target)
    assert result.returncode == 0, result.stderr
    (command,) = [line for line in result.stdout.splitlines() if "poet.evaluate.generation" in line]
    words = shlex.split(command)
    assert words[words.index("--vllm-python") + 1] == f"{odd}/bin/python"
