"""The held-out pairs that are analysed."""

from __future__ import annotations

from poet.files import UserError


def held_out_rows(tokens: dict, source, n: int) -> list[int]:
    """Rows of the first test pair of each prompt, at most ``n``, so that pairs are independent.

    ``tokens`` has the columns ``prompt_id`` and ``split`` as lists.

    Raises:
        UserError: there is no test pair.
    """
    first: dict[str, int] = {}
    for row, (prompt_id, split) in enumerate(
        zip(tokens["prompt_id"], tokens["split"], strict=True)
    ):
        if split == "test":
            first.setdefault(prompt_id, row)
    if not first:
        raise UserError(f"{source} has no pair of the split `test`; the analysis needs some")
    return list(first.values())[:n]
