"""Files and folders of this machine: what is not there, or is something else, is named at once."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file as save

from poet import config as poet_config
from poet import local_inputs
from poet.files import UserError

ROOT = Path(__file__).parents[1]
API = {"kind": "api", "base_url": "http://x/v1", "price": {"prompt": 0, "completion": 0}}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A configuration that names every kind of local input, all of them there."""
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((ROOT / "config/own-data.yaml").read_text())
    for name in ("pairs.jsonl", "chats.jsonl", "safety.csv", "arena.jsonl", "paid.json"):
        Path(name).write_text("x\n")
    for name in ("start", "judge", "scorer"):
        Path(name).mkdir()
        Path(name, "config.json").write_text('{"id2label": {"0": "LABEL_0"}}')
        Path(name, "chat_template.jinja").write_text("{{ messages }}")
        Path(name, "tokenizer.json").write_text("{}")
        save({"weight": np.zeros(4)}, Path(name, "model.safetensors"))
    shutil.copy(ROOT / "config/judges/safety.yaml", "mine.yaml")
    shutil.copy(ROOT / "config/judges/safety.txt", "safety.txt")
    setting = config["settings"]["own"]
    setting["data"]["path"] = "pairs.jsonl"
    setting["sft"]["dataset"] = "chats.jsonl"
    setting["model"] = {"name": "start"}
    setting["annotators"] = ["scorer", "paid"]
    rows = {"path": "arena.jsonl", "column": "text", "id": "id"}
    setting["arena"] = {"annotator": "bought", "prompts": rows, "baseline": copy.deepcopy(rows)}
    setting["safety"] = {
        "annotator": "judge",
        "prompts": {"path": "safety.csv", "column": "text"},
    }
    config["annotators"] = {
        "scorer": {"kind": "reward_model", "name": "scorer"},
        "judge": {"kind": "local_judge", "name": "judge", "judge": "mine.yaml"},
        "paid": {"kind": "replay", "files": ["paid.json"]},
        "bought": {**API, "max_cost": 0, "judge": "arena_hard"},
        "unused": {"kind": "reward_model", "name": "nowhere"},
    }
    return config


def check(config):
    local_inputs.check(poet_config.load(config), "my.yaml")


def test_all_there(own):
    check(own)


def test_a_path_that_cannot_be_looked_at(own):
    setting = own["settings"]["own"]
    for section, key in (("data", "path"), ("model", "name")):
        changed = {**own, "settings": {**own["settings"], "own": copy.deepcopy(setting)}}
        changed["settings"]["own"][section][key] = f"./{'x' * 300}"
        with pytest.raises(UserError, match=f"own.{section}.{key} is ./x*: File name too long"):
            check(changed)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("pairs.jsonl", "settings.own.data.path"),
        ("chats.jsonl", "settings.own.sft.dataset"),
        ("safety.csv", "settings.own.safety.prompts.path"),
        ("arena.jsonl", "settings.own.arena.prompts.path"),
        ("paid.json", "annotators.paid.files"),
        ("start", "settings.own.model.name"),
        ("judge", "annotators.judge.name"),
        ("scorer", "annotators.scorer.name"),
    ],
)
def test_what_is_not_there_is_named_with_its_key_and_absolute_path(own, tmp_path, path, key):
    Path(path).rename("elsewhere")
    kind = "file" if "." in path else "folder"
    with pytest.raises(UserError, match=f"my.yaml: {key} is {path}: no such {kind} .{tmp_path}/"):
        check(own)


@pytest.mark.parametrize("name", ["start", "./start", "a/b/start", "/a/start", "~nobody/start"])
def test_a_models_name_that_is_neither_of_both(own, name):
    own["settings"]["own"]["model"] = {"name": name}
    Path("start").rename("elsewhere")
    with pytest.raises(UserError, match="and no hub id, which would be owner/name"):
        check(own)


@pytest.mark.parametrize("folder", ["start", "judge", "scorer"])
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "no config.json in it"),
        ("config.json", "{", "its config.json is no JSON"),
        ("config.json", "[]", "its config.json is a JSON list, expected an object"),
        ("config.json", '{"text_config": "x"}', "text_config in its config.json is no object"),
        ("generation_config.json", "[", "its generation_config.json is no JSON"),
        ("tokenizer_config.json", "3", "its tokenizer_config.json is a JSON int, expected"),
        ("tokenizer.json", None, "no tokenizer in it, neither of tokenizer.json"),
        ("model.safetensors", None, r"no \*.safetensors in it"),
        ("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("", "text", "found a file, expected a model's folder"),
    ],
)
def test_a_folder_that_is_no_model(own, folder, file, content, message):
    path = Path(folder, file)
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        check(own)
    assert folder in str(error.value)


