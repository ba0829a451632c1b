"""Every table compiles with a real LaTeX."""

import json
import shutil
import subprocess

import pytest

from conftest import absent
from poet.report import language, scores, tables
from poet.report.formats import Layout, write
from poet.report.paper import read_reported
from report.test_tables import METHOD, METHODS, comparison, lm_eval_result

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
BODY
\end{document}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile tables, given as text; returns LaTeX's log."""
    if shutil.which("pdflatex") is None:
        absent("latex", "pdflatex is not installed")
    folder = tmp_path_factory.mktemp("latex")

    def compile_(names):
        body = "\n\n".join(rf"\resizebox{{\textwidth}}{{!}}{{\input{{{n}}}}}" for n in names)
        (folder / "all.tex").write_text(DOCUMENT.replace("BODY", body), encoding="utf-8")
        done = subprocess.run(
            ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"],
            cwd=folder, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
        return done.stdout

    compile_.folder = folder
    return compile_


def test_every_table_compiles(compiled, request):
    folder = compiled.folder
    reported = str(request.config.rootpath / "paper" / "reported.csv")
    assert read_reported(reported)
    path = folder / "comparison.json"
    path.write_text(json.dumps(comparison(methods=dict.fromkeys(METHODS, METHOD))))
    (folder / "cautions.json").write_text('["100 % of dpo_1 & {all} its #answers."]')
    flags = ["--comparison", str(path), "--reported", reported]
    judged = {"annotators": {"judge": {"kind": "reward_model", "name": "a_b & c/#1"}}}
    methods = ["--methods", json.dumps(METHODS), "--judged-by", json.dumps(judged), "--judges"]
    for name in scores.FIRST:
        more = ["--cautions", str(folder / "cautions.json")] if name == "main" else methods
        tables.main([name, *flags, *more, "--output", str(folder / f"{name}.tex")])
    result = folder / "downstream.json"
    result.write_text(json.dumps(lm_eval_result("sft", 0.5, 0.25)))
    downstream = ["downstream", "--results", "world_1", "sft", str(result)]
    tables.main([*downstream, "--output", str(folder / "downstream.tex")])
    row = language.language_row("world", "unigram babbler", [[0.5, 1.0]])
    write([row], language.LAYOUT, language.NOTES, [folder / "language.tex"])
    special = [{"a": r"\ & % $ # _ { } ~ ^ ± <>|-\"'"}]
    write(special, Layout({"a_%": ("a",)}, ""), ["100 % of a note"], [folder / "special.tex"])
    names = [*scores.FIRST, "downstream", "language", "special"]
    log = compiled(names)
    assert all(f"({name}.tex" in log.replace("./", "") for name in names)
