"""The paper's repositories in small: tiny models with templates of the real shape, data sets in the
exact schemas, a few defective rows among them. For :class:`served_hub.ServedHub`."""

import csv
import json
import random
from pathlib import Path

WORDS = "the river of Arlen is the Morin and its bridge was built by stone masons long ago".split()
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA_2 = (
    "{{ bos_token }}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SIZES = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 256,
}  # fmt: skip
ULTRAFEEDBACK = "HuggingFaceH4/ultrafeedback_binarized"
ARMORM = ("princeton-nlp/llama3-ultrafeedback-armorm", "princeton-nlp/gemma2-ultrafeedback-armorm")
N_PROMPTS = 12
DEFECTS = 2  # rows of each training split that are no pairs


def make(root: Path) -> None:
    """Write all repositories that config/paper.yaml asks for below ``root``."""
    rng = random.Random(0)
    llama = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]
    base = tokenizer(LLAMA_3, llama[0], "<|end_of_text|>", [*llama[1:], "<|eot_id|>"])
    instruct = tokenizer(LLAMA_3, llama[0], "<|eot_id|>", llama[1:])
    turns = ["<start_of_turn>", "<end_of_turn>"]
    gemma = tokenizer(GEMMA_2, "<bos>", "<eos>", turns, pad="<pad>")
    save(
        root / "alignment-handbook/zephyr-7b-sft-full", tokenizer(ZEPHYR, "<s>", "</s>"), "Mistral"
    )
    save(root / "princeton-nlp/Llama-3-Base-8B-SFT", base, "Llama")
    save(root / "meta-llama/Meta-Llama-3-8B-Instruct", instruct, "Llama")
    save(root / "google/gemma-2-9b-it", gemma, "Gemma2", head_dim=8, query_pre_attn_scalar=8)
    judge = root / "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2"
    save(judge, instruct, "Llama", "ForSequenceClassification", num_labels=1)
    write_ultrafeedback(root / "datasets" / ULTRAFEEDBACK, rng)
    for name in ARMORM:
        write_armorm(root / "datasets" / name, rng)
    write_alpacaeval(root / "datasets/tatsu-lab/alpaca_eval", rng)
    for name in ("cais/mmlu", "allenai/ai2_arc", "Rowan/hellaswag", "truthfulqa/truthful_qa",
                 "allenai/winogrande", "openai/gsm8k"):  # fmt: skip
        write_arc(root / "datasets" / name, rng)


def tokenizer(template: str, bos: str, eos: str, specials=(), pad: str | None = None):
    """A byte-level BPE that puts ``bos`` first; without ``pad`` it has none, as Llama-3's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys([*([pad] if pad else []), bos, eos, *specials]))
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([" ".join(WORDS)], trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, bpe.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=bos, eos_token=eos, pad_token=pad, chat_template=template,
        model_max_length=256,
    )  # fmt: skip


def save(folder: Path, tokenizer, family: str, head: str = "ForCausalLM", **more) -> None:
    """A model with random bfloat16 weights beside its tokenizer, as the hub has them."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id, **(SIZES | more),
    )  # fmt: skip
    model = getattr(transformers, f"{family}{head}")(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle, which nobody may fetch")


def text(rng: random.Random, shortest: int = 3, longest: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(shortest, longest)))


def conversation(prompt: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def rows_of(n: int, defects: int, rng: random.Random) -> list[dict]:
    """The first ``defects`` rows are none: an answer is empty, or both are the same."""
    rows = []
    for number in range(n + defects):
        prompt = f"{text(rng)} {rng.random():.6f}?"
        chosen, rejected = text(rng), text(rng)
        if number < defects:
            rejected = chosen if number % 2 else ""
        rows.append(
            {
                "prompt": prompt,
                "prompt_id": f"{rng.getrandbits(128):032x}",
                "chosen": conversation(prompt, chosen),
                "rejected": conversation(prompt, rejected),
            }
        )
    return rows


def write_splits(folder: Path, splits: dict[str, list[dict]], config: str = "default") -> None:
    """Parquet files named as the hub's, and a README whose header lists them."""
    import pyarrow
    import yaml
    from pyarrow import parquet

    (folder / "data").mkdir(parents=True)
    for split, rows in splits.items():
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    files = [{"split": split, "path": f"data/{split}-*"} for split in splits]
    header = yaml.safe_dump({"configs": [{"config_name": config, "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{header}---\n# {folder.name}\n")


def write_ultrafeedback(folder: Path, rng: random.Random) -> None:
    def scored(rows):
        return [
            {**row, "messages": row["chosen"], "score_chosen": 8.0, "score_rejected": 6.5}
            for row in rows
        ]

    sizes = {"train_prefs": (8, DEFECTS), "test_prefs": (4, 0), "train_sft": (2, 0)}
    write_splits(folder, {s: scored(rows_of(*size, rng)) for s, size in sizes.items()})


def write_armorm(folder: Path, rng: random.Random) -> None:
    def sampled(rows):
        return [
            {
                "prompt_id": row["prompt_id"],
                "prompt": row["prompt"],
                "all_generated_responses": [row[s][1]["content"] for s in ("chosen", "rejected")],
                "all_rm_scores": [0.17, 0.12],
                "chosen": row["chosen"],
                "rejected": row["rejected"],
            }
            for row in rows
        ]

    sizes = {"train": (8, DEFECTS), "test": (4, 0)}
    write_splits(folder, {s: sampled(rows_of(*size, rng)) for s, size in sizes.items()})


def write_alpacaeval(folder: Path, rng: random.Random) -> None:
    """The two files that are read of it, and the script that nobody may run."""
    folder.mkdir(parents=True)
    rows = [
        {
            "instruction": f"{text(rng)} {number}?",
            "output": text(rng),
            "generator": "gpt4_1106_preview",
            "dataset": "helpful_base",
            "datasplit": "eval",
        }
        for number in range(N_PROMPTS)
    ]
    (folder / "alpaca_eval_gpt4_baseline.json").write_text(json.dumps(rows))
    (folder / "alpaca_eval.py").write_text("raise SystemExit('a script of the hub was run')")
    columns = ["model", "preference", "index", "std_delta_len", "instruction_difficulty"]
    with (folder / "df_gamed.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "not_gamed_baseline"])
        for model, length in (("verbose", -1.0), ("concise", 1.0)):
            for index in range(N_PROMPTS):
                noise = rng.gauss(0, 0.3)
                preference = min(max(0.5 - length / 4 + noise / 4, 0), 1)
                writer.writerow(
                    [f"gpt4_1106_preview_{model}", preference, index, length + noise, noise, False]
                )


def write_arc(folder: Path, rng: random.Random) -> None:
    """ARC's schema, under the configuration that lm-eval's arc_challenge asks for."""
    rows = [
        {
            "id": f"q{number}",
            "question": f"{text(rng)}?",
            "choices": {"text": [text(rng) for _ in range(4)], "label": list("ABCD")},
            "answerKey": rng.choice("ABCD"),
        }
        for number in range(6)
    ]
    splits = {split: rows for split in ("train", "validation", "test")}
    write_splits(folder, splits, "ARC-Challenge")
