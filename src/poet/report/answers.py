"""Answers head to head: what a method and its baseline said to the same prompt, and who won.

Both were compared with the reference answer; the one that the annotator prefers to it more
strongly wins. A difference that two decimals do not show is a tie.
"""

from __future__ import annotations

import base64
import gzip
import json

from poet.evaluate.alpaca import align
from poet.evaluate.prompts import read_rows
from poet.report.headline import is_poet

BLOCK = "\N{FULL BLOCK}"  # stands in an archive for each character of a text that is left out


def bundle(
    annotations: dict[tuple[str, str, str], list[str]],
    gains: dict[str, str],
    methods: dict[str, dict],
    seeds: list[int],
) -> dict:
    """Everything that the page's browser of answers shows.

    Args:
        annotations: (setting, annotator, method) -> files in alpaca-eval's format, one per seed.
        gains: method -> baseline.
        methods: that section of the configuration.
        seeds: of the files, in their order.

    Returns:
        ``prompts`` and ``references``: setting -> texts in the benchmark's order; ``answers``:
        setting -> method -> seed -> texts; ``lengths``: likewise, in characters; ``pairs``: one
        per setting, annotator, method with its baseline, and seed, with ``label`` (what wins or
        loses) and ``preferences``, a list of (method's, baseline's), each the annotator's
        probability that the answer is better than the reference.

    Raises:
        UserError: see :func:`poet.evaluate.alpaca.align`.

    A setting whose texts an archive leaves out is left out.
    """
    found: dict = {"prompts": {}, "references": {}, "answers": {}, "lengths": {}, "pairs": []}
    preferences = {}
    for (setting, annotator, method), files in annotations.items():
        for seed, path in zip(seeds, files, strict=True):
            rows = read_rows(path)
            if all(row["instruction"].startswith(BLOCK) for row in rows):
                continue
            prompts = found["prompts"].setdefault(setting, [row["instruction"] for row in rows])
            rows = align(rows, prompts, path)
            found["references"].setdefault(setting, [row["output_1"] for row in rows])
            texts = [row["output_2"] for row in rows]
            for kind, values in (("answers", texts), ("lengths", [*map(len, texts)])):
                of_method = found[kind].setdefault(setting, {}).setdefault(method, {})
                of_method[str(seed)] = values
            preferences[setting, annotator, method, seed] = [r["preference"] - 1 for r in rows]
    for setting, annotator, method, seed in preferences:
        theirs = preferences.get((setting, annotator, gains.get(method), seed))
        if theirs is not None:
            both = zip(preferences[setting, annotator, method, seed], theirs, strict=True)
            found["pairs"].append(
                {
                    "setting": setting, "annotator": annotator, "method": method,
                    "baseline": gains[method], "seed": str(seed),
                    "label": "POET" if is_poet(method, methods) else method,
                    "preferences": [[round(p, 4) for p in pair] for pair in both],
                }
            )  # fmt: skip
    return found


def packed(value) -> str:
    """``value`` as JSON, gzipped, in base64: no character of it can end an HTML element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
