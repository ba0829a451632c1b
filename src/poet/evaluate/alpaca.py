"""AlpacaEval 2 scores from annotations: win rates and a length-controlled win rate.

With the benchmark's gamed rows the latter is alpaca-eval's own, without them ours; see
:mod:`poet.evaluate.length_control`.

Annotations are aligned with the benchmark by instruction before anything is computed, so that the
order of their rows does not matter and no row is lost in silence. Each file is scored once: what
:mod:`poet.evaluate.compare` needs of it beside the scores stands in its ``compared``.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from poet.data.pairs import digest
from poet.data.split import MIN_PROMPTS
from poet.evaluate.length_control import (
    MINIMAL,
    V1,
    draw_prompts,
    minimal,
    minimal_error,
    offline_regression,
    refit,
)
from poet.evaluate.prompts import add_benchmark_flags, read_benchmark, read_rows, require, some
from poet.files import UserError, cli, write_json
from poet.provenance import version

# The length-controlled win rate and its standard error: only AlpacaEval's own has its names.
LC_KEYS = {
    V1: ("length_controlled_winrate", "lc_standard_error"),
    MINIMAL: ("length_controlled_minimal_winrate", "lc_minimal_standard_error"),
}
# alpaca-eval's name of the model's own term in its regression
OWN_TERM = "not_gamed_baseline.astype(float)"
COLUMNS = ("instruction", "output_1", "output_2", "generator_1", "generator_2", "preference")


def align(
    rows: Sequence[dict],
    instructions: Sequence[str],
    source: str | Path,
    allow_missing: bool = False,
) -> list[dict]:
    """The annotations in the benchmark's order, with ``index``, the position of their instruction.

    A row whose preference is null is an annotation that failed, and counts as missing
    (alpaca-eval drops those in silence). Where missing ones are allowed, it stays as it is: as in
    alpaca-eval, its lengths count and its preference does not. Instructions that stand in the
    benchmark several times must be annotated as often; their rows are ordered by what they say.

    Raises:
        UserError: naming missing, duplicated and foreign instructions, malformed rows, or
            preferences outside [1, 2] (0 is alpaca-eval's old sign for a draw).
    """
    _check_rows(rows, source)
    places, found, failed = defaultdict(list), defaultdict(list), defaultdict(list)
    for index, instruction in enumerate(instructions):
        places[instruction].append(index)
    for row in rows:
        (failed if _failed(row) else found)[row["instruction"]].append(row)
    missing = [text for text in places if len(found.get(text, ())) < len(places[text])]
    duplicated = [text for text in places if len(found.get(text, ())) > len(places[text])]
    foreign = list(dict.fromkeys(r["instruction"] for r in rows if r["instruction"] not in places))
    if duplicated or foreign or (missing and not allow_missing):
        raise UserError(
            f"{source} does not match the benchmark of {len(instructions)} prompts.\n"
            f"  missing (or failed): {some(missing)}\n"
            f"  duplicated: {some(duplicated)}\n"
            f"  foreign: {some(foreign)}\n"
            "Annotate what is missing; --allow-missing scores without it."
        )
    if not found:
        raise UserError(f"{source} holds no annotation that succeeded")
    aligned = []
    for text, indices in places.items():
        same = sorted(found[text], key=lambda row: (row["output_2"], row["preference"]))
        same += sorted(failed[text], key=lambda row: row["output_2"])
        for index, row in zip(indices, same, strict=False):
            preference = math.nan if _failed(row) else float(row["preference"] or 1.5)
            aligned.append({**row, "index": index, "preference": preference})
    return sorted(aligned, key=lambda row: row["index"])


def _check_rows(rows: Sequence[dict], source: str | Path) -> None:
    require(rows, COLUMNS, source)
    for number, row in enumerate(rows):
        if not all(isinstance(row[column], str) for column in COLUMNS[:3]):
            raise UserError(f"{source}, row {number}: instruction and outputs must be strings")
        found = row["preference"]
        a_number = isinstance(found, int | float) and not isinstance(found, bool)
        if not _failed(row) and not (a_number and (found == 0 or 1 <= found <= 2)):
            raise UserError(
                f"{source}, row {number}: preference {found!r}; expected a number from 1 (the "
                "reference is better) to 2 (the model is better)"
            )
    for column in ("generator_1", "generator_2"):
        if len(names := sorted({str(row[column]) for row in rows})) > 1:
            raise UserError(f"{source}: several {column}: {some(names)}; expected one per file")


def _failed(row: dict) -> bool:
    preference = row["preference"]
    return preference is None or (isinstance(preference, float) and math.isnan(preference))


def score(
    rows: Sequence[dict], gamed=None, source: str | Path = "the annotations"
) -> tuple[dict, float | None]:
    """Win rates of aligned annotations, by alpaca-eval's code, and a length-controlled win rate.

    Args:
        rows: what :func:`align` returns.
        gamed: what :func:`poet.evaluate.prompts.read_gamed` returns: alpaca-eval's regression.
            Without it (own data) it is :func:`poet.evaluate.length_control.minimal`, whose result
            is not AlpacaEval's: it has keys of its own, :data:`LC_KEYS`.
        source: of the rows, for messages.

    Returns:
        The scores (win rates and standard errors in percent, lengths in characters), and the
        C of alpaca-eval's regression, the inverse strength of its L1 penalty as chosen by
        cross-validation (None without gamed rows, and where the model is the reference itself, so
        that nothing is fitted). ``degenerate``: that penalty took the model's own term to
        zero, and the length-controlled win rate says nothing of the model.

    Raises:
        UserError: fewer annotations than :data:`poet.data.split.MIN_PROMPTS`, or
            alpaca-eval's regression and length differences that are all equal.
    """
    import pandas as pd

    frame = pd.DataFrame(rows)
    judged = frame["preference"].notna()
    if (n_found := int(judged.sum())) < MIN_PROMPTS:
        raise UserError(
            f"{source}: length control needs at least {MIN_PROMPTS} annotations; found {n_found}. "
            "Evaluate on more prompts."
        )
    delta = frame["output_1"].str.len() - frame["output_2"].str.len()
    strength, degenerate = None, False
    if gamed is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from alpaca_eval.metrics import get_winrate

        kind, metrics = MINIMAL, get_winrate(frame)
        found = (frame["preference"] - 1)[judged].to_numpy(), delta[judged].to_numpy(dtype=float)
        lc, lc_error = minimal(*found, np.ones((1, n_found)))[0], minimal_error(*found)
    else:
        if delta.nunique() < 2:
            raise UserError(
                f"{source}: alpaca-eval's length control needs length differences that differ; "
                "found all equal. --without-gamed scores them."
            )
        kind = V1
        with offline_regression(gamed) as (metric, fitted):
            metrics = metric(frame, V1, save_weights_dir=None, is_add_glm_preference_inplace=False)
        lc, lc_error = metrics["length_controlled_winrate"], metrics["lc_standard_error"]
        if fitted:
            own = list(fitted[0].feature_names_in_).index(OWN_TERM)
            strength, degenerate = float(fitted[0].C_[0]), fitted[0].coef_[0][own] == 0
    scores = {
        "win_rate": float(metrics["win_rate"]),
        "standard_error": float(metrics["standard_error"]),
        **dict(zip(LC_KEYS[kind], (float(lc), float(lc_error)), strict=True)),
        "degenerate": bool(degenerate),
        "discrete_win_rate": float(metrics["discrete_win_rate"]),
        "avg_length": int(frame["output_2"].str.len().mean()),
        "n_total": int(metrics["n_total"]),
        "lc_kind": kind,
        "share_ended": None,
        "mean_reward": _mean(frame, "reward_2"),
        "mean_reward_reference": _mean(frame, "reward_1"),
    }
    return scores, strength


def compared(
    rows: Sequence[dict], instructions: Sequence[str], strength: float | None, gamed=None
) -> dict | None:
    """What a comparison takes of aligned annotations; lists are over the benchmark's prompts.

    Args:
        rows: what :func:`align` returns; gamed, strength: what :func:`score` takes and returns.

    Returns:
        ``prompts``, which names the benchmark; ``preference``, the judge's probability that the
        model is better; ``reward`` of the model's answers (None where an annotator gives none);
        ``length`` in characters and ``answer``, which names the text; ``lc_draws``, the
        length-controlled win rate in percent on :func:`poet.evaluate.length_control.draw_prompts`.
        None where an annotation is missing, and where alpaca-eval's regression fits nothing, the
        model being the reference itself.
    """
    preference = np.array([row["preference"] - 1 for row in rows])
    missing = len(rows) < len(instructions) or np.isnan(preference).any()
    if missing or gamed is not None and strength is None:
        return None
    delta = np.array([len(row["output_1"]) - len(row["output_2"]) for row in rows], dtype=float)
    counts = draw_prompts(len(rows))
    if gamed is None:
        draws = minimal(preference, delta, counts)
    else:
        draws = refit(preference, delta, counts, strength, gamed)
    rewards = [row.get("reward_2") for row in rows]
    return {
        "prompts": digest(list(instructions))[:16],
        "preference": preference.tolist(),
        "reward": None if None in rewards else rewards,
        "length": [len(row["output_2"]) for row in rows],
        "answer": [digest(row["output_2"])[:16] for row in rows],
        "lc_draws": draws.tolist(),
    }


def _mean(frame, column: str) -> float | None:
    return float(frame[column].mean()) if column in frame and frame[column].notna().all() else None


def share_ended(generations: str | Path, rows: Sequence[dict], source: str | Path) -> float:
    """The share of generations that ended by themselves (``finish_reason`` "stop").

    Raises:
        UserError: the annotations (``rows`` of the file ``source``) are not of these generations.
    """
    made = read_rows(generations)
    require(made, ("instruction", "output", "finish_reason"), generations)
    outputs = {(row["instruction"], row["output"]) for row in made}
    other = [r["instruction"] for r in rows if (r["instruction"], r["output_2"]) not in outputs]
    if other:
        raise UserError(f"{source} judges outputs that are not in {generations}: {some(other)}")
    return sum(row["finish_reason"] == "stop" for row in made) / len(made)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", required=True, nargs="+", help=".json or .json.gz")
    add_benchmark_flags(parser)
    parser.add_argument("--generations", nargs="+", help="one per annotations file")
    parser.add_argument("--output", required=True, nargs="+", help="one per annotations file")
    parser.add_argument("--allow-missing", action="store_true", help="score what is there")
    args = parser.parse_args(argv)
    for name in ("output", "generations"):
        files = getattr(args, name)
        if files is not None and len(files) != len(args.annotations):
            parser.error(f"{len(args.annotations)} annotations, but {len(files)} {name}")
    instructions, gamed = read_benchmark(args)
    made = version()
    for number, path in enumerate(args.annotations):
        rows = align(read_rows(path), instructions, path, args.allow_missing)
        scores, strength = score(rows, gamed, path)
        if args.generations:
            scores["share_ended"] = share_ended(args.generations[number], rows, path)
        scores["compared"] = compared(rows, instructions, strength, gamed)
        scores["provenance"] = made
        write_json(scores, args.output[number])


if __name__ == "__main__":
    cli(main)
