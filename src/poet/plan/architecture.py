"""A decoder's parameters and floating-point operations, from its shape alone.

For the Llama family (Llama, Mistral, Qwen 2 without biases) and Gemma 2, whose layers have two
norms more. Embedding look-ups cost nothing; a matrix product costs two operations per weight and
token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
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
    norms_per_layer: int = 2

    @classmethod
    def of(cls, config: dict) -> Architecture:
        """From the content of a ``config.json``, or of a configuration's ``scratch`` section."""
        heads = config["num_attention_heads"]
        return cls(
            config["vocab_size"],
            config["hidden_size"],
            config["intermediate_size"],
            config["num_hidden_layers"],
            heads,
            config.get("num_key_value_heads") or heads,
            config.get("head_dim") or config["hidden_size"] // heads,
            config.get("tie_word_embeddings", True),
            4 if config.get("model_type") == "gemma2" else 2,
        )

    @property
    def layers(self) -> int:
        """Parameters of all layers and the last norm."""
        attention = 2 * self.hidden_size * self.head_dim
        attention *= self.num_attention_heads + self.num_key_value_heads
        mlp = 3 * self.hidden_size * self.intermediate_size
        norms = self.norms_per_layer * self.hidden_size
        return self.num_hidden_layers * (attention + mlp + norms) + self.hidden_size

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
