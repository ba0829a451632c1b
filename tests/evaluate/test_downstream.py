"""Downstream results against plain transformers; test_leaderboard_tasks has the command."""

import json
import re
import shutil

import pytest

from poet.evaluate import downstream
from poet.files import UserError, read_json, write_jsonl

WORDS = "river stone lamp green blue seven nine tower boat cloud field bread".split()
CHOICES = [
    {"question": f"the {a} of the {b}", "choices": [c, f"{d} {a}", b], "answer": i % 3}
    for i, (a, b, c, d) in enumerate(zip(WORDS, WORDS[1:], WORDS[2:], WORDS[3:], strict=False))
]
CHOICE_YAML = """\
task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/tiny_choice.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""
ANSWER_YAML = """\
task: tiny_answer
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/tiny_answer.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}:"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], do_sample: false, max_gen_toks: 4}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""
GROUP_YAML = """\
group: tiny_group
task: [tiny_choice]
aggregate_metric_list: [{metric: acc}]
metadata: {version: 1.0}
"""


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<pad>", "<s>", "</s>"])
    tokenizer.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=128, initializer_range=0.3,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain(model_folder):
    """(log-probability of a continuation, greedy continuation), by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)

    def logp(context, continuation):
        n = len(tokenizer(context).input_ids)
        ids = torch.tensor([tokenizer(context + continuation).input_ids])
        with torch.inference_mode():
            logits = model(ids).logits[0, :-1].log_softmax(-1)
        return logits.gather(1, ids[0, 1:, None])[n - 1 :].sum().item()

    def greedy(context, tokens=4):
        ids = torch.tensor([tokenizer(context).input_ids])
        n = ids.shape[1]
        for _ in range(tokens):
            with torch.inference_mode():
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
            if ids[0, -1] == tokenizer.eos_token_id:
                break
        return tokenizer.decode(ids[0, n:], skip_special_tokens=True).split("\n")[0]

    return logp, greedy


@pytest.fixture(scope="module")
def tasks(tmp_path_factory, plain):
    folder = tmp_path_factory.mktemp("tasks")
    greedy = plain[1]
    questions = [" ".join(pair) for pair in zip(WORDS, WORDS[2:], strict=False)]
    # Every third answer is what the untrained model says, so that the share is neither 0 nor 1.
    answers = [
        {"question": q, "answer": greedy(f"{q}:") if i % 3 == 0 else "lamp"}
        for i, q in enumerate(questions)
    ]
    write_jsonl(CHOICES, folder / "tiny_choice.jsonl")
    write_jsonl(answers, folder / "tiny_answer.jsonl")
    (folder / "tiny_choice.yaml").write_text(CHOICE_YAML.format(folder=folder))
    (folder / "tiny_answer.yaml").write_text(ANSWER_YAML.format(folder=folder))
    (folder / "tiny_group.yaml").write_text(GROUP_YAML)
    return folder, answers


def record(**changes) -> str:
    settings = {
        "tasks": ["tiny_choice", "tiny_answer"],
        "num_fewshot": {},
        "batch_size": 4,
    }
    return json.dumps({"torch_threads": 1, "downstream": settings | changes})


def run(model, folder, outputs, **changes):
    downstream.main(
        ["--record", record(**changes), "--models", *[str(model)] * len(outputs),
         "--tasks-dir", str(folder), "--output", *map(str, outputs)]
    )  # fmt: skip
    return [read_json(output) for output in outputs]


@pytest.fixture(scope="module")
def result(model_folder, tasks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    first, second = run(model_folder, tasks[0], [folder / "1.json", folder / "2.json"])
    assert first == second  # the same folder twice, as for `sft`
    return first


def test_numbers_equal_plain_transformers(result, tasks, plain):
    logp, greedy = plain
    hits = []
    for row in CHOICES:
        scores = [logp(f"{row['question']}:", f" {choice}") for choice in row["choices"]]
        hits.append(scores.index(max(scores)) == row["answer"])
    acc = sum(hits) / len(hits)
    assert 0 < acc < 1
    assert result["results"]["tiny_choice"]["acc,none"] == pytest.approx(acc)
    stderr = (acc * (1 - acc) / (len(hits) - 1)) ** 0.5
    assert result["results"]["tiny_choice"]["acc_stderr,none"] == pytest.approx(stderr)
    exact = [greedy(f"{row['question']}:") == row["answer"] for row in tasks[1]]
    assert 0 < sum(exact) < len(exact)
    found = result["results"]["tiny_answer"]["exact_match,none"]
    assert found == pytest.approx(sum(exact) / len(exact))


def test_the_file_names_its_origin_and_holds_no_samples(result):
    assert result["record"]["downstream"]["batch_size"] == 4
    assert result["provenance"]["versions"]["lm_eval"]
    assert result["n-samples"]["tiny_choice"] == {"original": 9, "effective": 9}
    assert not {"samples", "pretty_env_info", "date"} & set(result)


def test_examples_in_the_prompt(result, model_folder, tasks, tmp_path):
    (other,) = run(
        model_folder, tasks[0], [tmp_path / "o.json"],
        tasks=["tiny_choice"], num_fewshot={"tiny_choice": 2},
    )  # fmt: skip
    assert list(other["results"]) == ["tiny_choice"]
    assert other["n-shot"]["tiny_choice"] == 2
    assert other["task_hashes"] != {"tiny_choice": result["task_hashes"]["tiny_choice"]}


def test_examples_asked_for_a_group_reach_its_tasks(model_folder, tasks, tmp_path):
    (found,) = run(
        model_folder, tasks[0], [tmp_path / "o.json"],
        tasks=["tiny_group"], num_fewshot={"tiny_group": 3},
    )  # fmt: skip
    assert found["n-shot"] == {"tiny_choice": 3, "tiny_group": 3}
    assert found["results"]["tiny_group"]["acc,none"] == found["results"]["tiny_choice"]["acc,none"]


TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} {{ tone }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {{ strftime_now('%d %b') }}{% endif %}"
)


def test_tasks_are_asked_in_the_chat_template(model_folder, tasks, plain, tmp_path, monkeypatch):
    """With the setting's variables and day, as training and generation have them."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    shutil.copytree(model_folder, tmp_path / "model")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "model")
    asked, loglikelihood = [], HFLM.loglikelihood

    def recorded(self, requests, **how):
        asked.extend(request.args for request in requests)
        return loglikelihood(self, requests, **how)

    monkeypatch.setattr(HFLM, "loglikelihood", recorded)
    chat = {"apply_chat_template": True, "system_instruction": "river stone"}
    given = json.loads(record(tasks=["tiny_choice"], **chat))
    given["chat_template_kwargs"] = {"tone": "calm", "strftime_now": "2024-02-01"}
    downstream.main(
        ["--record", json.dumps(given), "--models", str(tmp_path / "model"),
         "--tasks-dir", str(tasks[0]), "--output", str(tmp_path / "o.json")]
    )  # fmt: skip
    found = read_json(tmp_path / "o.json")
    assert found["apply_chat_template"] is True and found["system_instruction"] == "river stone"
    contexts = [
        f"system river stone calm user {row['question']}: calm assistant 01 Feb" for row in CHOICES
    ]
    logp, hits = plain[0], []
    for row, context in zip(CHOICES, contexts, strict=True):
        texts = [text for _, text in sorted({a for a in asked if a[0] == context})]
        assert sorted(text.strip() for text in texts) == sorted(row["choices"])
        best = max(texts, key=lambda text: logp(context, text))
        hits.append(best.strip() == row["choices"][row["answer"]])
    assert len(asked) == 3 * len(CHOICES)
    assert found["results"]["tiny_choice"]["acc,none"] == pytest.approx(sum(hits) / len(hits))


@pytest.mark.parametrize(
    "changes", [{"tasks": ["tiny_chioce"]}, {"num_fewshot": {"tiny_chioce": 1}}]
)
def test_unknown_task_is_named_with_the_known_ones(model_folder, tasks, tmp_path, changes):
    with pytest.raises(UserError, match=r"tiny_chioce; expected among: .*tiny_choice"):
        run(model_folder, tasks[0], [tmp_path / "o.json"], **changes)


def test_missing_model_is_named(tasks, tmp_path):
    with pytest.raises(UserError, match=re.escape(f"{tmp_path} is no model folder")):
        run(tmp_path, tasks[0], [tmp_path / "o.json"])
