"""Arena-Hard style judging: written comparisons with the baseline in both orders, five verdicts.

A verdict counts as battles, as Arena-Hard's own scoring counts them: one for a slight win or a tie
(half a win each), three for a clear win. The Bradley-Terry model of these battles has a closed form
here, because every battle is against the one baseline: the strength over it, in logits, is
log(wins / losses), so that the model's chance of winning is its share of the battles.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from poet.evaluate import judges
from poet.evaluate.benchmarks.record import Benchmark, Metric, Verdicts, share
from poet.files import UserError

PARSER = "five_level_verdict"  # what a judge's configuration calls this reading
PLACES = ("answer_a", "answer_b")  # of a judge's prompt template
# verdict -> (battles that A wins, battles)
BATTLES = {
    "A>>B": (3.0, 3.0),
    "A>B": (1.0, 1.0),
    "A=B": (0.5, 1.0),
    "B>A": (0.0, 1.0),
    "B>>A": (0.0, 3.0),
}


def is_arena(configs: dict[str, dict]) -> bool:
    """Does a judge's configuration ask for five-level verdicts?"""
    return {config.get("fn_completion_parser") for config in configs.values()} == {PARSER}


def read_verdict(choice: dict) -> str:
    """The verdict in a choice's text.

    Raises:
        ValueError: there is none, or there are different ones.
    """
    found = set(re.findall(r"\[\[(A>>B|A>B|A=B|B=A|B>A|B>>A)\]\]", judges.text_of(choice)))
    found = {"A=B" if verdict == "B=A" else verdict for verdict in found}
    if len(found) != 1:
        raise ValueError(f"expected one verdict, found {sorted(found) or 'none'}")
    return found.pop()


def annotate_pairs(rows: Sequence[dict], configs: dict[str, dict], ask: judges.Ask) -> list[dict]:
    """Judge pairs of outputs in both orders.

    Args:
        rows: with instruction, output_1 (the baseline's) and output_2 (the model's).
        configs: what :func:`poet.evaluate.judges.load_judge` returns, of one judge.
        ask: who answers.

    Returns:
        For each row ``verdicts`` (with the baseline as A, with the model as A), ``wins`` and
        ``battles`` of the model, and the preference in [1, 2]: 1 + wins / battles.
    """
    texts = [(row["instruction"], row["output_1"], row["output_2"]) for row in rows]
    swapped = [(instruction, model, baseline) for instruction, baseline, model in texts]
    found = judges.ask_once(configs, ask, texts + swapped, ("instruction", *PLACES), read_verdict)
    return [*map(_judged, found[: len(rows)], found[len(rows) :])]


def _judged(*both: dict) -> dict:
    """The columns of a pair; the model's output is second, then first."""
    verdicts = [read_verdict(answer["choice"]) for answer in both]
    (lost, battles_1), (won, battles_2) = (BATTLES[verdict] for verdict in verdicts)
    wins, battles = battles_1 - lost + won, battles_1 + battles_2
    found = {"preference": 1 + wins / battles, "verdicts": verdicts, "wins": wins}
    return found | {"battles": battles, "answers": [*map(judges.answer_columns, both)]}


def check_judge(configs: dict[str, dict]) -> None:
    if not is_arena(configs):
        raise UserError(f"an arena's judge gives five verdicts ({PARSER}), see arena_hard")


def score(verdicts: Verdicts):
    """Percent of battles won; a prompt is drawn with both its verdicts."""
    return share(verdicts, "wins", "battles")


def elo_gap(share: float) -> float:
    """Strength over the baseline on the Elo scale (400 for odds of ten); infinite at 0 and 1."""
    if share in (0.0, 1.0):
        return math.inf if share else -math.inf
    return 400 * math.log10(share / (1 - share))


def details(verdicts: Verdicts, won: float) -> dict:
    """The strength over the baseline, and how often each verdict was given."""
    counts = Counter(verdict for rows in verdicts for row in rows for verdict in row["verdicts"])
    return {"elo_gap": elo_gap(won / 100), "verdicts": dict(counts)}


BENCHMARK = Benchmark(
    name="arena",
    title="Arena-Hard",
    measures="the share of battles won against the baseline's answers, which a judge of five-level "
    "verdicts compares in both orders (a clear win counts three battles, a tie half)",
    judge=annotate_pairs,
    verdict=("wins", "battles", "verdicts"),
    metrics=(Metric("arena_score", score),),
    annotators=("api",),
    places=PLACES,
    check_judge=check_judge,
    calls=2,  # both orders
    baseline=True,
    details=details,
)