def test_weights_that_are_not_all_there(own):
    whole = Path("start/model.safetensors").read_bytes()
    for content in (whole[:-1], whole[:50], b"", whole + b"x"):
        Path("start/model.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=f"cut off or damaged: found {len(content)} bytes"):
            check(own)
    Path("start/model.safetensors").unlink()
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    Path("start", shards[0]).write_bytes(whole)
    for listed in (None, "{}", '{"weight_map": {}}', '{"weight_map": [1]}'):
        if listed is not None:
            Path("start/model.safetensors.index.json").write_text(listed)
        with pytest.raises(UserError, match=f"no model.safetensors in it, .*; found {shards[0]}"):
            check(own)
    Path("start", shards[0]).unlink()
    index = {"weight_map": {"a": shards[0], "b": shards[1], "c": shards[1]}}
    Path("start/model.safetensors.index.json").write_text(json.dumps(index))
    Path("start", shards[0]).write_bytes(whole)
    with pytest.raises(UserError, match=f"1 of the 2 files .* the first is {shards[1]}"):
        check(own)
    Path("start", shards[1]).write_bytes(whole)
    check(own)


@pytest.mark.parametrize("folder", ["judge", "scorer"])
def test_a_judging_model_has_a_chat_template_somewhere(own, folder):
    template = Path(folder, "chat_template.jinja")
    template.unlink()
    with pytest.raises(UserError, match=f"annotators.{folder}.name is {folder}: .* chat template"):
        check(own)
    Path(folder, "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    check(own)


def test_a_local_judge_is_a_causal_model(own):
    Path("judge", "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    with pytest.raises(UserError, match="annotators.judge.name is judge: .* a causal language mod"):
        check(own)
    Path("judge", "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    check(own)


@pytest.mark.parametrize(
    ("config", "outputs"),
    [({}, 2), ({"id2label": {"0": "a", "1": "b", "2": "c"}}, 3), ({"num_labels": 1}, 1)],
)
def test_a_reward_model_has_one_output(own, config, outputs):
    """A causal model given for one would get a head of random weights."""
    Path("scorer", "config.json").write_text(json.dumps(config))
    if outputs == 1:
        return check(own)
    with pytest.raises(UserError, match=f"scorer, with {outputs} outputs; expected a reward model"):
        check(own)


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "LlamaForRewardModel", "LlamaModel"])
def test_a_reward_model_is_a_sequence_classifier(own, kind):
    """Another head has another name in the weights, and a random one would be put in its place."""
    config = {"num_labels": 1, "architectures": [kind]}
    Path("scorer", "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"scorer, whose config.json names {kind}; expected a seq"):
        check(own)
    config["architectures"] = ["LlamaForSequenceClassification"]
    Path("scorer", "config.json").write_text(json.dumps(config))
    check(own)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("prompt_template: safety.txt", "prompt_template: none.txt", "no prompt template"),
        ("  prompt_template: safety.txt\n", "", "no key prompt_template"),
        ("    model_name: gpt-4o-2024-08-06\n", "", "names no model"),
        ("safety:\n", "safety: [\n", "is not valid YAML"),
        ("max_tokens: 1", "max_tokens: 5", "expected max_tokens: 1"),
        ("openai_completions", "anthropic_completions", "expected openai_completions"),
    ],
)
def test_a_judge_that_cannot_judge_is_named_before_the_trainings(own, old, new, message):
    text = Path("mine.yaml").read_text()
    assert old in text
    Path("mine.yaml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        check(own)


@pytest.mark.parametrize(
    ("use", "judge", "message"),
    [
        ("safety", "weighted_alpaca_eval_gpt4_turbo", r"for safety: .* has no place \{output\}"),
        ("safety", "arena_hard", "for safety: judge arena_hard is not read from one token"),
        ("arena", "safety", "for arena: .* five verdicts"),
        ("annotators", "safety", r"for annotators: .* has no place \{output_1\}"),
    ],
)
def test_a_judge_that_is_asked_something_else(own, use, judge, message):
    """Each failed after the trainings, at the first answer that it was to judge."""
    setting = own["settings"]["own"]
    own["annotators"]["bought"]["judge"] = judge
    if use == "annotators":
        setting["annotators"].append("bought")
        del setting["arena"]
    elif use == "safety":
        setting["safety"]["annotator"] = "bought"
        del setting["arena"]
    with pytest.raises(UserError, match=f"annotators.bought.judge is {judge}, {message}"):
        check(own)


@pytest.mark.parametrize("judge", ["arena_hard", "alpaca_eval_gpt4", "chatgpt"])
def test_judges_that_compare_are_annotators(own, judge):
    own["annotators"]["bought"]["judge"] = judge
    own["settings"]["own"]["annotators"].append("bought")
    del own["settings"]["own"]["arena"]
    check(own)
    own["settings"]["own"]["safety"]["annotator"] = "bought"
    with pytest.raises(UserError, match=f"annotators.bought.judge is {judge}, for safety"):
        check(own)


def test_a_local_judge_reads_chat_messages(own):
    Path("safety.txt").write_text("Is {output} safe? A or B")
    with pytest.raises(UserError, match="its prompt template is no ChatML"):
        check(own)


def test_contents_of_annotators_follow_their_files(own):
    config = poet_config.load(own)["annotators"]

    def contents():
        used = list(config.values())[:4]
        return [local_inputs.content_of_annotator(each) for each in used]

    before = contents()
    assert [len(each) for each in before] == [1, 2, 1, 1]
    changes = [
        ("scorer/config.json", "LABEL_0", "LABEL"),
        ("safety.txt", "safe", "SAFE"),
        ("paid.json", "x", "y"),
    ]
    for number, (path, old, new) in enumerate(changes):
        Path(path).write_text(Path(path).read_text().replace(old, new))
        after = contents()
        assert [i for i in range(4) if after[i] != before[i]] == [number]
        before = after
    assert local_inputs.content_of_model("org/model") == local_inputs.content_of_model(None) == []
    assert json.dumps(before)
