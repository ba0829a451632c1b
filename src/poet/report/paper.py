"""The paper's numbers beside ours: what it reports, and what our intervals say about that."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from poet.files import UserError

COLUMNS = {"table", "setting", "method", "metric", "value"}


def read_reported(path: str | Path) -> list[dict]:
    """The rows of ``paper/reported.csv``, values as printed in the paper.

    Raises:
        UserError: a column is missing.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := COLUMNS - set(reader.fieldnames or ()):
            raise UserError(f"{path}, line 1: columns missing: {', '.join(sorted(missing))}")
        return list(reader)


def interval_of(found: dict, prefix: str):
    """The :class:`~poet.evaluate.statistics.Interval` of a row; one that is null excludes nothing.

    So a number without an interval is inconclusive, and never a verdict.
    """
    from poet.evaluate.statistics import Interval  # scipy, which figures do without

    low, high = found[f"{prefix}_low"], found[f"{prefix}_high"]
    return Interval(-math.inf, math.inf) if low is None else Interval(low, high)


@dataclass(frozen=True)
class Paper:
    """The length-controlled win rates of one of the paper's tables.

    Attributes:
        values: (setting, method) -> percent, as printed.
        annotators: names in the configuration of the judge that the paper used.
    """

    values: dict[tuple[str, str], str]
    annotators: Collection[str] = ()

    @classmethod
    def of(cls, reported: list[dict], table: str, annotators: Collection[str] = ()) -> Paper:
        """The rows of ``reported`` (see :func:`read_reported`) that belong to ``table``."""
        rows = [r for r in reported if (r["table"], r["metric"]) == (table, "lc_win_rate")]
        return cls({(row["setting"], row["method"]): row["value"] for row in rows}, annotators)

    def methods(self, setting: str) -> list[str]:
        """What the paper reports for a setting, in its order."""
        return [method for of, method in self.values if of == setting]

    def score(self, comparison: dict, method: str) -> dict[str, str]:
        """The cells ``paper_lc_win_rate`` and ``verdict``; empty where the paper has no number."""
        value = self.values.get((comparison["setting"], method))
        if value is None:
            return {"paper_lc_win_rate": "", "verdict": ""}
        found = comparison["methods"].get(method)
        gains = [g for g in comparison["gains"] if method in (g["method"], g["baseline"])]
        # A baseline of several methods is part of no single gain.
        gain = gains[0] if len(gains) == 1 else None
        verdict = self._verdict(comparison, found, "lc_ci", float(value), gain)
        return {"paper_lc_win_rate": value, "verdict": verdict}

    def gain(self, comparison: dict, gain: dict | None) -> dict[str, str]:
        """The cells ``paper_gain_lc`` and ``gain_verdict``, in percentage points."""
        value = self._gain_value(comparison["setting"], gain)
        if value is None:
            return {"paper_gain_lc": "", "gain_verdict": ""}
        verdict = self._verdict(comparison, gain, "ci", value, gain)
        return {"paper_gain_lc": f"{value:.1f}", "gain_verdict": verdict}

    def _gain_value(self, setting: str, gain: dict | None) -> float | None:
        if not gain:
            return None
        method, baseline = (self.values.get((setting, gain[s])) for s in ("method", "baseline"))
        if method is None or baseline is None:
            return None
        return round(float(method) - float(baseline), 1)  # both are printed with one decimal

    def _verdict(self, comparison, found, prefix: str, value: float, gain) -> str:
        from poet.evaluate import statistics

        interval = found and interval_of(found, prefix)
        of_gain = self._gain_value(comparison["setting"], gain)
        direction = None
        if of_gain is not None:
            direction = statistics.same_direction(interval_of(gain, "ci"), of_gain)
        same_annotator = comparison["annotator"] in self.annotators
        return statistics.verdict(interval, value, same_annotator, direction)
