"""vLLM through an interpreter of its own: it pins another torch than the rest (envs/vllm.txt).

Prompts go over as token ids and answers come back as such, so that the chat template, the
tokenizer and the decoding are the ones of training, whatever versions vLLM brings.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from poet.files import UserError, read_json, write_json

WORKER = Path(__file__).with_name("vllm_worker.py")


def sample(
    python: str, model: str, ids: list[list[int]], sampling: dict, stop: list[int], seeds: list[int]
) -> tuple[list[list[tuple[list[int], str]]], float, str]:
    """Continue token sequences with every seed, in one call of vLLM.

    Args:
        python: the interpreter that has vLLM.
        model: a model folder.
        ids: token ids per prompt; ``sampling``: see :func:`poet.evaluate.sampling.sample`.
        stop: token ids that end an answer, EOS among them.

    Returns:
        Per seed what :func:`poet.evaluate.sampling.sample` returns; the seconds that generating
        took, loading left out; and vLLM's version.

    Raises:
        UserError: no such interpreter, or vLLM failed (its own words stand above in the log).
    """
    if not Path(python).is_file():
        raise UserError(
            f"vllm_python is {python}, which does not exist; expected an interpreter that has "
            "vLLM. `make vllm` sets one up (it needs a GPU), or set generation.backend to "
            "transformers or continuous."
        )
    with tempfile.TemporaryDirectory() as folder:
        request, answer = f"{folder}/request.json", f"{folder}/answer.json"
        write_json(make_request(model, ids, sampling, stop, seeds), request)
        # -I: nothing of this environment leaks in, nor do this folder's modules shadow Python's
        command = [python, "-I", str(WORKER), request, answer]
        if code := subprocess.run(command).returncode:
            raise UserError(f"vLLM ended with exit code {code} on {model}; its log stands above")
        found = read_json(answer)
    answers = [(each["token_ids"], each["finish_reason"]) for each in found["answers"]]
    if len(answers) != len(ids) * len(seeds) or not {r for _, r in answers} <= {"stop", "length"}:
        raise UserError(
            f"vLLM answered {len(answers)} of {len(ids) * len(seeds)} prompts of {model}, ended by "
            f"{sorted({str(reason) for _, reason in answers})}; expected stop or length"
        )
    per_seed = [answers[i * len(ids) : (i + 1) * len(ids)] for i in range(len(seeds))]
    return per_seed, found["seconds"], found["version"]


def make_request(
    model: str, ids: list[list[int]], sampling: dict, stop: list[int], seeds: list[int]
) -> dict:
    """The worker's request: arguments of vLLM's ``LLM``, and per answer a prompt and the arguments
    of its ``SamplingParams``. All prompts with the first seed, then all with the next.

    Every prompt has a seed of its own: what it draws does not depend on its neighbours.
    """
    common = {
        "temperature": sampling["temperature"],
        "top_p": sampling["top_p"],
        "max_tokens": sampling["max_new_tokens"],
        "stop_token_ids": stop,
        "detokenize": False,
    }
    return {
        "engine": {
            "model": str(model),
            "dtype": "bfloat16",
            "skip_tokenizer_init": True,
            "generation_config": "vllm",  # else the model folder's own penalties, ... creep in
        },
        "prompts": ids * len(seeds),
        "sampling": [
            {**common, "seed": seed * 2**20 + row} for seed in seeds for row in range(len(ids))
        ],
    }
