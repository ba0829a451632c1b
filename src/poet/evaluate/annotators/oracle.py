"""The embedded world's true reward, and its preference with a mild taste for length."""

from __future__ import annotations

from collections.abc import Sequence

from poet.evaluate.annotators.kind import Kind
from poet.evaluate.annotators.scalar import Scalar


def oracle(name: str, settings: dict, model: None) -> Scalar:
    """The world's own judge; it has no settings and no model."""
    from poet.world import simulate as world

    def rewards(prompts: Sequence[dict], outputs: Sequence[str]) -> tuple[list[float], None]:
        pairs = zip(prompts, outputs, strict=True)
        return [world.reward(prompt["instruction"], output) for prompt, output in pairs], None

    return Scalar(rewards, world.oracle_preference)


def unfit(annotator: dict, setting: dict) -> str | None:
    if setting["data"]["kind"] != "world":
        return "the oracle knows the embedded world only; use a reward_model"
    return None


KIND = Kind("oracle", {}, judge=oracle, scalar=True, unfit=unfit)
