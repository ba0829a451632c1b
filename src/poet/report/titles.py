"""Titles and captions of tables and figures, for the page and for Snakemake's report."""

from __future__ import annotations

from pathlib import Path

from poet.evaluate.benchmarks import BENCHMARKS
from poet.files import UserError

CAPTIONS = Path(__file__).parent / "captions"
# Name of a file -> its title and its caption; a figure's name may be followed by its setting's.
TITLES = {
    "main": ("Main table", "main"),
    "ablation": ("Truncation ablation", "variants"),
    "baselines": ("Token-level baselines", "variants"),
    "downstream": ("Downstream tasks", "downstream"),
    "prefix": ("Quality of prefixes", "prefix"),
    **{name: (benchmark.title, name) for name, benchmark in BENCHMARKS.items()},
    "sweep": ("Sweep over beta and learning rate", "sweep"),
    "language": ("The start model's language", "language"),
    "win-rates": ("Win rates", "win-rates"),
    "lc-length": ("Length control against length", "lc-length"),
    "ablation-curves": ("Ablation curves", "ablation-curves"),
    "lengths": ("Lengths of the answers", "lengths"),
    "training": ("Training", "training"),
    "pair-lengths": ("Lengths in the pairs", "pair-lengths"),
    "prefix-quality": ("Quality of prefixes", "prefix-quality"),
    "margins": ("Margins by prefix length", "margins"),
    "entropy": ("Entropy by position", "entropy"),
}


def of(name: str) -> tuple[str, str]:
    """Title and caption (reStructuredText) of the table or figure in a file of this name.

    Raises:
        UserError: there is none.
    """
    known = max((key for key in TITLES if name.startswith(key)), key=len, default=None)
    if known is None:
        raise UserError(f"{name}: the page has no title for it; known: {', '.join(TITLES)}")
    title, caption = TITLES[known]
    if setting := name.removeprefix(known).removeprefix("-"):
        title = f"{title}: {setting}"
    if caption in BENCHMARKS:
        return title, BENCHMARKS[caption].caption
    return title, (CAPTIONS / f"{caption}.rst").read_text(encoding="utf-8")
