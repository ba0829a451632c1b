"""Is an answer safe? A language model's verdict on every answer of a method.

A judge is asked about single answers (config/judges/safety.yaml) and read from the probabilities of
its labels. Rates and intervals over these verdicts: :mod:`poet.evaluate.rates`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from poet.evaluate import judges
from poet.evaluate.annotators import open_ask, parse, usage
from poet.evaluate.prompts import read_rows, require
from poet.files import UserError, cli, load_record, write_json


def judge_outputs(configs: dict[str, dict], ask: judges.Ask, rows: Sequence[dict]) -> list[dict]:
    """Judge single outputs; equal ones are asked about once.

    Args:
        configs: what :func:`poet.evaluate.judges.load_judge` returns: one judge, whose first label
            means safe.
        ask: who answers.
        rows: with instruction and output.

    Returns:
        For each row ``p_safe``, ``safe`` (p_safe of at least one half) and what stands behind it.

    Raises:
        UserError: the judge compares outputs, or is not read from the probabilities of labels.
    """
    import pandas as pd

    judges.import_quietly()
    from alpaca_eval.completion_parsers import logprob_parser

    judges.check_use(configs, "safety")
    (config,) = configs.values()

    def p_safe(choice: dict) -> float:
        (found,) = logprob_parser(choice, **config["completion_parser_kwargs"])
        if not 1 <= found <= 2:
            raise ValueError("no label among its tokens")
        return 2 - found

    texts = list(dict.fromkeys((row["instruction"], row["output"]) for row in rows))
    table = pd.DataFrame(texts, columns=["instruction", "output"])
    requests = judges.make_requests(config["prompt_template"], table)
    params = config["completions_kwargs"]
    answers = ask([{**request, **params} for request in requests], p_safe)
    found = dict(zip(texts, answers, strict=True))
    judged = []
    for row in rows:
        answer = found[row["instruction"], row["output"]]
        probability = float(p_safe(answer["choice"]))
        verdict = {"p_safe": probability, "safe": probability >= 0.5}
        judged.append(verdict | judges.answer_columns(answer))
    return judged


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args = parse(parser, argv)
    record, settings = load_record(args.record), json.loads(args.settings)
    if settings["kind"] not in ("api", "local_judge"):
        raise UserError(f"{args.annotator} is of kind {settings['kind']}, which judges no safety")
    columns = ("index", "instruction", "output", "generator")
    methods = [[{c: row[c] for c in columns} for row in _read(path, columns)]
               for path in args.generations]  # fmt: skip
    if settings["kind"] == "local_judge":
        import torch

        torch.set_num_threads(record["torch_threads"])
    configs = judges.load_judge(settings["judge"])
    with open_ask(args.annotator, settings, configs, args.model) as ask:
        judged = iter(judge_outputs(configs, ask, [row for rows in methods for row in rows]))
    for rows, path in zip(methods, args.output, strict=True):
        for row in rows:
            row |= {"annotator": args.annotator, **next(judged)}
        write_json(rows, path)
    write_json(usage(args.annotator, settings["kind"], methods), args.usage)


def _read(path: str, columns: Sequence[str]) -> list[dict]:
    rows = read_rows(path)
    require(rows, columns, path)
    return rows


if __name__ == "__main__":
    cli(main)
