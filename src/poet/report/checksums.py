"""Checksums of an archive: of what is in it, and of the tables, figures and page that it gives.

Both lists have the format of ``sha256sum``, so ``sha256sum --check`` reads them: the one in the
archive, the other in the checkout that the results were made in.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from poet.files import UserError, cli, sha256

OF_ARCHIVE, OF_RESULTS = "SHA256SUMS", "RESULTS.sha256"


def listed(files: Iterable[str | Path], folder: Path) -> str:
    """The list of ``files``, named relative to ``folder``."""
    return "".join(f"{sha256(path)}  {Path(path).relative_to(folder)}\n" for path in files)


def read(path: Path) -> dict[str, str]:
    """Name -> sha256, of such a list.

    Raises:
        UserError: naming a line that is no checksum and name.
    """
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        value, _, name = line.partition("  ")
        if len(value) != 64 or not name:
            raise UserError(f"{path}, line {number}: {line[:80]!r}; expected a sha256 and a name")
        found[name] = value
    return found


def verify(archive: Path) -> bool:
    """Check every file of an archive that has checksums; returns whether it has any.

    Raises:
        UserError: naming a file that is missing, not listed, or not what it was.
    """
    path = archive / OF_ARCHIVE
    if not path.is_file():
        return False
    expected = read(path)
    names = {str(f.relative_to(archive)) for f in archive.rglob("*") if f.is_file()} - {OF_ARCHIVE}
    for name in sorted(names | set(expected)):
        value = sha256(archive / name) if name in names else "no such file"
        if value != (there := expected.get(name, "none")):
            raise UserError(
                f"{archive / name} is not what {path} says.\n"
                f"  found:    {value}\n  expected: {there}\n"
                "Get the archive anew, or take away what was put into it."
            )
    return True


def same(archive: Path) -> str:
    """How many of the run's own tables, figures and pages stand in the working directory again."""
    groups: dict[str, list[bool]] = {}
    other = []
    for name, value in read(archive / OF_RESULTS).items():
        path = Path(name)
        equal = path.is_file() and sha256(path) == value
        groups.setdefault(path.parent.name, []).append(equal)
        other += [] if equal else [name]
    counts = ", ".join(f"{sum(of)} of {len(of)} in {name}/" for name, of in groups.items())
    said = f"Equal to the run's own, byte for byte: {counts}."
    if other:
        said += (
            f"\nDifferent: {', '.join(other)}.\nAnother version of the code, of matplotlib or of "
            "a font may draw and write otherwise; manifest.json names the run's."
        )
    return said


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="the archive that results/ was made from")
    archive = parser.parse_args(argv).archive.expanduser()
    if (archive / OF_RESULTS).is_file():
        print(same(archive))


if __name__ == "__main__":
    cli(main)
