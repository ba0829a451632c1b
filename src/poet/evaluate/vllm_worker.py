"""Run vLLM on one request file, in an interpreter that has vLLM and nothing of this project.

``python -I vllm_worker.py REQUEST ANSWER``; what stands in the two JSON files is told by
:mod:`poet.evaluate.vllm_client`, which writes the one and reads the other.
"""

import json
import sys
import time


def main(request_path: str, answer_path: str) -> None:
    import vllm

    with open(request_path) as file:
        request = json.load(file)
    engine = vllm.LLM(**request["engine"])
    start = time.perf_counter()
    outputs = engine.generate(
        [{"prompt_token_ids": ids} for ids in request["prompts"]],
        [vllm.SamplingParams(**sampling) for sampling in request["sampling"]],
    )
    answer = {
        "seconds": time.perf_counter() - start,
        "version": vllm.__version__,
        "answers": [_answer(output.outputs[0]) for output in outputs],
    }
    with open(answer_path, "w") as file:
        json.dump(answer, file)


def _answer(output) -> dict:
    log_probs = output.logprobs and [
        {token: found.logprob for token, found in step.items()} for step in output.logprobs
    ]
    return {
        "token_ids": list(output.token_ids),
        "finish_reason": output.finish_reason,
        "log_probs": log_probs,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
