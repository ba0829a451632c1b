"""The table of a further benchmark: the scores of every method beside the paper's."""

from __future__ import annotations

from poet.evaluate.benchmarks.record import Benchmark
from poet.report.formats import PERCENT, SHARE, Layout, fixed, same


def columns(benchmark: Benchmark) -> dict[str, str]:
    """Metric -> what stands before its columns' names; nothing before the first metric's."""
    first, *others = (metric.name for metric in benchmark.metrics)
    return {first: "", **{name: f"{name}_" for name in others}}


def rows_of(benchmark: Benchmark, summaries: list[dict], reported: list[dict]) -> list[dict]:
    """One row of text cells per setting, method and annotator.

    Args:
        summaries: what :mod:`poet.evaluate.summary` writes, one per setting.
        reported: rows of the paper's ``reported.csv``. It reports a method's score once, whatever
            the setting is called here.
    """
    rows = []
    for summary in summaries:
        gains = {(gain["metric"], gain["method"]): gain for gain in summary["gains"]}
        for method, found in summary["methods"].items():
            row = {"setting": summary["setting"], "method": method}
            row |= {"annotator": summary["annotator"]}
            row["judge_model"] = " ".join(found["judge_models"])
            row |= {key: str(found[key]) for key in ("n_prompts", "n_seeds")}
            for metric, prefix in columns(benchmark).items():
                paper = {r["method"]: r["value"] for r in reported if r["metric"] == metric}
                gain = gains.get((metric, method), {})
                decimals = PERCENT if benchmark.unit == "percent" else SHARE
                cells = _cells(found["metrics"][metric], paper.get(method, ""), gain, decimals)
                row[metric] = cells.pop("value")
                row |= {f"{prefix}{name}": text for name, text in cells.items()}
            rows.append(row)
    return rows


def _cells(found: dict, paper: str, gain: dict, decimals: int) -> dict[str, str]:
    cells = {name: fixed(found[name], decimals) for name in ("value", "ci_low", "ci_high")}
    cells |= {"interval": found["interval"], "paper": paper}
    cells["gain"] = fixed(gain.get("gain"), decimals)
    cells |= {f"gain_{c}": fixed(gain.get(c), decimals) for c in ("ci_low", "ci_high")}
    cells["p_holm"] = fixed(gain.get("p_holm"), SHARE)
    return cells


def layout(benchmark: Benchmark) -> Layout:
    """What is shown: scores and gains with their intervals."""
    shown = same("setting", "method", "annotator", "n_prompts", "n_seeds")
    for metric, prefix in columns(benchmark).items():
        shown[metric] = (metric, f"{prefix}ci_low", f"{prefix}ci_high")
        shown |= same(f"{prefix}paper")
        gain = f"{prefix}gain"
        shown[gain] = (gain, f"{gain}_ci_low", f"{gain}_ci_high")
        shown |= same(f"{prefix}p_holm")
    return Layout(shown)
