"""Answers of a method's models to the evaluation prompts, with transformers on CPU or GPU."""

from __future__ import annotations

import argparse

from poet.data.repositories import loading
from poet.files import UserError, cli, load_record, read_jsonl, write_json

# New tokens before the answers that have ended leave their batch; each later round is twice as
# long, so that reading a sequence again costs less than writing it did.
FIRST_ROUND = 32


def generate(model, tokenizer, prompts: list[list[dict]], sampling: dict, seed: int, label: str):
    """Sample one answer per prompt; see :func:`sample` for ``sampling``.

    ``prompts`` are lists of chat messages. Returns, in their order, dicts with ``output`` (text),
    ``n_tokens`` (EOS included) and ``finish_reason``: ``stop`` if the answer ended by itself,
    ``length`` if ``max_new_tokens`` cut it.
    """
    from poet.data.tokenization import encode, render_prompts

    ids = encode(tokenizer, render_prompts(tokenizer, prompts))
    return [
        {"output": decode(tokenizer, tokens), "n_tokens": len(tokens), "finish_reason": reason}
        for tokens, reason in sample(model, tokenizer, ids, sampling, seed, label)
    ]


def sample(
    model, tokenizer, ids: list[list[int]], sampling: dict, seed: int, label: str
) -> list[tuple[list[int], str]]:
    """Continue token sequences, in batches of like lengths, padded on the left.

    ``sampling`` has temperature (0 is greedy), top_p, max_new_tokens, stop_token_ids (beside EOS)
    and batch_size. Returns, in the order given, the new token ids (EOS included) and how they
    ended: ``stop`` or ``length``.
    """
    from transformers import set_seed

    from poet.progress import track

    stop = sorted({tokenizer.eos_token_id, *sampling["stop_token_ids"]})
    size, left, steps = sampling["batch_size"], sampling["max_new_tokens"], FIRST_ROUND
    sequences, ended = [list(each) for each in ids], [False] * len(ids)
    pending = list(range(len(ids)))
    set_seed(seed)
    progress = track(total=len(ids), label=label)
    while pending and left > 0:
        steps = min(steps, left)
        # Set anew, else the model folder's own min_p, penalties, ... creep in.
        model.generation_config = _generation_config(tokenizer, sampling, stop, steps)
        pending.sort(key=lambda row: (len(sequences[row]), row))
        for start in range(0, len(pending), size):
            rows = pending[start : start + size]
            batch = [sequences[row] for row in rows]
            for row, tokens in zip(
                rows, _next_tokens(model, batch, tokenizer.pad_token_id), strict=True
            ):
                ends = [i for i, token in enumerate(tokens) if token in stop]
                sequences[row] += tokens[: ends[0] + 1] if ends else tokens
                ended[row] = bool(ends)
            progress.update(len(rows) if steps == left else sum(ended[row] for row in rows))
        pending = [row for row in pending if not ended[row]]
        left, steps = left - steps, 2 * steps
    progress.close()
    return [
        (sequence[len(start) :], "stop" if end else "length")
        for sequence, start, end in zip(sequences, ids, ended, strict=True)
    ]


def _next_tokens(model, sequences: list[list[int]], pad: int) -> list[list[int]]:
    """What the model writes after each sequence of one batch, padding included."""
    import torch

    width = max(map(len, sequences))
    short = [width - len(sequence) for sequence in sequences]
    padded = [[pad] * n + sequence for n, sequence in zip(short, sequences, strict=True)]
    mask = [[0] * n + [1] * (width - n) for n in short]
    out = model.generate(
        torch.tensor(padded, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
    )
    return out[:, width:].tolist()


def _generation_config(tokenizer, sampling: dict, stop: list[int], max_new_tokens: int):
    from transformers import GenerationConfig

    greedy = sampling["temperature"] == 0
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=not greedy,
        **({} if greedy else {"temperature": sampling["temperature"], "top_p": sampling["top_p"]}),
        top_k=None if greedy else 0,  # the library's default is 50
        eos_token_id=stop,
        pad_token_id=tokenizer.pad_token_id,
    )


def decode(tokenizer, ids: list[int]) -> str:
    """The text of a response's token ids, without special tokens."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def load_model(folder: str, **arguments):
    """Tokenizer and causal LM of a folder, ready to generate: bfloat16 on a GPU, else float32.

    ``arguments`` are further ones of ``from_pretrained``.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if cuda else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **arguments).eval()
    return AutoTokenizer.from_pretrained(folder), model.to("cuda" if cuda else "cpu")


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Sample answers with all seeds of a method.")
    parser.add_argument("--record", required=True, help="resolved record: JSON or its file")
    parser.add_argument("--prompts", required=True, help="prompts.jsonl")
    parser.add_argument("--models", required=True, nargs="+", help="a model folder per seed")
    parser.add_argument("--seeds", required=True, nargs="+", type=int, help="sampling seeds")
    parser.add_argument("--output", required=True, nargs="+", help="a JSON file per seed")
    args = parser.parse_args(argv)
    if not len(args.models) == len(args.seeds) == len(args.output):
        raise UserError(
            f"{len(args.models)} models, {len(args.seeds)} seeds and {len(args.output)} outputs; "
            "expected as many of each"
        )
    record = load_record(args.record)
    prompts = read_jsonl(args.prompts)

    import torch

    torch.set_num_threads(record["torch_threads"])
    name = f"{record['setting']}/{record['method']}"
    for folder, seed, output in zip(args.models, args.seeds, args.output, strict=True):
        tokenizer, model = load_model(folder, **loading(record))
        answers = generate(
            model,
            tokenizer,
            [row["prompt"] for row in prompts],
            record["generation"],
            seed,
            f"generate {name}/seed-{seed}",
        )
        rows = [
            {
                "index": prompt["index"],
                "dataset": prompt["dataset"],
                "instruction": prompt["instruction"],
                "generator": f"{name}/seed-{seed}",
                **answer,
            }
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        write_json(rows, output)


if __name__ == "__main__":
    cli(main)
