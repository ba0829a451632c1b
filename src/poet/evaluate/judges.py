"""Language models as judges, the way alpaca-eval uses them; only how they are asked is ours.

A judge is a configuration in alpaca-eval's own format: prompt template, request, parser. Templates,
the random swap of the two outputs (seeded by the instruction) and parsers are alpaca-eval's code.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from poet.evaluate.records import PATH
from poet.files import UserError

OURS = Path(__file__).parents[3] / "config" / "judges"
# (requests, accept) -> one answer per request, see poet.evaluate.api.Api
Ask = Callable[[Sequence[dict], Callable[[dict], None]], list[dict]]
# JSON schema of a section's key ``judge``
_SAID = "a YAML file in alpaca-eval's format, one of config/judges, or one of alpaca-eval's own"
JUDGE = {**PATH, "description": _SAID}
PAIR = ("output_1", "output_2")  # places of a prompt template, and columns of its table
# What alpaca-eval's openai_completions sends where a configuration does not say.
_DEFAULTS = {"max_tokens": 2048, "top_p": 1.0, "temperature": 0.7}
# How alpaca-eval's client reaches the server, which is not part of a request.
_CLIENT = ("requires_chatml", "price_per_token", "client_kwargs", "num_procs", "n_retries")


def judge_file(judge: str) -> Path:
    """The configuration of a judge: a file, one of config/judges, or one of alpaca-eval's.

    Raises:
        UserError: there is none of this name.
    """
    for path in (Path(judge), OURS / f"{judge}.yaml", _theirs() / judge / "configs.yaml"):
        if path.is_file():
            return path
    ours = ", ".join(sorted(path.stem for path in OURS.glob("*.yaml")))
    raise UserError(
        f"unknown judge {judge}; expected a YAML file in alpaca-eval's format, one of config/judges"
        f" ({ours}), or a folder of {_theirs()}"
    )


def _theirs() -> Path:
    """alpaca-eval's folder of judges, without importing it."""
    (package,) = importlib.util.find_spec("alpaca_eval").submodule_search_locations
    return Path(package) / "evaluators_configs"


def load_judge(judge: str) -> dict[str, dict]:
    """The annotators of a judge's configuration (several make a pool), templates read in.

    Raises:
        UserError: no such judge or template, or one that speaks no OpenAI-compatible protocol.
    """
    import yaml

    path = judge_file(judge)
    try:
        configs = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(configs, dict) or not all(isinstance(c, dict) for c in configs.values()):
        raise UserError(f"{path}: expected alpaca-eval's format, name: {{prompt_template: ...}}")
    return {name: _readable(config, path) for name, config in configs.items()}


def _readable(config: dict, path: Path) -> dict:
    if config.get("fn_completions") != "openai_completions":
        raise UserError(
            f"{path} asks through {config.get('fn_completions')}; expected openai_completions"
        )
    for key in ("prompt_template", "completions_kwargs"):
        if key not in config:
            raise UserError(f"{path}: no key {key}; found {', '.join(config)}")
    params = {**_DEFAULTS, **config["completions_kwargs"]}
    if "model_name" not in params:
        raise UserError(f"{path}: completions_kwargs names no model (model_name)")
    if asked := [key for key in ("tokens_to_avoid", "tokens_to_favor") if key in params]:
        raise UserError(f"{path}: {', '.join(asked)} needs OpenAI's tokenizer, from the network")
    templates = [folder / config["prompt_template"] for folder in (path.parent, _theirs())]
    template = next((template for template in templates if template.is_file()), None)
    if template is None:
        raise UserError(f"{path}: no prompt template {' nor '.join(map(str, templates))}")
    params["model"] = params.pop("model_name")
    return {
        **{key: value for key, value in config.items() if key not in ("pretty_name", "link")},
        "prompt_template": template.read_text(encoding="utf-8"),
        "completions_kwargs": {k: v for k, v in params.items() if k not in _CLIENT},
    }


