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
    python: str, model: str, ids: list[list[int]], sampling: dict, seeds: list[int]
) -> tuple[list[list[tuple[list[int], str]]], float, str]:
    """Continue token sequences with every seed, in one call of vLLM.

    Args:
        python: the interpreter that has vLLM.
        model: a model folder.
        ids: token ids per prompt; ``sampling``: see :func:`poet.evaluate.sampling.sample`.

    Returns:
        Per seed what :func:`poet.evaluate.sampling.sample` returns; the seconds that generating
        took, loading left out; and vLLM's version.

    Raises:
        UserError: no such interpreter, or vLLM failed (its own words stand above in the log).
    """
    found = run(python, make_request(model, ids, sampling, seeds))
    answers = [(each["token_ids"], each["finish_reason"]) for each in found["answers"]]
    if len(answers) != len(ids) * len(seeds) or not {r for _, r in answers} <= {"stop", "length"}:
        raise UserError(
            f"vLLM answered {len(answers)} of {len(ids) * len(seeds)} prompts of {model}, ended by "
            f"{sorted({str(reason) for _, reason in answers})}; expected stop or length"
        )
    per_seed = [answers[i * len(ids) : (i + 1) * len(ids)] for i in range(len(seeds))]
    return per_seed, found["seconds"], found["version"]


def run(python: str, request: dict) -> dict:
    """The worker's answer to a request.

    Raises:
        UserError: no such interpreter, or vLLM failed (its own words stand above in the log).
    """
    if not Path(python).is_file():
        raise UserError(
            f"vllm_python is {python}, which does not exist; expected an interpreter that has "
            "vLLM. `make vllm` sets one up (it needs a GPU), or choose another backend."
        )
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = f"{folder}/request.json", f"{folder}/answer.json"
        write_json(request, asked)
        # -I: nothing of this environment leaks in, nor do this folder's modules shadow Python's
        if code := subprocess.run([python, "-I", str(WORKER), asked, answered]).returncode:
            model = request["engine"]["model"]
            raise UserError(f"vLLM ended with exit code {code} on {model}; its log stands above")
        return read_json(answered)


def next_token_log_probs(
    python: str, model: str, ids: list[list[int]], tokens: list[int]
) -> list[dict[int, float]]:
    """For each token sequence, the log-probabilities of these next tokens, among themselves.

    Raises:
        UserError: see :func:`run`.
    """
    sampling = {"temperature": 1.0, "max_tokens": 1, "detokenize": False}
    sampling |= {"allowed_token_ids": tokens, "logprobs": len(tokens)}
    engine = {**_ENGINE, "model": str(model), "dtype": "bfloat16", "max_logprobs": len(tokens)}
    engine["logprobs_mode"] = "processed_logprobs"  # else before other tokens are ruled out
    request = {"engine": engine, "prompts": ids, "sampling": [sampling] * len(ids)}
    answers = run(python, request)["answers"]
    return [{int(t): value for t, value in a["log_probs"][0].items()} for a in answers]


_ENGINE = {
    "skip_tokenizer_init": True,
    "generation_config": "vllm",  # else the model folder's own penalties, ... creep in
}


def make_request(model: str, ids: list[list[int]], sampling: dict, seeds: list[int]) -> dict:
    """The worker's request: arguments of vLLM's ``LLM``, and per answer a prompt and the arguments
    of its ``SamplingParams``. All prompts with the first seed, then all with the next.

    Every prompt has a seed of its own: what it draws does not depend on its neighbours.
    """
    common = {key: sampling[key] for key in ("temperature", "top_p", "stop_token_ids")}
    common |= {"max_tokens": sampling["max_new_tokens"], "detokenize": False}
    return {
        "engine": {**_ENGINE, "model": str(model), "dtype": sampling["dtype"]},
        "prompts": ids * len(seeds),
        "sampling": [
            {**common, "seed": seed * 2**20 + row} for seed in seeds for row in range(len(ids))
        ],
    }
