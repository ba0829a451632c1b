"""docs/faults.md: planted failures and what a user sees, kept by the tests that plant them."""

import os
import re
from pathlib import Path

PATH = Path(__file__).parents[1] / "docs" / "faults.md"
HEAD = """# What fails, and what you see

Each row is planted by the test it names, which fails when its row is not what the test saw.
`POET_WRITE_FAULTS=1 make test` writes the table anew.

| failure | what you see | what is kept, and what happens next | test |
|---|---|---|---|
"""


def rows() -> dict[str, str]:
    """Failure -> its line of the table."""
    lines = PATH.read_text(encoding="utf-8").splitlines() if PATH.exists() else []
    table = [line for line in lines if line.startswith("| ") and not line.startswith("| failure")]
    return {line.split(" | ")[0].removeprefix("| "): line for line in table}


def record(failure: str, seen: str, then: str, test: str, folder: Path) -> None:
    """Check (or write, with POET_WRITE_FAULTS=1) the row of one failure.

    Args:
        seen: the message; paths below ``folder``, numbers of processes and ports are left out.
        then: what is kept and what happens next.
        test: the test that planted it.
    """
    text = str(seen).replace(str(folder) + "/", "").replace(str(folder), ".")
    text = re.sub(r"/\S*/pytest-\d+/[^/\s]+/?", "", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    text = re.sub(r"\b[0-9a-f]{16,64}\b", "HASH", text)
    text = re.sub(r"\s*\n\s*", "<br>", text.strip()).replace("|", "\\|")
    line = f"| {failure} | {text} | {then} | `{test}` |"
    if os.environ.get("POET_WRITE_FAULTS"):
        known = {**rows(), failure: line}
        PATH.parent.mkdir(exist_ok=True)
        table = "".join(f"{known[name]}\n" for name in sorted(known))
        PATH.write_text(HEAD + table, encoding="utf-8")
    found = rows().get(failure)
    assert found == line, (
        f"{PATH.name} is out of date for {failure!r}; see its head\n{found}\n{line}"
    )