def labels(configs: dict[str, dict]) -> list[str]:
    """The tokens whose log-probabilities a weighted judge is read from.

    Raises:
        UserError: it reads something else, or does not say which tokens.
    """
    (name, config), *others = configs.items()
    if others or config.get("fn_completion_parser") != "logprob_parser":
        raise UserError(f"judge {name} is not read from one token's log-probabilities")
    if config["completions_kwargs"].get("max_tokens") != 1:
        raise UserError(f"judge {name} writes before it decides; expected max_tokens: 1")
    parser = config.get("completion_parser_kwargs") or {}
    if lacking := {"numerator_token", "denominator_tokens"} - set(parser):
        raise UserError(f"judge {name}: completion_parser_kwargs has no {min(lacking)}")
    return list(dict.fromkeys([parser["numerator_token"], *parser["denominator_tokens"]]))


def check_places(configs: dict[str, dict], places: Sequence[str], use: str) -> None:
    """Check that a judge's prompt template has the places that its use fills in.

    Raises:
        UserError: naming one that it lacks.
    """
    for name, config in configs.items():
        for place in places:
            if f"{{{place}}}" not in config["prompt_template"]:
                raise UserError(
                    f"{name}'s prompt template has no place {{{place}}}; expected those of "
                    f"{use}: {', '.join(f'{{{each}}}' for each in places)}"
                )


def annotate_pairs(rows: Sequence[dict], configs: dict[str, dict], ask: Ask) -> list[dict]:
    """Judge pairs of outputs through alpaca-eval.

    Args:
        rows: with instruction, output_1 and output_2; each distinct one is asked for once, and
            equal outputs are a draw without asking.
        configs: what :func:`load_judge` returns.
        ask: who answers.

    Returns:
        For each row its preference in [1, 2] and the answer behind it (columns empty for a draw).
    """
    import_quietly()
    from alpaca_eval.annotators import PairwiseAnnotator

    single = _single_annotator()

    class Annotator(PairwiseAnnotator):
        def _initialize_annotators(self):
            common = {"seed": self.seed, "annotation_column": self.annotation_key}
            common["completion_column"] = self.completion_key
            return {name: single(ask, **common, **config) for name, config in configs.items()}

    # caching_path=None: the default caches inside alpaca-eval's package folder (pitfall 18)
    annotator = Annotator(
        annotators_config=next(iter(configs)),
        caching_path=None,
        is_avoid_reannotations=False,
        other_output_keys_to_keep=("{annotation_key}_answer",),
    )
    texts = [{k: row[k] for k in ("instruction", "output_1", "output_2")} for row in rows]
    found = annotator.annotate_pairs(texts, chunksize=None)
    if any(f[k] != t[k] for f, t in zip(found, texts, strict=True) for k in t):
        raise RuntimeError("alpaca-eval returned other rows than it was given")
    answers = [row.get("preference_answer") for row in found]
    answers = [answer if isinstance(answer, dict) else {} for answer in answers]  # NaN for a draw
    return [
        {"preference": row["preference"], **answer_columns(answer)}
        for row, answer in zip(found, answers, strict=True)
    ]


def answer_columns(answer: dict) -> dict:
    """What a row says of the answer behind it; alpaca-eval's names where it has one."""
    return {
        "preference_raw_completion": answer.get("choice"),
        "preference_price_per_example": answer.get("price"),
        "judge_model": answer.get("model"),
        "prompt_tokens": answer.get("prompt_tokens"),
        "completion_tokens": answer.get("completion_tokens"),
        "request": answer.get("key"),
    }


def answers_of(methods: Sequence[list[dict]]) -> list[dict]:
    """The answers behind annotated rows, of every seed: a row's ``answers``, or itself."""
    return [answer for rows in methods for row in rows for answer in row.get("answers", [row])]


