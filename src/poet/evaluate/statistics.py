"""How far a score can be trusted: intervals over prompts and over seeds, and paired comparisons.

Scores come from S training runs (seeds) that answer the same P prompts: a crossed two-way layout
with random effects of prompt and of seed. The variance of the mean is the sum of

    prompts   sigma_prompt^2 / P                            well known: P - 1 degrees of freedom
    seeds     sigma_seed^2 / S + sigma_residual^2 / (S P)   badly known: S - 1 degrees of freedom

estimated by (MS_prompt - MS_residual) / (S P) and MS_seed / (S P): together the usual
(MS_seed + MS_prompt - MS_residual) / (S P). Which quantile goes with it was chosen by simulation:

- One score takes Cochran's, the variance-weighted mean of the two Student quantiles (Cochran and
  Cox 1957): three seeds cover 95-97 % whatever dominates, Satterthwaite's only 92 % at worst.
- A difference of two methods pools their seeds, so twice the degrees of freedom, and takes
  Satterthwaite's: level 4.8-5.8 %, and up to 6.7 % where the seeds of one spread twice as much.

The interval over prompts and seeds can come out narrower than the one over prompts, where the runs
happen to agree better than their answers to single prompts suggest.

Where nothing varies (all answers win, two methods write the same answers) there is nothing to
estimate a variance from: bounds and p-values are NaN then, never an interval of width zero.

Arrays may carry leading axes, so that a simulation is one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

PROMPTS_AND_SEEDS = "over prompts and seeds"
ONE_RUN = "conditional on one run"
VERDICTS = (
    "reproduced", "direction only", "contradicts", "inconclusive", "different judge", "not run",
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """One method's score: in each seed, and how it moves with the prompts.

    Attributes:
        estimates: [..., S], each seed's score on all prompts.
        replicates: [..., S, R], what shows the variance over prompts: values per prompt, or refits
            on R draws of the prompts. Prompts, or draws, are the same for all seeds and methods.
        factor: (variance of an estimate over prompts) / (variance over replicates).
        freedom: degrees of freedom of the variance over prompts, P - 1 whatever R is.
    """

    estimates: np.ndarray
    replicates: np.ndarray
    factor: float
    freedom: int

    @classmethod
    def of_values(cls, values) -> Score:
        """A mean over prompts, from one value per seed and prompt, [..., S, P]."""
        values = np.asarray(values, dtype=float)
        n_prompts = values.shape[-1]
        return cls(values.mean(-1), values, 1 / n_prompts, n_prompts - 1)

    @classmethod
    def of_draws(cls, estimates, draws, n_prompts: int) -> Score:
        """Any statistic, from its value [..., S] and its bootstrap over prompts [..., S, R]."""
        # A bootstrap's variance is that of the plug-in distribution: (P - 1) / P too small.
        factor = n_prompts / (n_prompts - 1)
        return cls(np.asarray(estimates), np.asarray(draws), factor, n_prompts - 1)

    @property
    def value(self):
        return self.estimates.mean(-1)

    @property
    def n_seeds(self) -> int:
        return self.estimates.shape[-1]

    @property
    def interval(self) -> str:
        """What the wider of the two intervals is over."""
        return PROMPTS_AND_SEEDS if self.n_seeds > 1 else ONE_RUN

    @property
    def seed_variance(self):
        """MS_seed / (S P): from the spread between seeds; zero with one seed."""
        if self.n_seeds == 1:
            return np.zeros(self.estimates.shape[:-1])
        return self.estimates.var(-1, ddof=1) / self.n_seeds

    @property
    def residual_variance(self):
        """MS_residual / (S P): the part of the seeds' spread that the choice of prompts makes."""
        if self.n_seeds == 1:
            return np.zeros(self.estimates.shape[:-1])
        deviations = self.replicates - self.replicates.mean(-2, keepdims=True)
        summed = deviations.var(-1, ddof=1).sum(-1)
        return self.factor * summed / (self.n_seeds * (self.n_seeds - 1))


class Interval(NamedTuple):
    """Bounds; NaN where nothing varied."""

    low: np.ndarray
    high: np.ndarray


class Comparison(NamedTuple):
    """Method minus baseline; ``interval`` says what low, high and p_value are over.

    These three are NaN where the two sides never differ from their mean difference.
    """

    gain: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray
    interval: str


def over_prompts(score: Score, level: float = 0.95) -> Interval:
    """Confidence interval over prompts, given these trained models (MS_prompt, Student's t)."""
    mean = score.replicates.mean(-2)
    error = np.sqrt(_known(score.factor * mean.var(-1, ddof=1), score))
    half = stats.t.ppf((1 + level) / 2, score.freedom) * error
    return Interval(score.value - half, score.value + half)


def over_prompts_and_seeds(score: Score, level: float = 0.95) -> Interval:
    """Confidence interval over prompts and training runs; with one seed, :func:`over_prompts`."""
    if score.n_seeds == 1:
        return over_prompts(score, level)
    seeds = score.seed_variance
    prompts = _prompt_variance(
        score.replicates.mean(-2), score.factor, score.residual_variance, seeds
    )
    variance = _known(prompts + seeds, score)
    t_prompts, t_seeds = stats.t.ppf((1 + level) / 2, [score.freedom, score.n_seeds - 1])
    half = (prompts * t_prompts + seeds * t_seeds) / np.sqrt(variance)
    return Interval(score.value - half, score.value + half)


