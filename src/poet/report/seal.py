"""Write an archive of a finished run: what its tables, figures and page are made of.

It is laid out like ``results/``, gzipped, with checksums, and appears under its name when it is
whole. The texts of simulated worlds are kept. Those of other data may have a licence that forbids
to pass them on: instead of them stand as many blocks as they have characters, and a number for each
prompt, which give the same tables and figures.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable
from pathlib import Path

from poet.evaluate.alpaca import COLUMNS
from poet.evaluate.prompts import read_rows
from poet.files import UserError, cli, publish, read_json
from poet.progress import track
from poet.provenance import version
from poet.report import checksums
from poet.report.answers import BLOCK
from poet.report.page import version as named

PAGE = ("index.html", "answer.txt")


def redacted(rows: list[dict], numbers: dict[str, int]) -> list[dict]:
    """Annotations whose texts are blocks: of them stay numbers, lengths and who wrote them.

    Args:
        rows: in alpaca-eval's format.
        numbers: prompt -> its number, the same for all files of a setting; filled in here.
    """
    found = []
    for row in rows:
        number = numbers.setdefault(row["instruction"], len(numbers))
        kept = {k: v for k, v in row.items() if k in COLUMNS or isinstance(v, int | float)}
        outputs = {name: BLOCK * len(row[name]) for name in ("output_1", "output_2")}
        found.append(kept | {"instruction": f"{BLOCK} {number}"} | outputs)
    return found


def content(path: Path, numbers: dict[str, int]) -> bytes:
    """What an archive without texts holds of a file.

    Raises:
        UserError: a file of texts that it has no form without them for.
    """
    kind = path.parts[1]
    if kind in ("data", "generations") and path.name != "summary.json":
        raise UserError(
            f"{path} holds texts whose licence is not known; expected it only of worlds"
        )
    if kind == "annotations":
        value = redacted(read_rows(path), numbers)
    elif path.name == "diagnosis.json":
        value = read_json(path)
        if value.get("evaluation"):
            value["evaluation"]["examples"] = []  # prompts that stand in both
    else:
        return path.read_bytes()
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def seal(parts: Iterable[str], shown: Iterable[str], into: Path) -> list[str]:
    """Write the archive; returns the settings whose texts are left out.

    Args:
        parts: files below ``results/``, the manifest among them.
        shown: the tables, figures, page and answer that were made of them.

    Raises:
        UserError: something else stands at ``into``.
    """
    if into.exists() and not (into / checksums.OF_ARCHIVE).is_file():
        raise UserError(f"{into} is there and no archive; name a new folder, or move it away")
    manifest = read_json("results/manifest.json")
    kinds = {name: of["data"]["kind"] for name, of in manifest["config"]["settings"].items()}
    numbers: dict[str, dict[str, int]] = {
        name: {} for name in manifest["config"]["grid"] if kinds[name] != "world"
    }
    with publish(into) as folder:
        for path in track([*map(Path, parts)], label="archive"):
            setting = path.parts[2] if len(path.parts) > 3 else None
            found = content(path, numbers[setting]) if setting in numbers else path.read_bytes()
            target = folder.joinpath(*path.parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.name == "manifest.json":  # to be read
                target.write_bytes(found)
            else:
                packed = gzip.compress(found, mtime=0)
                target.with_name(f"{target.name}.gz").write_bytes(packed)
        results = [name for name in shown if not (numbers and Path(name).name in PAGE[:1])]
        folder.joinpath(checksums.OF_RESULTS).write_text(checksums.listed(results, Path()))
        folder.joinpath("README.md").write_text(_readme(into, manifest, [*numbers]))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        folder.joinpath(checksums.OF_ARCHIVE).write_text(checksums.listed(files, folder))
    return [*numbers]


def _readme(into: Path, manifest: dict, without: list[str]) -> str:
    name = f"archive/{into.name}"
    texts = (
        f"Prompts and answers of {', '.join(without)} are not in it: blocks stand in their places. "
        "The page has no answers head to head of them."
        if without
        else "All texts in it were simulated by this project."
    )
    return (
        f"# {into.name}\n\n"
        "What the tables, figures and page of a finished run are made of. In a checkout,\n"
        f"`make tables FROM={name}` makes them again and says what is equal to the byte.\n\n"
        f"- the run: {named(manifest)}; all else of it is in `manifest.json`\n"
        f"- this archive: `make archive INTO={name}`, {named(version())}\n"
        f"- `{checksums.OF_ARCHIVE}`: of every file here\n"
        f"- `{checksums.OF_RESULTS}`: of the tables, figures and page that the run gave\n\n"
        f"{texts}\n"
    )


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", required=True, help="files of results/")
    parser.add_argument("--shown", nargs="+", required=True, help="tables, figures, page, answer")
    parser.add_argument("--into", required=True, help="the archive's folder")
    args = parser.parse_args(argv)
    into = Path(args.into).expanduser()
    without = seal(args.parts, args.shown, into)
    size = sum(path.stat().st_size for path in into.rglob("*") if path.is_file())
    print(f"{into}: {len(args.parts)} files of the run, {size / 1000:.0f} kB")
    if without:
        print(f"The texts of {', '.join(without)} are left out.")


if __name__ == "__main__":
    cli(main)
