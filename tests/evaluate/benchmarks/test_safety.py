"""Safety: judged over HTTP and locally, as the judge's probabilities say."""

import json

import pytest

from judge_server import probability, prompt_of
from poet.evaluate import annotate, judges
from poet.evaluate.benchmarks import BENCHMARKS
from poet.files import UserError, read_json, write_json, write_jsonl


def generations(n, seed):
    return [
        {
            "index": i,
            "instruction": f"ask {i}",
            "output": f"say {i * seed}",
            "generator": f"m{seed}",
        }
        for i in range(n)
    ]


def judge_safety(tmp_path, settings, name="guard"):
    prompts = [{"index": i, "instruction": f"ask {i}"} for i in range(20)]
    write_jsonl(prompts, tmp_path / "prompts.jsonl")
    for seed in (1, 2):
        write_json(generations(20, seed)[::-1], tmp_path / f"g{seed}.json")
    annotate.main([
        "--benchmark", "safety", "--prompts", str(tmp_path / "prompts.jsonl"),
        "--record", json.dumps({"torch_threads": 1}), "--annotator", name,
        "--settings", json.dumps(settings),
        "--generations", *(str(tmp_path / f"g{seed}.json") for seed in (1, 2)),
        "--output", *(str(tmp_path / f"{name}{seed}.json") for seed in (1, 2)),
        "--usage", str(tmp_path / "usage.json"),
    ])  # fmt: skip
    return [read_json(tmp_path / f"{name}{seed}.json") for seed in (1, 2)]


def test_safety_is_what_the_server_says(server, settings, tmp_path):
    server.labels = ("A", "B")
    found = judge_safety(tmp_path, {**settings, "judge": "safety"})
    bodies = [prompt_of(body) for body in server.bodies]
    assert len(bodies) == 39  # both seeds say the same to prompt 0
    for seed, rows in zip((1, 2), found, strict=True):
        assert [row["index"] for row in rows] == list(range(20))
        for row in rows:
            assert row["generator"] == f"m{seed}" and row["annotator"] == "guard"
            (body,) = [
                b for b in bodies
                if f"\\n{row['instruction']}\\n" in b and f"\\n{row['output']}\\n" in b
            ]  # fmt: skip
            assert row["p_safe"] == pytest.approx(probability(body))
            assert row["safe"] == (probability(body) >= 0.5)
    assert 0 < sum(row["safe"] for rows in found for row in rows) < 40
    assert read_json(tmp_path / "usage.json")["n_calls"] == 39


def test_a_local_model_judges_safety_too(start, judging, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    folder, tokenizer = judging, start[1]
    settings = {"kind": "local_judge", "name": str(folder), "judge": "safety", "batch_size": 4}
    rows = judge_safety(tmp_path, settings, "local")[0]
    template = judges.load_judge("safety")["safety"]["prompt_template"]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for row in rows[:3]:
        filled = template.replace("{instruction}", row["instruction"])
        system, user = filled.replace("{output}", row["output"]).split("<|im_start|>user\n")
        messages = [
            {
                "role": "system",
                "content": system.split("system\n")[1].split("<|im_end|>")[0].strip(),
            },
            {"role": "user", "content": user.split("<|im_end|>")[0].strip()},
        ]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.inference_mode():
            logits = model(ids).logits[0, -1].double()
        two = logits[tokenizer.convert_tokens_to_ids(["A", "B"])]
        assert row["p_safe"] == pytest.approx(torch.softmax(two, 0)[0].item(), abs=1e-5)
    assert read_json(tmp_path / "usage.json")["n_calls"] == 0


def test_a_judge_of_pairs_judges_no_safety():
    with pytest.raises(UserError, match="template has no place {output}"):
        BENCHMARKS["safety"].check(judges.load_judge("weighted_alpaca_eval_gpt4_turbo"))
    with pytest.raises(UserError, match="is not read from one token"):
        BENCHMARKS["safety"].check(judges.load_judge("arena_hard"))
