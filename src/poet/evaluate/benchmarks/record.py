"""What the workflow knows of a benchmark: one record, from its questions to its table.

Importing it loads nothing: what counts imports numpy where it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from poet.evaluate import judges
from poet.evaluate.annotators import KINDS
from poet.evaluate.records import closed

if TYPE_CHECKING:
    from poet.evaluate.statistics import Score

Verdicts = Sequence[list[dict]]  # of every seed, in the order of the prompts
DRAWS = 1000  # of the prompts, for what is no mean over them
# What rows of questions, answers and pairs have beside a benchmark's columns.
ROW = "index dataset instruction prompt turns reference_name output outputs generator".split()
ROW += [f"{name}_{number}" for name in ("output", "generator") for number in (1, 2)]
PROGRAM = "program"  # stands in paths and tables where no annotator judges


class Metric(NamedTuple):
    """One number of a benchmark's table.

    Attributes:
        name: its column, and what ``paper/reported.csv`` calls it.
        score: verdicts -> the score of one method.
        binary: each prompt counts 0 or 100: Wilson's interval for one run, and where runs agree.
        bounds: between which it lies, in the benchmark's unit.
    """

    name: str
    score: Callable[[Verdicts], Score]
    binary: bool = False
    bounds: tuple[float, float] = (0.0, 100.0)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: a section of a setting, answers to its questions, verdicts, a table.

    Attributes:
        name: of the section, the folder below ``results`` and the table.
        title: the table's heading on the page.
        measures: what the numbers are, a clause of caption and schema.
        judge: rows -> a verdict for each, a dict. A row has index, instruction, output, generator
            and ``columns``; with a baseline it is a pair of outputs instead, as
            :func:`poet.evaluate.annotate.pair_up` makes it, and ``columns``; with several turns it
            also has ``turns``, what the user says, and ``outputs``. Where annotators judge, it is
            also given the judge's configuration (:func:`poet.evaluate.judges.load_judge`) and who
            answers (:data:`poet.evaluate.judges.Ask`).
        verdict: the keys of a verdict that the metrics read.
        metrics: the numbers; gains and the paper's values stand beside each.
        annotators: kinds of language models that may judge; none where ``judge`` needs none.
        places: what a judge's prompt template must have a place for.
        check_judge: raises a UserError for a judge's configuration of another use.
        calls: of a judge, about one question.
        baseline: are the answers compared with a baseline's, which the section names?
        turns: how often the user speaks; with several, the questions' column is a list of texts.
        columns: further columns of the questions that the judge reads, as instructions to follow
            or reference answers; every question has them.
        details: (verdicts, value of the first metric) -> what else the summary says of a method.
        unit: of the metrics.
    """

    name: str
    title: str
    measures: str
    judge: Callable[..., list[dict]]
    verdict: tuple[str, ...]
    metrics: tuple[Metric, ...]
    annotators: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    check_judge: Callable[[dict], object] | None = None
    calls: int = 1
    baseline: bool = False
    turns: int = 1
    columns: tuple[str, ...] = ()
    details: Callable[[Verdicts, float], dict] | None = None
    unit: str = "percent"

    def __post_init__(self):
        if taken := {*ROW, *["reference"] * self.baseline} & {*self.columns}:
            raise ValueError(f"{self.name}: {min(taken)} is a column of the workflow's own")
        if others := [kind for kind in self.annotators if not KINDS[kind].ask]:
            raise ValueError(f"{self.name}: {others[0]} judges pairs only")

    @property
    def asked(self) -> tuple[str, ...]:
        """What of a question its judge reads."""
        return ("index", "instruction", *["turns"] * (self.turns > 1), *self.columns)

    @property
    def files(self) -> tuple[str, ...]:
        """The keys of the section that name a file of rows."""
        return ("prompts", "baseline") if self.baseline else ("prompts",)

    def annotator(self, section: dict) -> str:
        """Who judges, as it stands in paths and tables."""
        return section["annotator"] if self.annotators else PROGRAM

    def section(self) -> dict:
        """JSON schema of the section."""
        properties = {name: {"$ref": "#/$defs/rows"} for name in self.files}
        by = "a program"
        if self.annotators:
            properties["annotator"] = {"type": "string"}
            by = f"an annotator of kind {' or '.join(self.annotators)}"
        return {**closed(**properties), "description": f"{self.measures}; judged by {by}"}

    def check(self, configs: dict) -> None:
        """Check that a judge is one of this benchmark's.

        Raises:
            UserError: it gives other verdicts, or its prompt template has no place for the answers.
        """
        if self.check_judge:
            self.check_judge(configs)
        judges.check_places(configs, self.places, self.name)

    @property
    def caption(self) -> str:
        """What is said about the table, on the page and below it, in reStructuredText."""
        return (
            f"{self.unit.capitalize()}, one row per setting, method and annotator: "
            f"{self.measures}. ``ci_low`` and ``ci_high`` bound the 95 % interval that "
            "``interval`` names; ``gain`` is the difference to the method without POET on the same "
            "prompts, ``p_holm`` is corrected over a setting's gains in one number (Holm). "
            "``paper`` is the paper's number."
        )


def mean(verdicts: Verdicts, value: Callable[[dict], float]) -> Score:
    """The mean over prompts of what each verdict is worth."""
    from poet.evaluate.statistics import Score

    return Score.of_values([[value(verdict) for verdict in rows] for rows in verdicts])


def share(verdicts: Verdicts, part: str, whole: str) -> Score:
    """Percent: the sum of one key of the verdicts in the sum of another.

    Its bootstrap draws prompts, each with all that was judged of it, the same for every method.
    """
    import numpy as np

    from poet.evaluate.length_control import draw_prompts
    from poet.evaluate.statistics import Score

    counts = draw_prompts(len(verdicts[0]), DRAWS)
    everything = np.ones((1, counts.shape[1]))
    values, draws = [], []
    for rows in verdicts:
        parts, wholes = (np.array([row[key] for row in rows]) for key in (part, whole))
        values.append(100 * ((everything @ parts) / (everything @ wholes))[0])
        draws.append(100 * ((counts @ parts) / (counts @ wholes)))
    return Score.of_draws(np.array(values), np.array(draws), counts.shape[1])
