"""Has the start model learned the embedded world's language? Its true reward beside two others'.

The unigram babbler knows the corpus's words and the lengths of its texts, and nothing else; the
corpus writer wrote what the model learned from, in answer to the corpus's own prompts.
"""

from __future__ import annotations

import numpy as np

from poet.evaluate.annotate import pair_up
from poet.evaluate.prompts import read_rows, require
from poet.evaluate.statistics import Score, over_prompts
from poet.report.formats import SHARE, Layout, fixed, same
from poet.world.language import reward
from poet.world.simulate import REFERENCE, babble

LAYOUT = Layout(
    {
        **same("setting", "writer"),
        "prompts": ("n_prompts",),
        "answers": ("n_samples",),
        "true reward": ("true_reward", "true_reward_ci_low", "true_reward_ci_high"),
        "perfect": ("share_perfect",),
        "ended": ("share_ended",),
    }
)
NOTES = [
    "True reward: mean, in [0, 1], and its 95 % interval over prompts, where they differ (answers "
    "to one prompt are averaged first). perfect: share of answers worth 1; ended: share of answers "
    "that ended by themselves, where a model wrote them. The corpus's answers are to its own "
    "prompts."
]


def language_row(setting: str, writer: str, rewards, share_ended: float | None = None) -> dict:
    """One row of text cells from the rewards of answers, [samples per prompt, prompts]."""
    score = Score.of_values(rewards)
    n_samples, n_prompts = score.replicates.shape
    low, high = np.clip(over_prompts(score), 0.0, 1.0)
    return {
        "setting": setting,
        "writer": writer,
        "n_prompts": str(n_prompts),
        "n_samples": str(n_samples * n_prompts),
        "true_reward": fixed(score.value, SHARE),
        "true_reward_ci_low": fixed(low, SHARE),
        "true_reward_ci_high": fixed(high, SHARE),
        "share_perfect": fixed((score.replicates == 1.0).mean(), SHARE),
        "share_ended": fixed(share_ended, SHARE),
    }


def rows_of(worlds: dict[tuple[str, str, str], list[str]]) -> list[dict]:
    """Three rows per setting: babbler (one text per evaluation prompt), corpus writer, ``sft``.

    Args:
        worlds: (setting, corpus.parquet, prompts.jsonl) -> the start model's answers, a file per
            sampling seed. All prompts of the corpus differ.

    Raises:
        UserError: generations that are not of these prompts.
    """
    from pyarrow import parquet

    found = []
    for (setting, corpus_file, prompts_file), files in worlds.items():
        corpus, prompts = parquet.read_table(corpus_file).to_pylist(), read_rows(prompts_file)
        questions = [row["prompt"][-1]["content"] for row in corpus]
        answers = [row["completion"][-1]["content"] for row in corpus]
        written = list(map(reward, questions, answers))
        babbled = babble(np.random.default_rng(0), answers, len(prompts))
        asked = [row["instruction"] for row in prompts]
        sampled, ended = [], []
        for path in files:
            rows = read_rows(path)
            require(rows, ("finish_reason",), path)
            pairs = pair_up(prompts, rows, path, REFERENCE)
            sampled.append([reward(pair["instruction"], pair["output_2"]) for pair in pairs])
            ended += [row["finish_reason"] == "stop" for row in rows]
        found += [
            language_row(setting, "unigram babbler", [list(map(reward, asked, babbled))]),
            language_row(setting, "corpus writer", [written]),
            language_row(setting, "sft", sampled, float(np.mean(ended))),
        ]
    return found
