"""A small embedded world with the tokenizer of its corpus, and its average writer as a sampler."""

import re
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from poet.data import tokenization
from poet.files import write_json
from poet.train.scratch import train_tokenizer
from poet.world import simulate as world
from poet.world.language import TRUTH, VALUES, neighbour, read_instruction

LIMITS = {"max_length": 256, "max_prompt_length": 128, "length_policy": "keep_start"}
LIMITS |= {"chat_template_kwargs": {}, "bad_rows": "error"}


@pytest.fixture(scope="session")
def early(tmp_path_factory):
    """Files of the early world (400 training pairs, 200 held out), tokens, and the tokenizer."""
    folder = tmp_path_factory.mktemp("early")
    data = {"kind": "world", "variant": "early", "seed": 0}
    sizes = {"sft_examples": 300, "pairs": 400, "test_pairs": 200, "prompts": 20}
    write_json({"data": {**data, **sizes}}, folder / "record.json")
    names = {"pairs": "parquet", "corpus": "parquet", "prompts": "jsonl", "gamed": "csv"}
    files = {name: folder / f"{name}.{ending}" for name, ending in names.items()}
    flags = [f"--{name}={path}" for name, path in {**files, "tasks": folder / "tasks"}.items()]
    world.main(["--record", str(folder / "record.json"), *flags])
    corpus = pq.read_table(files["corpus"]).to_pylist()
    texts = (m["content"] for row in corpus for m in row["prompt"] + row["completion"])
    tokenizer = train_tokenizer(texts, 640)
    files["tokens"] = folder / "tokens.parquet"
    record = {"setting": "world", **LIMITS}
    tokenization.tokenize_file(files["pairs"], files["tokens"], tokenizer, record)
    return SimpleNamespace(**files, tokenizer=tokenizer, data={**data, **sizes})


class Writer:
    """Stands in for the start model: goes on as a writer of the world does, sentence by sentence.

    A fact whose value is not yet written is drawn by the variant's chain; everything else of the
    sentence is as in the response that the prefix was taken from. What is still asked for follows,
    one short sentence each.
    """

    def __init__(self, tokenizer, responses, variant="early", writer="average", seed=0):
        self.tokenizer, self.responses = tokenizer, responses
        self.variant, self.shift = world.VARIANTS[variant], world.WRITERS[writer]
        self.rng = np.random.default_rng(seed)

    def sample(self, model, tokenizer, ids, sampling, seed, label):
        return [(self.go_on(sequence), "stop") for sequence in ids]

    def go_on(self, sequence):
        text = self.tokenizer.decode(sequence)
        parts = re.fullmatch(r"<\|user\|>(.*)<\|end\|><\|assistant\|>(.*)", text, re.S)
        asked, begun = parts.groups()
        (whole, *_) = [t for t in self.responses[asked] if t.startswith(begun)]
        rest = self.finish(asked, begun, whole)
        return self.tokenizer(rest)["input_ids"] + [self.tokenizer.eos_token_id]

    def finish(self, instruction, begun, whole):
        town, asked = read_instruction(instruction)
        wrong, done, end = False, 0, 0
        for match in re.finditer(r"[^.]*\.", whole):
            sentence, end = match.group(), match.end()
            attribute = next((w for w in re.findall(r"\w+", sentence) if w in VALUES), None)
            if match.end() <= len(begun.rstrip()):  # written already
                if attribute:
                    wrong = re.findall(r"\w+", sentence)[-1] != TRUTH[town][attribute]
                    done += 1
                continue
            if match.start() >= len(begun):  # not begun
                end = match.start()
                break
            value_at = match.start() + re.search(r"\w+\.$", sentence).start()
            if attribute and len(begun) <= value_at:
                wrong, value = self.value(town, attribute, done, len(asked), wrong)
                done += 1
                return (
                    whole[len(begun) : value_at]
                    + value
                    + "."
                    + self.others(town, asked, done, wrong)
                )
            if attribute:  # the value is there, or begun
                wrong = re.findall(r"\w+", sentence)[-1] != TRUTH[town][attribute]
                done += 1
            break
        return whole[len(begun) : end] + self.others(town, asked, done, wrong)

    def value(self, town, attribute, done, total, wrong):
        chance = world.mistake_chance(self.variant, self.shift, done, total, wrong)
        wrong = bool(self.rng.random() < chance)
        return wrong, TRUTH[neighbour(town) if wrong else town][attribute]

    def others(self, town, asked, done, wrong):
        text = ""
        for index in range(done, len(asked)):
            wrong, value = self.value(town, asked[index], index, len(asked), wrong)
            article = "the " if asked[index] in ("river", "bird") else ""
            text += f" Its {asked[index]} is {article}{value}."
        return text


@pytest.fixture(scope="session")
def responses(early):
    """Instruction -> the two whole responses of its pair."""
    rows = pq.read_table(early.pairs).to_pylist()
    sides = ("chosen", "rejected")
    return {row["prompt"][0]["content"]: [row[s][0]["content"] for s in sides] for row in rows}


@pytest.fixture
def average_writer(early, responses):
    """Make a Writer of the early world."""
    return lambda **changes: Writer(early.tokenizer, responses, **changes)


@pytest.fixture(scope="session")
def models(early, tmp_path_factory):
    """Folders by method: a tiny start model, and stand-ins for trained ones a step away."""
    import torch

    from poet.train.scratch import make_model

    folder = tmp_path_factory.mktemp("models")
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    found = {"sft": [folder / "sft"]}
    start = make_model(early.tokenizer, shape, 256, seed=0)
    choices = {"dpo": ("dpo", 0.1), "dpo-poet": ("dpo", 0.1), "simpo": ("simpo", 2.0)}
    with torch.no_grad():
        for weight in start.parameters():
            weight.mul_(4)  # so that its distributions differ from token to token
    start.save_pretrained(found["sft"][0])
    for seed, (method, (objective, beta)) in enumerate(choices.items()):
        found[method] = [folder / method / f"seed-{n}" for n in (1, 2)]
        for n, path in enumerate(found[method]):
            torch.manual_seed(10 * seed + n)
            model = make_model(early.tokenizer, shape, 256, seed=0)
            model.load_state_dict(start.state_dict())
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(0.02 * torch.randn_like(weight))
            model.save_pretrained(path)
            write_json(
                {"record": {"objective": objective, "parameters": {"beta": beta}}},
                path / "train.json",
            )
    for path in [path for paths in found.values() for path in paths]:
        early.tokenizer.save_pretrained(path)
    return {name: [*map(str, paths)] for name, paths in found.items()}
