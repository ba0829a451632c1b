"""Any causal language model as a judge, read from the log-probabilities of its labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from poet.data.model_limits import Need, check_class, check_positions, positions, text_config
from poet.devices import in_batches
from poet.evaluate.annotators.kind import Kind
from poet.evaluate.judges import JUDGE, labels, load_judge, make_requests
from poet.evaluate.records import COUNT, PATH, REVISION
from poet.files import UserError, read_json
from poet.hub.folders import check_chat_template
from poet.hub.lock import is_hub_id
from poet.precision import device_and_stored_dtype
from poet.progress import track

SCHEMA = {
    "required": ["name"],
    "properties": {
        "name": PATH | {"description": "hub id or folder of any causal LM with a chat template"},
        "revision": REVISION,
        "judge": JUDGE | {"default": "weighted_alpaca_eval_gpt4_turbo"},
        "backend": {"enum": ["transformers", "vllm"], "default": "transformers"},
        "batch_size": COUNT | {"default": 4},
        "chat_template_kwargs": {
            "type": "object",
            "description": "variables of the judge's chat template, e.g. enable_thinking",
        },
    },
}


class LocalJudge:
    """Answers requests as a server of OpenAI's protocol would, with transformers or vLLM.

    A tokenizer may have several tokens for a label (with a leading space, say); their probabilities
    are added.

    Args:
        name: the annotator's name, for messages.
        model: folder of the model and its tokenizer.
        labels: what the judge chooses from, each a token of the model.
        model_name: what each answer says of who gave it; by default the folder.
        vllm_python: an interpreter that has vLLM, which then reads the prompts.
        template_kwargs: variables of the judge's chat template.

    Raises:
        UserError: no chat template (:func:`poet.data.templates.template_of`), or no token for a
            label; when it is asked, questions beyond the model's positions.
    """

    def __init__(
        self,
        name: str,
        model: str,
        labels: Sequence[str],
        batch_size: int = 4,
        model_name: str | None = None,
        vllm_python: str | None = None,
        template_kwargs: dict | None = None,
    ):
        from transformers import AutoTokenizer

        from poet.data.templates import template_of
        from poet.hub.folders import model_path

        self.name, self.batch_size, self.folder = name, batch_size, model_path(model)
        self.model_name, self.vllm_python = model_name or str(model), vllm_python
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        template_of(self.tokenizer)
        self.template_kwargs = template_kwargs or {}
        self.positions = positions(text_config(self.folder))
        self.tokens = {label: self._tokens_of(label, model) for label in labels}

    def _tokens_of(self, label: str, model: str) -> list[int]:
        vocabulary = list(self.tokenizer.get_vocab().values())
        texts = self.tokenizer.batch_decode([[token] for token in vocabulary])
        found = [t for t, text in zip(vocabulary, texts, strict=True) if text.strip() == label]
        if not found:
            raise UserError(f"{model}: its tokenizer has no single token for the label {label!r}")
        return sorted(found)

    def __call__(self, requests: Sequence[dict], accept: Callable[[dict], None]) -> list[dict]:
        """One answer per request, see :class:`poet.evaluate.api.Api`; nothing costs anything."""
        ids = self.encode([request["messages"] for request in requests])
        longest = max(map(len, ids), default=0)
        asked = [("a question with its answers", longest, False)]
        check_positions(self.positions, asked, self.model_name, f"annotators.{self.name}")
        read = self._read_with_vllm if self.vllm_python else self._read_with_transformers
        answers = []
        for log_probs, prompt in zip(read(ids), ids, strict=True):
            answers.append(self._answer(log_probs, len(prompt)))
            accept(answers[-1]["choice"])
        return answers

    def encode(self, conversations: list[list[dict]]) -> list[list[int]]:
        """Token ids of what the judge is asked, before its answer."""
        from poet.data.encoding import encode
        from poet.data.templates import Chat, render_prompts

        chat = Chat(self.tokenizer, "keep_start", self.template_kwargs)
        try:
            return encode(self.tokenizer, render_prompts(chat, conversations))
        except UserError:  # a template without a system role (Gemma's): it opens the user's turn
            merged = [
                [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest]
                for system, user, *rest in conversations
            ]
            return encode(self.tokenizer, render_prompts(chat, merged))

    def _read_with_vllm(self, ids: list[list[int]]) -> list[list[float]]:
        """log P(label | prompt), among the labels, [prompts][labels]."""
        from scipy.special import logsumexp

        from poet.evaluate.vllm_client import next_token_log_probs

        tokens = sorted({token for tokens in self.tokens.values() for token in tokens})
        found = next_token_log_probs(self.vllm_python, self.folder, ids, tokens)
        return [
            [float(logsumexp([row[t] for t in tokens])) for tokens in self.tokens.values()]
            for row in found
        ]

    def _read_with_transformers(self, ids: list[list[int]]) -> list[list[float]]:
        """log P(label | prompt), [prompts][labels], in batches of prompts of like lengths."""
        import torch
        from transformers import AutoModelForCausalLM

        from poet.hub.folders import whole_model

        device, dtype = device_and_stored_dtype(read_json(Path(self.folder, "config.json")))
        model = whole_model(AutoModelForCausalLM, self.folder, dtype=dtype).eval().to(device)
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        found: list[list[float]] = [[]] * len(ids)

        def read(rows: list[int]) -> list[list[float]]:
            log_probs = _next_log_probs(model, [ids[row] for row in rows])
            columns = [log_probs[:, tokens].logsumexp(-1) for tokens in self.tokens.values()]
            return torch.stack(columns, -1).tolist()

        with track(total=len(order), label=self.name) as progress:
            for rows, values in in_batches(order, self.batch_size, read):
                progress.update(len(rows))
                for row, value in zip(rows, values, strict=True):
                    found[row] = value
        return found

    def _answer(self, log_probs: list[float], n_tokens: int) -> dict:
        top = [
            {"token": label, "logprob": value}
            for label, value in zip(self.tokens, log_probs, strict=True)
        ]
        best = max(top, key=lambda entry: entry["logprob"])
        choice = {
            "message": {"role": "assistant", "content": best["token"]},
            "logprobs": {"content": [{**best, "top_logprobs": top}]},
        }
        counts = {"prompt_tokens": n_tokens, "completion_tokens": 1, "price": 0.0}
        return {"model": self.model_name, "choice": choice, **counts}


def _next_log_probs(model, ids: list[list[int]]):
    """Log-probabilities of every next token, [prompts, vocabulary], padded on the left."""
    import torch

    width = max(map(len, ids))
    tokens = torch.tensor([[0] * (width - len(i)) + i for i in ids])  # any token: it is masked
    mask = torch.tensor([[0] * (width - len(i)) + [1] * len(i) for i in ids])
    with torch.inference_mode():
        logits = model(
            tokens.to(model.device),
            attention_mask=mask.to(model.device),
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(model.device),
            logits_to_keep=1,
        ).logits[:, -1]
    return torch.log_softmax(logits.double(), -1)


@contextmanager
def ask(name: str, settings: dict, configs: dict, model: str | None) -> Iterator[LocalJudge]:
    """The model in ``model``, the hub's, or in the section's ``name``."""
    commit = f"@{settings['revision']}" if "revision" in settings else ""
    yield LocalJudge(
        name, model or settings["name"], labels(configs), settings["batch_size"],
        settings["name"] + commit, settings.get("vllm_python"),
        settings.get("chat_template_kwargs"),
    )  # fmt: skip


def check_folder(folder: Path, where: str) -> None:
    """Refuse a folder that is no judge's, without loading it.

    Raises:
        UserError: ``where``, and that it has no chat template, or writes no text.
    """
    check_chat_template(folder, where, "a judge")
    check_class(read_json(folder / "config.json"), folder, where)


def check(annotator: dict, configs: dict, where: str) -> None:
    if not is_hub_id(annotator["name"]):
        check_folder(Path(annotator["name"]), f"{where}.name is {annotator['name']}")
    labels(configs)
    (config,) = configs.values()
    if not config["prompt_template"].lstrip().startswith("<|im_start|>"):
        raise UserError(
            f"{where}.judge is {annotator['judge']}: its prompt template is no ChatML; "
            "expected chat messages, <|im_start|>user ... <|im_end|>"
        )


def beforehand(
    name: str, settings: dict, model: str | None, rows: Sequence[dict], needs: list[Need]
) -> dict:
    """Look at the tokenizer, and at the positions for the longest question with its reference."""
    import pandas as pd

    folder, called = model or settings["name"], settings["name"]
    check_folder(Path(folder), f"annotators.{name}.name is {called}")
    configs = load_judge(settings["judge"])
    variables = settings.get("chat_template_kwargs")
    judge = LocalJudge(name, folder, labels(configs), model_name=called, template_kwargs=variables)
    table = pd.DataFrame({"instruction": [row["instruction"] for row in rows]})
    table["output"] = table["output_2"] = ""
    table["output_1"] = [row.get("reference") or "" for row in rows]
    (config,) = configs.values()
    asked = make_requests(config["prompt_template"], table)
    longest = max(map(len, judge.encode([each["messages"] for each in asked])))
    where = f"annotators.{name}, whose prompt holds the judge's, a question and a reference"
    check_positions(judge.positions, needs, called, where, longest)
    return {"model": called, "longest": longest}


KIND = Kind("local_judge", SCHEMA, ask=ask, loads=True, check=check, beforehand=beforehand)
