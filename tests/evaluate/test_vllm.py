"""vLLM behind its interpreter: a stand-in that is strict about its arguments, or the real one.

With POET_VLLM_PYTHON (an interpreter that has vLLM, for CPU or GPU) the same tests ask the real
engine; without it, one made of transformers takes vLLM 0.33's arguments and no others.
"""

import json
import os
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from poet.data.encoding import encode
from poet.data.templates import Chat, render_prompts
from poet.evaluate import vllm_client
from poet.evaluate.annotators.local_judge import LocalJudge
from poet.evaluate.generation import main
from poet.evaluate.sampling import sample
from poet.files import UserError, read_json, write_jsonl

STAND_IN = '''
"""The part of vLLM that poet.evaluate.vllm_worker uses, on transformers."""
from types import SimpleNamespace
import torch
from transformers import AutoModelForCausalLM

__version__ = "0.33.0"


class SamplingParams:
    def __init__(self, *, n=1, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=None,
                 stop=None, stop_token_ids=None, ignore_eos=False, max_tokens=16, detokenize=True,
                 logprobs=None, allowed_token_ids=None):
        assert not detokenize, "no tokenizer was loaded"
        self.__dict__ |= locals()


class LLM:
    def __init__(self, model, *, tokenizer=None, skip_tokenizer_init=False, dtype="auto", seed=0,
                 generation_config="auto", max_model_len=None, enforce_eager=False,
                 max_logprobs=20, logprobs_mode="raw_logprobs"):
        assert skip_tokenizer_init and generation_config == "vllm" and dtype == "bfloat16"
        self.max_logprobs, self.processed = max_logprobs, logprobs_mode == "processed_logprobs"
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    def generate(self, prompts, sampling_params):
        return [self._one(*pair) for pair in zip(prompts, sampling_params, strict=True)]

    @torch.no_grad()
    def _one(self, prompt, params):
        generator = torch.Generator().manual_seed(params.seed or 0)
        ids, new, reason, steps = prompt["prompt_token_ids"], [], "length", []
        while len(new) < params.max_tokens and reason == "length":
            logits = self.model(torch.tensor([ids + new])).logits[0, -1]
            raw = logits.clone()
            if params.allowed_token_ids is not None:
                allowed = torch.tensor(params.allowed_token_ids)
                logits = torch.full_like(logits, -torch.inf).scatter(0, allowed, logits[allowed])
            if params.logprobs:
                assert params.logprobs <= self.max_logprobs
                top = (logits if self.processed else raw).log_softmax(-1).topk(params.logprobs)
                pairs = zip(top.indices.tolist(), top.values.tolist())
                steps.append({token: SimpleNamespace(logprob=value) for token, value in pairs})
            if params.temperature:
                p = (logits / params.temperature).softmax(-1)
                new.append(torch.multinomial(p, 1, generator=generator).item())
            else:
                new.append(logits.argmax().item())
            reason = "stop" if new[-1] in (params.stop_token_ids or []) else reason
        one = SimpleNamespace(token_ids=new, finish_reason=reason, logprobs=steps or None)
        return SimpleNamespace(outputs=[one])
'''
REAL = os.environ.get("POET_VLLM_PYTHON")
PROMPTS = [[{"role": "user", "content": text}] for text in ("the river", "a", "is the Morin.")]
SAMPLING = {
    "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8, "stop_token_ids": [1], "batch_size": 4,
    "backend": "vllm", "dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    """An interpreter that finds vLLM, and only where it is started as one that is isolated."""
    if REAL:
        return REAL
    folder = tmp_path_factory.mktemp("vllm")
    (folder / "vllm.py").write_text(STAND_IN)
    script = folder / "python"
    script.write_text(
        "#!/bin/sh\n"
        '[ "$1" = -I ] || exit 9\n'
        f'shift; PYTHONPATH={folder} exec {sys.executable} -P "$@"\n'
    )
    script.chmod(0o755)
    return str(script)


@pytest.fixture(scope="module")
def model(start, tmp_path_factory):
    """The tiny model with larger weights, so that its answers differ and no two logits are near."""
    folder = tmp_path_factory.mktemp("model")
    model = AutoModelForCausalLM.from_pretrained(start[0]).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
    model.save_pretrained(folder)
    start[1].save_pretrained(folder)
    return folder, model


def program(tmp_path, model, python, seeds, later=(), **changes):
    rows = [
        {"index": i, "dataset": "d", "instruction": p[0]["content"], "prompt": p}
        | ({"turns": [p[0]["content"], *later]} if later else {})
        for i, p in enumerate(PROMPTS)
    ]
    write_jsonl(rows, tmp_path / "prompts.jsonl")
    record = {
        "setting": "s", "method": "sft", "torch_threads": 1,
        "length_policy": "keep_start", "chat_template_kwargs": {}, "generation": SAMPLING | changes,
    }  # fmt: skip
    outputs = [tmp_path / f"{seed}.json" for seed in seeds]
    main(
        ["--record", json.dumps(record), "--prompts", str(tmp_path / "prompts.jsonl")]
        + ["--models", *[str(model)] * len(seeds), "--seeds", *map(str, seeds)]
        + ["--vllm-python", python, "--summary", str(tmp_path / "summary.json")]
        + ["--output", *map(str, outputs)]
    )
    return [read_json(path) for path in outputs], read_json(tmp_path / "summary.json")


def test_greedy_answers_are_those_of_transformers(tmp_path, start, model, python):
    ids = encode(start[1], render_prompts(Chat(start[1], "keep_start", {}), PROMPTS))
    free = sample(model[1], start[1], ids, SAMPLING | {"temperature": 0}, 0, "test")
    changes = {"temperature": 0, "stop_token_ids": [1, free[0][0][4]]}
    expected = sample(model[1], start[1], ids, SAMPLING | changes, 0, "test")
    (found,), summary = program(tmp_path, model[0], python, [1], **changes)
    assert [(row["n_tokens"], row["finish_reason"]) for row in found] == [
        (len(tokens), reason) for tokens, reason in expected
    ]
    texts = [start[1].decode(tokens, skip_special_tokens=True) for tokens, _ in expected]
    assert [row["output"] for row in found] == texts
    assert {row["finish_reason"] for row in found} == {"stop", "length"}
    assert summary["runs"][0]["engine"].startswith("vllm 0.3")


def test_later_turns_are_those_of_transformers(tmp_path, start, model, python):
    changes = {"temperature": 0, "max_new_tokens": 5}
    found, _ = program(tmp_path, model[0], python, [1, 2], ["Why?"], **changes)
    chat = Chat(start[1], "keep_start", {})
    talks = [[*prompt] for prompt in PROMPTS]
    for turn in (0, 1):
        ids = encode(start[1], render_prompts(chat, talks))
        expected = sample(model[1], start[1], ids, SAMPLING | changes, 0, "test")
        made = [[row["later"][0] if turn else row for row in rows] for rows in found]
        for rows in made:
            assert [row["token_ids"] for row in rows] == [tokens for tokens, _ in expected]
        for talk, row in zip(talks, made[0], strict=True):
            talk.append({"role": "assistant", "content": row["output"]})
            talk.append({"role": "user", "content": "Why?"})


def test_all_seeds_of_a_model_share_one_call(tmp_path, model, python, monkeypatch):
    calls, call = [], vllm_client.sample
    monkeypatch.setattr(vllm_client, "sample", lambda *a: calls.append(a) or call(*a))
    (first, second), summary = program(tmp_path, model[0], python, [1, 2])
    assert len(calls) == 1 and len(summary["runs"]) == 2
    assert [row["output"] for row in first] != [row["output"] for row in second]
    (alone,), _ = program(tmp_path, model[0], python, [2])
    assert alone == second  # whichever seeds share the call


def test_the_request_says_all_that_decides_an_answer():
    sampling = SAMPLING | {"temperature": 0.9, "top_p": 0.8, "stop_token_ids": [1, 7]}
    request = vllm_client.make_request("folder", [[5], [6, 7]], sampling, [3, 4])
    assert json.loads(json.dumps(request)) == request
    assert request["engine"] == {
        "model": "folder", "dtype": "bfloat16", "skip_tokenizer_init": True,
        "generation_config": "vllm",
    }  # fmt: skip
    assert request["prompts"] == [[5], [6, 7], [5], [6, 7]]
    seeds = [each.pop("seed") for each in request["sampling"]]
    assert len(set(seeds)) == 4
    assert request["sampling"] == 4 * [
        {"temperature": 0.9, "top_p": 0.8, "max_tokens": 8, "stop_token_ids": [1, 7],
         "detokenize": False}
    ]  # fmt: skip


def test_no_interpreter_says_how_to_get_one(tmp_path, model):
    with pytest.raises(UserError, match="nowhere/python, which does not exist.*make vllm"):
        program(tmp_path, model[0], "nowhere/python", [1])


def test_an_engine_that_fails_or_loses_answers_is_an_error(tmp_path, model):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(UserError, match="exit code 3"):
        program(tmp_path, model[0], str(script), [1])
    script.write_text(
        '#!/bin/sh\necho \'{"answers": [{"token_ids": [1], "finish_reason": "abort"}], '
        '"seconds": 1, "version": "0"}\' > "$4"\n'
    )
    with pytest.raises(UserError, match=r"answered 1 of 3 prompts .* ended by \['abort'\]"):
        program(tmp_path, model[0], str(script), [1])


def test_a_judge_reads_the_same_probabilities_as_with_transformers(model, python):
    """Among its labels: what else the model would rather have said is ruled out."""
    from alpaca_eval.completion_parsers import logprob_parser

    folder = str(model[0])
    requests = [{"messages": messages} for messages in PROMPTS]
    read = {}
    for interpreter in (None, python):
        judge = LocalJudge("judge", folder, ["m", "M"], vllm_python=interpreter)
        answers = judge(requests, lambda choice: None)
        read[interpreter] = [
            logprob_parser(a["choice"], "m", ["m", "M"], is_binarize=False)[0] for a in answers
        ]
    assert read[python] == pytest.approx(read[None], abs=1e-2 if REAL else 1e-4)
    assert len({round(value, 3) for value in read[None]}) == len(PROMPTS)
