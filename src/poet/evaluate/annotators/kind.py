"""What the workflow knows of a kind of annotator: one record, from its settings to its judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

# (rows of prompts.jsonl, pairs) -> one dict per pair, with ``preference`` in [1, 2] (2: the model
# is better) and whatever else it tells
Judge = Callable[[Sequence[dict], Sequence[dict]], list[dict]]


@dataclass(frozen=True)
class Kind:
    """One kind of annotator. It has either ``judge``, or ``ask`` if it is a language model.

    Attributes:
        name: what a section ``annotators.NAME`` calls it, under ``kind``.
        schema: JSON schema of such a section's other keys.
        judge: (annotator's name, its section, folder of its model) -> a judge of pairs. The folder
            is None where the section's ``name`` is one.
        ask: (name, section, the judge's configuration, folder) -> a context, in which requests are
            answered (:data:`poet.evaluate.judges.Ask`).
        scalar: the judge is a :class:`poet.evaluate.annotators.scalar.Scalar`, which gives every
            answer a reward.
        bought: it is behind a network, and may cost money.
        loads: it loads a model, which takes memory, threads or a GPU: that of the section's
            ``name`` or, without one, what is trained on the setting's own pairs.
        limits: keys of such a section that decide no verdict, but when and how it is asked for: a
            change of them annotates nothing anew.
        unfit: (section, setting) -> why it cannot judge the answers of a setting, or None.
        check: (section, the judge's configuration or None, where it stands) -> None; raises a
            UserError for what its files on this machine, or its judge, cannot do.
        beforehand: (name, section, folder, rows of prompts.jsonl, needs of an answer) -> what was
            looked at; raises a UserError for what would only show after the trainings.
    """

    name: str
    schema: dict
    judge: Callable[[str, dict, str | None], Judge] | None = None
    ask: Callable[[str, dict, dict, str | None], AbstractContextManager] | None = None
    scalar: bool = False
    bought: bool = False
    loads: bool = False
    limits: tuple[str, ...] = ()
    unfit: Callable[[dict, dict], str | None] | None = None
    check: Callable[[dict, dict | None, str], None] | None = None
    beforehand: Callable[[str, dict, str | None, Sequence[dict], list], dict] | None = None

    def section(self) -> dict:
        """JSON schema of a whole section of this kind; it allows no other keys."""
        properties = {"kind": {"const": self.name}, **self.schema.get("properties", {})}
        return {**self.schema, "properties": properties, "additionalProperties": False}
