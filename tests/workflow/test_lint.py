"""`snakemake --lint` is clean, but for exceptions that are justified here in one line each."""

import json
import re
import subprocess
import sys

import pytest

JUSTIFIED = {
    "Shell command directly uses variable RUN_FLAGS from outside of the rule": (
        "how often to save and where to log is no part of a result; as params it would re-run"
    ),
}


@pytest.mark.parametrize("configuration", ["config.yaml", "config/own-data.yaml"])
def test_lint(pytestconfig, tmp_path, configuration):
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": str(i), "chosen": "a", "rejected": "b"} for i in range(4)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--config", f"pairs={pairs}"] if "own" in configuration else []
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint", "--configfile", configuration, *flags],
        cwd=pytestconfig.rootpath, capture_output=True, text=True,
    )  # fmt: skip
    places = re.split(r"^Lints for ", result.stderr, flags=re.MULTILINE)
    assert any("rule train " in place for place in places)  # it did read the rules
    findings = [
        f"{place.splitlines()[0]} {title}"
        for place in places
        for title in re.findall(r"^ {4}\* (.*):$", place, flags=re.MULTILINE)
        if title not in JUSTIFIED
    ]
    assert not findings
