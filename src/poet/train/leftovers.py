"""Checkpoints of trainings that did not end: what they take, and how to be rid of them."""

from __future__ import annotations

from pathlib import Path


def size(folder: str | Path) -> str:
    """What the files below a folder take, such as ``1.6 GB``."""
    total = sum(path.lstat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return f"{total / 1e9:.1f} GB" if total >= 5e8 else f"{total / 1e6:.1f} MB"


def leftovers(root: str | Path) -> str | None:
    """What to say of the checkpoints below ``root`` when all trainings are done; None without any.

    They are those of another configuration or of other data: a finished training removes its own.
    """
    runs = sorted({path.parent for path in Path(root).rglob("checkpoint-*") if path.is_dir()})
    if not runs:
        return None
    each = ", ".join(f"{run.relative_to(root)} ({size(run)})" for run in runs[:8])
    more = f" and {len(runs) - 8} more" if len(runs) > 8 else ""
    return (
        f"{root} holds {size(root)} of trainings with other settings or data that did not end, "
        f"which nothing of this run uses: {each}{more}.\n"
        f"Unless you mean to go on with those, remove them: rm -r {root}"
    )
