"""The repositories of config/small.yaml in small: each model's family, ends and chat template, and
IFEval in its schema. For :class:`served_hub.ServedHub`."""

import json
import random
from pathlib import Path

import paper_hub
from chat_tokenizers import SHIPPED, byte_level

SMOLLM2 = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OLMO2 = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{% if m.role != 'assistant' %}\n{% elif loop.last %}{{ eos_token }}"
    "{% else %}{{ eos_token }}\n{% endif %}"
    "{% if loop.last and add_generation_prompt %}<|assistant|>\n{% endif %}{% endfor %}"
)
END = "<|endoftext|>"
TASKS = ("cais/mmlu", "allenai/ai2_arc", "Rowan/hellaswag", "truthfulqa/truthful_qa",
         "allenai/winogrande", "openai/gsm8k")  # fmt: skip
# A prompt's instructions and their arguments, as IFEval has them.
IFEVAL = [
    {"punctuation:no_comma": {}},
    {"detectable_format:number_highlighted_sections": {"num_highlights": 2}},
    {"change_case:english_lowercase": {}, "startend:end_checker": {"end_phrase": "the end"}},
]


def make(root: Path) -> None:
    """Write all repositories that config/small.yaml asks for below ``root``."""
    rng, turns = random.Random(0), ["<|im_start|>"]
    smollm2 = byte_level(SMOLLM2, "<|im_start|>", "<|im_end|>", adds_bos=False)
    qwen3 = byte_level(SHIPPED["qwen3"], None, "<|im_end|>", [*turns, "<think>", "</think>", END])
    judge = byte_level(SHIPPED["qwen3_instruct_2507"], None, "<|im_end|>", [*turns, END])
    olmo2 = byte_level(OLMO2, END, END, adds_bos=False)
    instruct = byte_level(paper_hub.LLAMA_3, "<|begin_of_text|>", "<|eot_id|>")
    heads = {"hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3}
    tied = {"tie_word_embeddings": True}
    save = paper_hub.save
    save(root / "HuggingFaceTB/SmolLM2-135M-Instruct", smollm2, "Llama", **heads, **tied)
    save(root / "Qwen/Qwen3-0.6B", qwen3, "Qwen3", head_dim=16, **tied)
    save(root / "allenai/OLMo-2-0425-1B-SFT", olmo2, "Olmo2", num_key_value_heads=2)
    reward = root / "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2"
    save(reward, instruct, "Llama", "ForSequenceClassification", num_labels=1)
    long = {"head_dim": 16, "max_position_embeddings": 8192}
    save(root / "Qwen/Qwen3-4B-Instruct-2507", judge, "Qwen3", **long, **tied)
    datasets = root / "datasets"
    paper_hub.write_ultrafeedback(datasets / paper_hub.ULTRAFEEDBACK, rng)
    paper_hub.write_alpacaeval(datasets / "tatsu-lab/alpaca_eval", rng)
    for name in TASKS:
        paper_hub.write_arc(datasets / name, rng)
    write_ifeval(datasets / "google/IFEval")


def write_ifeval(folder: Path) -> None:
    """One file at the top, as the hub has it; arguments as a list beside the instructions."""
    folder.mkdir(parents=True)
    rows = [
        {"key": 1000 + i, "prompt": f"Write about the mill, {i}.",
         "instruction_id_list": [*asked], "kwargs": [*asked.values()]}
        for i, asked in enumerate(IFEVAL)
    ]  # fmt: skip
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "ifeval_input_data.jsonl").write_text(lines)
    (folder / "README.md").write_text("# IFEval\n")
