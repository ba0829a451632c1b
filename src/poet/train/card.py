"""The model card of a trained folder: what was done, on which data, with which numbers."""

from __future__ import annotations

import json
from pathlib import Path

# Numbers of the log worth a line: key -> what it says.
NUMBERS = {
    "loss": "training loss (last logged mean)",
    "mean_token_accuracy": "share of training tokens predicted right (last logged mean)",
    "rewards/margins": "reward margin of training pairs (last logged mean)",
    "rewards/accuracies": "share of training pairs ranked right (last logged mean)",
    "eval_loss": "loss on test pairs",
    "eval_rewards/margins": "reward margin of test pairs",
    "eval_rewards/accuracies": "share of test pairs ranked right",
}


def write_card(
    folder: Path, title: str, record: dict, counts: dict[str, int], numbers: dict[str, float]
) -> None:
    """Write ``README.md``: the hub's header, the record, what was read, what came out.

    Base model and data set stand in the header where they are ids on the hub. It names no licence:
    that follows from theirs.
    """
    from huggingface_hub import ModelCardData

    header = ModelCardData(
        library_name="transformers",
        tags=["trl", "poet"],
        base_model=_hub_id(record.get("model")),
        datasets=_hub_id(record.get("dataset")),
    )
    tables = {"Method": record, "Data": counts, "Numbers": numbers}
    sections = [f"## {heading}\n\n{_table(values)}" for heading, values in tables.items() if values]
    parts = [f"---\n{header.to_yaml()}\n---", f"# {title}", *sections]
    parts.append("Log and versions are in `train.json`.\n")
    (folder / "README.md").write_text("\n\n".join(parts), encoding="utf-8")


def last_numbers(history: list[dict]) -> dict[str, float]:
    """The value logged last of each of :data:`NUMBERS`, under the words for it."""
    last = {key: value for row in history for key, value in row.items()}
    return {text: round(float(last[key]), 4) for key, text in NUMBERS.items() if key in last}


def _hub_id(name: str | None) -> str | None:
    if not name or name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).exists():
        return None
    return name


def _table(values: dict) -> str:
    rows = [
        f"| {name} | {value if isinstance(value, str) else json.dumps(value)} |"
        for name, value in values.items()
        if value is not None
    ]
    return "\n".join(["| | |", "|---|---|", *rows])