def paired(method: Score, baseline: Score, level: float = 0.95) -> Comparison:
    """Compare two methods on the same prompts (or the same draws of them).

    Prompts are paired, seeds are not: run 1 of one method has nothing in common with run 1 of the
    other but its number. The spread between seeds is pooled over both, as in Student's test of two
    samples. With one seed on either side the test is over prompts, given the models (then it is
    the paired t test).
    """
    pair = (method, baseline)
    difference = method.replicates.mean(-2) - baseline.replicates.mean(-2)
    terms, residual, seeds = [], 0.0, 0.0
    if repeated := min(score.n_seeds for score in pair) > 1:
        residual = method.residual_variance + baseline.residual_variance
        degrees = [score.n_seeds - 1 for score in pair]
        spreads = [score.estimates.var(-1, ddof=1) for score in pair]
        pooled = np.average(spreads, axis=0, weights=degrees)
        seeds = pooled * sum(1 / score.n_seeds for score in pair)
        terms = [(seeds, sum(degrees))]
    prompts = _prompt_variance(difference, method.factor, residual, seeds)
    terms.append((prompts, method.freedom))
    variance = _known(sum(part for part, _ in terms), *pair)
    freedom = 1 / sum((part / variance) ** 2 / degrees for part, degrees in terms)
    gain, error = method.value - baseline.value, np.sqrt(variance)
    half = stats.t.ppf((1 + level) / 2, freedom) * error
    p_value = 2 * stats.t.sf(np.abs(gain) / error, freedom)
    over = PROMPTS_AND_SEEDS if repeated else ONE_RUN
    return Comparison(gain, gain - half, gain + half, p_value, over)


def _prompt_variance(means, factor: float, residual, seeds):
    """(MS_prompt - MS_residual) / (S P), at least zero; ``means`` [..., R] over the seeds.

    Where that and the seeds' variance both come out zero, MS_prompt / (S P): given these models.
    """
    found = factor * means.var(-1, ddof=1)
    without = np.maximum(found - residual, 0.0)
    return np.where(without + seeds > 1e-9 * found, without, found)


def _known(variance, *scores: Score):
    """``variance``, NaN where it is no more than the rounding of numbers that are all the same."""
    size = sum(np.abs(score.replicates).max((-1, -2)) for score in scores)
    return np.where(variance > (1e-9 * size) ** 2, variance, np.nan)


def known(number) -> float | None:
    """A bound or p-value as JSON has it: null in place of NaN."""
    return None if np.isnan(number) else float(number)


def holm(p_values) -> np.ndarray:
    """Holm's step-down correction of the p-values of one table; NaN is none, and stays NaN."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]  # NaN is sorted last
    steps = (len(order) - np.arange(len(order))) * p_values[order]
    corrected = np.full_like(p_values, np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def prompts_needed(
    method: Score, baseline: Score, n_prompts: int, level: float = 0.95, power: float = 0.8
) -> int | None:
    """Prompts that a paired comparison needs to see a gain as large as the one found.

    With as many seeds as there are. None where no number is enough: the gain is zero, or the seeds
    alone blur it (then more seeds are needed).
    """
    difference = method.replicates.mean(-2) - baseline.replicates.mean(-2)
    prompts = method.factor * difference.var(-1, ddof=1)
    seeds = [max(s.seed_variance - s.residual_variance, 0.0) for s in (method, baseline)]
    quantiles = stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power)
    room = ((method.value - baseline.value) / quantiles) ** 2 - sum(seeds)
    return int(np.ceil(n_prompts * prompts / room)) if room > 0 else None


def same_direction(gain: Interval, reported: float) -> bool | None:
    """Whether a gain has the sign of the reported one; None where its interval holds zero."""
    if gain.low <= 0 <= gain.high or reported == 0:
        return None
    return bool((gain.low > 0) == (reported > 0))


def verdict(
    found: Interval | None,
    reported: float,
    same_annotator: bool,
    direction: bool | None = None,
    margin: float = 3.0,
) -> str:
    """What a 95 % interval says about the number that the paper reports: one of VERDICTS.

    - ``not run``: there is no interval.
    - ``different judge``: levels and gains of two judges are not comparable.
    - ``reproduced``: equivalent, that is, the interval lies within ``margin`` of the reported
      number. Two one-sided tests at 2.5 % each (Schuirmann 1987).
    - ``direction only``: not shown to be equivalent, but POET's gain has the paper's sign.
    - ``contradicts``: the gain has the other sign, or the interval lies beyond ``margin`` wholly.
    - ``inconclusive``: the interval is too wide for any of these.

    Args:
        found: the interval over prompts and seeds of a score or of a gain; with one seed, the one
            given that run (the verdict then is "conditional on one run" as well).
        reported: the paper's number in the same unit, taken as exact: it reports no spread.
        same_annotator: whether the same judge made both.
        direction: of the gain that the cell is part of, by :func:`same_direction`; None also where
            the cell has no baseline.
        margin: the largest difference that does not matter, in percentage points.
    """
    if found is None:
        return "not run"
    if not same_annotator:
        return "different judge"
    below, above = found.low - (reported - margin), (reported + margin) - found.high
    if below >= 0 and above >= 0:
        return "reproduced"
    if direction:
        return "direction only"
    apart = found.high < reported - margin or found.low > reported + margin
    return "contradicts" if apart or direction is False else "inconclusive"
