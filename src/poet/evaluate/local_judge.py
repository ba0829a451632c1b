"""Any causal language model as a judge, read from the log-probabilities of its labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poet.files import UserError
from poet.progress import track


class LocalJudge:
    """Answers requests as a server of OpenAI's protocol would, with transformers on CPU or GPU.

    A tokenizer may have several tokens for a label (with a leading space, say); their probabilities
    are added.

    Args:
        name: the annotator's name, for messages.
        model: folder of the model and its tokenizer.
        labels: what the judge chooses from, each a token of the model.
        model_name: what each answer says of who gave it; by default the folder.

    Raises:
        UserError: no chat template, or no token for a label.
    """

    def __init__(
        self,
        name: str,
        model: str,
        labels: Sequence[str],
        batch_size: int = 4,
        model_name: str | None = None,
    ):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from poet.data.repositories import model_path

        folder = model_path(model)
        self.name, self.batch_size = name, batch_size
        self.model_name = model_name or str(model)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self.tokenizer.chat_template is None:
            raise UserError(f"{model}: its tokenizer has no chat template; a judge needs one")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokens = {label: self._tokens_of(label, model) for label in labels}
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")

    def _tokens_of(self, label: str, model: str) -> list[int]:
        vocabulary = list(self.tokenizer.get_vocab().values())
        texts = self.tokenizer.batch_decode([[token] for token in vocabulary])
        found = [t for t, text in zip(vocabulary, texts, strict=True) if text.strip() == label]
        if not found:
            raise UserError(f"{model}: its tokenizer has no single token for the label {label!r}")
        return sorted(found)

    def __call__(self, requests: Sequence[dict], accept: Callable[[dict], None]) -> list[dict]:
        """One answer per request, see :class:`poet.evaluate.api.Api`; nothing costs anything."""
        ids = self._encode([request["messages"] for request in requests])
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        answers: list[dict] = [{}] * len(ids)
        for start in track(range(0, len(order), self.batch_size), label=self.name):
            rows = order[start : start + self.batch_size]
            for row, found in zip(rows, self._label_log_probs([ids[r] for r in rows]), strict=True):
                answers[row] = self._answer(found, len(ids[row]))
                accept(answers[row]["choice"])
        return answers

    def _encode(self, conversations: list[list[dict]]) -> list[list[int]]:
        from poet.data.tokenization import encode, render_prompts

        try:
            return encode(self.tokenizer, render_prompts(self.tokenizer, conversations))
        except UserError:  # a template without a system role (Gemma's): it opens the user's turn
            merged = [_without_system(messages) for messages in conversations]
            return encode(self.tokenizer, render_prompts(self.tokenizer, merged))

    def _label_log_probs(self, ids: list[list[int]]) -> list[list[float]]:
        """log P(label | prompt), [prompts][labels], from one forward pass padded on the left."""
        import torch

        width, pad = max(map(len, ids)), self.tokenizer.pad_token_id
        tokens = torch.tensor([[pad] * (width - len(i)) + i for i in ids])
        mask = torch.tensor([[0] * (width - len(i)) + [1] * len(i) for i in ids])
        device = self.model.device
        with torch.inference_mode():
            logits = self.model(
                tokens.to(device),
                attention_mask=mask.to(device),
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(device),
                logits_to_keep=1,
            ).logits[:, -1]
        log_probs = torch.log_softmax(logits.double(), -1)
        columns = [log_probs[:, tokens].logsumexp(-1) for tokens in self.tokens.values()]
        return torch.stack(columns, -1).tolist()

    def _answer(self, log_probs: list[float], n_tokens: int) -> dict:
        top = [
            {"token": label, "logprob": value}
            for label, value in zip(self.tokens, log_probs, strict=True)
        ]
        best = max(top, key=lambda entry: entry["logprob"])
        return {
            "model": self.model_name,
            "choice": {
                "message": {"role": "assistant", "content": best["token"]},
                "logprobs": {"content": [{**best, "top_logprobs": top}]},
            },
            "prompt_tokens": n_tokens,
            "completion_tokens": 1,
            "price": 0.0,
        }


def _without_system(messages: list[dict]) -> list[dict]:
    system, user, *rest = messages
    return [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest]
