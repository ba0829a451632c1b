"""A decoder's parameters and floating-point operations, from its shape alone.

For the Llama family (Llama, SmolLM, Mistral), Qwen 2 and 3, OLMo 2 and Gemma 2, which differ in
norms and biases; of others it is a good guess. Embedding look-ups cost nothing; a matrix product
costs two operations per weight and token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAPER = Path(__file__).parents[3] / "paper"
SHAPES = PAPER / "models.yaml"  # of the models that the paper's configuration names


@dataclass(frozen=True)
class Architecture:
    """Sizes named as in transformers' configurations."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    tie_word_embeddings: bool
    family: str = "llama"

    @classmethod
    def found(cls, config: dict) -> Architecture | None:
        """:meth:`of`; None of a family whose sizes have other names, as Mamba's."""
        try:
            return cls.of(config)
        except KeyError:
            return None

    @classmethod
    def of(cls, config: dict) -> Architecture:
        """From the content of a ``config.json``, or of a configuration's ``scratch`` section.

        Raises:
            KeyError: a size has neither transformers' usual name nor GPT-2's.
        """
        config = {**config, **(config.get("text_config") or {})}
        hidden, layers, heads = (
            config[name] if name in config else config[gpt2]
            for name, gpt2 in zip(
                ("hidden_size", "num_hidden_layers", "num_attention_heads"),
                ("n_embd", "n_layer", "n_head"),
                strict=True,
            )
        )
        return cls(
            config["vocab_size"],
            hidden,
            config.get("intermediate_size") or config.get("n_inner") or 4 * hidden,
            layers,
            heads,
            config.get("num_key_value_heads") or heads,
            config.get("head_dim") or hidden // heads,
            config.get("tie_word_embeddings", True),
            config.get("model_type", "llama"),
        )

    @property
    def layers(self) -> int:
        """Parameters of all layers and the last norm."""
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        attention = 2 * self.hidden_size * (queries + keys)
        mlp = 3 * self.hidden_size * self.intermediate_size
        norms = (4 if self.family == "gemma2" else 2) * self.hidden_size
        more = {  # of queries and keys: norms by the head or over all, biases
            "qwen3": 2 * self.head_dim, "olmo2": queries + keys, "qwen2": queries + 2 * keys,
        }.get(self.family, 0)  # fmt: skip
        return self.num_hidden_layers * (attention + mlp + norms + more) + self.hidden_size

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and of the head again where it is not tied."""
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        return self.layers + self.embedding * (1 if self.tie_word_embeddings else 2)

    def forward(self, tokens: float, context: float, scored: float | None = None) -> float:
        """Floating-point operations of a forward pass.

        Args:
            tokens: how many go through the layers.
            context: how many the average one attends to.
            scored: how many go through the head; by default all.
        """
        width = self.num_attention_heads * self.head_dim
        attention = 4 * self.num_hidden_layers * width * context * tokens
        head = 2 * self.embedding * (tokens if scored is None else scored)
        return 2 * self.layers * tokens + attention + head
