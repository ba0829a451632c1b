"""Answers of a method's models to the evaluation prompts, by one of three engines.

``transformers`` makes batches of its own, on CPU or GPU; ``continuous`` is transformers' continuous
batching, which fills the place of an answer that has ended at once (made for GPUs, runs on CPUs);
``vllm`` runs in an interpreter of its own. All read the same prompts, in token ids, and the same
sampling parameters; they draw different random numbers.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from functools import partial

from poet.data.encoding import encode_prompts
from poet.data.ends import closing_text, with_ends
from poet.data.model_limits import check_positions, positions, text_config
from poet.data.template_checks import check_template
from poet.data.templates import Chat, template_hash
from poet.evaluate.prompts import conversation, read_prompts
from poet.evaluate.sampling import described, load_model, sample, sample_continuous
from poet.files import UserError, cli, read_json, record_parser, write_json
from poet.hub.folders import model_path

LOUD = 0.1  # of a model's answers
_THOUGHTS = re.compile("</?think(ing)?>")  # as Qwen3, DeepSeek-R1 and others write them


def check_trained_template(chat: Chat, model: str, tokens_info: str | None) -> str:
    """The SHA-256 of a model's chat template; it and its variables must be the training data's.

    Args:
        tokens_info: ``tokens.json`` of the pairs that the model was trained on; None for a model
            that was not trained here.

    Raises:
        UserError: the model has no template, or another or other variables than its training data;
            or what it writes depends on the day.
    """
    check_template(chat.tokenizer, chat.template_kwargs)
    sha, variables = template_hash(chat.tokenizer), chat.template_kwargs
    info = read_json(tokens_info) if tokens_info else {}
    checked = {
        "chat_template_sha256": (sha, "another chat template", "give it its start model's"),
        "chat_template_kwargs": (variables, "other chat_template_kwargs", "set them back"),
    }
    for key, (found, what, mend) in checked.items():
        if (trained := info.get(key, found)) != found:
            raise UserError(
                f"{model} would generate with {what} than it was trained with.\n"
                f"  expected: {trained} ({key} in {tokens_info})\n  found:    {found}\n"
                f"Train it again, or {mend}."
            )
    return sha


def answer(
    record: dict, sampling: dict, chat: Chat, model: str, vllm_python: str, rows, seeds: list[int]
):
    """Every seed's answers of one model folder, by the engine that ``sampling`` names.

    Returns:
        Per seed the answers to rows of prompts.jsonl, as :func:`poet.evaluate.sampling.described`,
        and the seconds that sampling took; the prompts' tokens, and the engine's version.

    Raises:
        UserError: the model has fewer positions than a prompt and its answer need.
    """
    ids = encode_prompts(chat, rows)
    where = f"settings.{record['setting']}.generation.max_new_tokens"
    need, longest = (where, sampling["max_new_tokens"], True), max(map(len, ids))
    check_positions(positions(text_config(model)), [need], model, "the prompts", longest)
    if sampling["backend"] == "vllm":
        from poet.evaluate import vllm_client

        found, seconds, version = vllm_client.sample(vllm_python, model, ids, sampling, seeds)
        found, engine = [(each, seconds / len(seeds)) for each in found], f"vllm {version}"
    else:
        import transformers

        loaded = load_model(model, record)[1]
        ask = {"transformers": sample, "continuous": sample_continuous}[sampling["backend"]]
        found = []
        for seed in seeds:
            start = time.perf_counter()
            label = f"generate {record['setting']}/{record['method']}/seed-{seed}"
            new = ask(loaded, chat.tokenizer, ids, sampling, seed, label)
            found.append((new, time.perf_counter() - start))
        engine = f"transformers {transformers.__version__} {loaded.dtype}"
    answers = [(described(chat, new), seconds) for new, seconds in found]
    return answers, sum(map(len, ids)), engine


def run(record: dict, prompts: list[dict], models: dict[str, list[int]], tokens_info, vllm_python):
    """Answer the prompts with every model's seeds, turn by turn where they have several.

    Args:
        prompts: rows of prompts.jsonl.
        models: model folder -> its sampling seeds.

    Returns:
        Rows per (model, seed) in alpaca-eval's format, with what
        :func:`poet.evaluate.sampling.described` adds, and in ``later`` that of the turns after the
        first; and the summary of all.
    """
    from transformers import AutoTokenizer

    from poet.provenance import provenance

    rows, runs = {}, []
    for model, seeds in models.items():
        model_path(model)
        chat = Chat.of(AutoTokenizer.from_pretrained(model), record)
        template = check_trained_template(chat, model, tokens_info)
        sampling = with_ends(record["generation"], chat, model)
        ask = partial(answer, record, sampling, chat, model, vllm_python)
        found, n_first, engine = ask(prompts, seeds)
        closing = closing_text(chat)
        for seed, (made, seconds) in zip(seeds, found, strict=True):
            name = f"{record['setting']}/{record['method']}/seed-{seed}"
            talks, n_tokens = [[text] for text in made], n_first
            for _ in prompts[0].get("turns", [])[1:]:
                [(said, more)], n_more, _ = ask([*map(conversation, prompts, talks)], [seed])
                talks = [[*talk, text] for talk, text in zip(talks, said, strict=True)]
                made, seconds, n_tokens = made + said, seconds + more, n_tokens + n_more
            rows[model, seed] = [
                {key: prompt[key] for key in ("index", "dataset", "instruction")}
                | {"generator": name, **talk[0]}
                | ({"later": talk[1:]} if talk[1:] else {})
                for prompt, talk in zip(prompts, talks, strict=True)
            ]
            reasons = Counter(row["finish_reason"] for row in made)
            thoughts = sum(bool(_THOUGHTS.search(row["output"])) for row in made)
            runs.append(
                {
                    "generator": name,
                    "engine": engine,
                    "chat_template_sha256": template,
                    "n_prompts": len(made),
                    "prompt_tokens": n_tokens,
                    "new_tokens": sum(row["n_tokens"] for row in made),
                    "seconds": round(seconds, 3),
                    "stop_token_ids": sampling["stop_token_ids"],
                    **({"stop_text": closing} if closing else {}),
                    **({"n_with_thoughts": thoughts} if thoughts else {}),
                    "finish_reasons": {key: reasons[key] for key in ("stop", "length")},
                }
            )
            _say_cut(name, reasons["length"], len(made), chat.tokenizer, sampling, closing)
    return rows, {"runs": runs, "record": record, "provenance": provenance()}


def _say_cut(name: str, n_cut: int, n: int, tokenizer, sampling: dict, closing: str) -> None:
    """How many answers did not end; loudly if they are more than LOUD of all."""
    print(f"{name}: {n_cut} of {n} answers cut off", flush=True)
    if n_cut > LOUD * n:
        ends = sampling["stop_token_ids"]
        tokens = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(ends)))
        text = f" and before the text {closing!r}" if closing else ""
        print(
            f"WARNING {name}: {n_cut} of {n} answers did not end within max_new_tokens "
            f"({sampling['max_new_tokens']}), so that unfinished text is judged.\n"
            f"  An answer ends at {tokens} (ids {', '.join(map(str, ends))}){text}.\n"
            "If the model ends its turns with another token, name its id in "
            "generation.stop_token_ids; if it writes longer answers, raise max_new_tokens; else it "
            "has not learned to end, and its scores say little.",
            file=sys.stderr,
            flush=True,
        )


def main(argv=None) -> None:
    parser = record_parser(__doc__, "a JSON file per seed", nargs="+")
    parser.add_argument("--prompts", required=True, help="prompts.jsonl")
    parser.add_argument("--models", required=True, nargs="+", help="a model folder per seed")
    parser.add_argument("--seeds", required=True, nargs="+", type=int, help="sampling seeds")
    parser.add_argument("--tokens-info", help="tokens.json of what the models were trained on")
    parser.add_argument("--vllm-python", help="backend vllm: the interpreter that has it")
    parser.add_argument("--summary", required=True, help="JSON: tokens, seconds, finish reasons")
    args = parser.parse_args(argv)
    if not len(args.models) == len(args.seeds) == len(args.output):
        raise UserError(
            f"{len(args.models)} models, {len(args.seeds)} seeds and {len(args.output)} outputs; "
            "expected as many of each"
        )
    record = args.record

    import torch

    torch.set_num_threads(record["torch_threads"])
    models = {}
    for model, seed in zip(args.models, args.seeds, strict=True):
        models.setdefault(model, []).append(seed)
    prompts = read_prompts(args.prompts, ("index", "dataset", "instruction", "prompt"))
    rows, summary = run(record, prompts, models, args.tokens_info, args.vllm_python)
    for model, seed, output in zip(args.models, args.seeds, args.output, strict=True):
        write_json(rows[model, seed], output)
    write_json(summary, args.summary)


if __name__ == "__main__":
    cli(main)