def judge_models(answers: Sequence[dict]) -> list[str]:
    return sorted({answer["judge_model"] for answer in answers if answer.get("judge_model")})


def import_quietly() -> None:
    """Import alpaca-eval without its warnings, and without the log level that it sets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import alpaca_eval.annotators  # noqa: F401
    logging.getLogger().setLevel(logging.WARNING)


def _single_annotator():
    """alpaca-eval's annotator with our way of asking; a function for the sake of its import."""
    from alpaca_eval.annotators import SinglePairwiseAnnotator

    class Single(SinglePairwiseAnnotator):
        def __init__(self, ask: Ask, **config):
            super().__init__(**{**config, "fn_completions": self._ask_for})
            self._ask = ask

        def _get_prompt_template(self, template):
            return template  # read in already; alpaca-eval takes a wrong path for a template

        def _make_prompts(self, table, prompt_template=None):
            return make_requests(self.prompt_template, table, self.batch_size), table

        def _ask_for(self, prompts, **params):
            answers = self._ask([{**prompt, **params} for prompt in prompts], self._parse)
            choices = [
                {**answer["choice"], "text": text_of(answer["choice"])} for answer in answers
            ]
            return {
                "completions": [choice["text"] for choice in choices],
                "completions_all": choices,
                "answer": answers,
            }

        def _parse(self, choice: dict) -> None:
            """Raise an exception unless the choice holds a preference for every row asked."""
            text = text_of(choice)
            all_of_it = self.completion_key == "completions_all"
            found = list(self.fn_completion_parser({**choice, "text": text} if all_of_it else text))
            if len(found) != self.batch_size or not all(1 <= value <= 2 for value in found):
                raise ValueError(f"found preferences {found}")

    return Single


def make_requests(template: str, table, batch_size: int = 1) -> list[dict]:
    """The ``messages`` (or legacy ``prompt``) of requests: alpaca-eval's templates, filled in.

    The messages are told apart before they are filled, so that an output that holds chat markers
    cannot end the judge's message.

    Args:
        template: text with ``{column}`` in it, in ChatML or plain.
        table: a DataFrame with those columns, ``batch_size`` rows per request.
    """
    import_quietly()
    from alpaca_eval import utils

    template = template.strip()
    if not template.startswith("<|im_start|>"):
        prompts, _ = utils.make_prompts(table, template, batch_size)
        return [{"prompt": prompt.strip()} for prompt in prompts]
    columns = []
    for message in utils.prompt_to_chatml(template):
        texts, _ = utils.make_prompts(table, message["content"], batch_size)
        columns.append([{**message, "content": text.strip()} for text in texts])
    return [{"messages": list(turns)} for turns in zip(*columns, strict=True)]


def ask_once(
    configs: dict[str, dict], ask: Ask, texts: Sequence[tuple], places: Sequence[str], accept
) -> list[dict]:
    """The answers of a judge about texts, each distinct tuple of which is asked about once.

    Args:
        configs: what :func:`load_judge` returns, of one judge.
        texts: tuples that fill in the ``places`` of its prompt template.
        accept: raises an exception for a choice that is no answer, see :data:`Ask`.
    """
    import pandas as pd

    (config,) = configs.values()
    distinct = list(dict.fromkeys(texts))
    requests = make_requests(config["prompt_template"], pd.DataFrame(distinct, columns=places))
    answers = ask([{**each, **config["completions_kwargs"]} for each in requests], accept)
    answer_of = dict(zip(distinct, answers, strict=True))
    return [answer_of[each] for each in texts]


def text_of(choice: dict) -> str:
    """What a choice says, as alpaca-eval's client reads it (functions' arguments; never empty)."""
    message = choice.get("message")
    if message is None:
        return choice["text"]
    if message.get("tool_calls"):
        return message["tool_calls"][0]["function"]["arguments"]
    if message.get("function_call"):
        return message["function_call"]["arguments"]
    return " " if message["content"] == "" else message["content"]
