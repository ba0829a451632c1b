"""The page: answer, tables, figures, answers head to head, configuration, provenance, costs.

One file that opens from disk and asks for nothing: styles, scripts, figures and data are inside,
and its content security policy allows no other. What models wrote is never HTML: it travels
compressed and is shown as text only. DataTables (through itables, which ships it for offline use)
sorts the tables and pages through the answers.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml
from docutils.core import publish_parts
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from poet.files import UserError, cli, named_files, read_json, write_text
from poet.report import headline, tables, titles
from poet.report.answers import bundle, packed
from poet.report.cautions import about_judges

TEMPLATES = Path(__file__).parent / "templates"


def table(path: str | Path, config: dict, judges: Sequence[dict]) -> dict:
    """A CSV table as the page shows it: what Markdown shows, with what to sort by.

    Args:
        config, judges: as :func:`poet.report.cautions.cautions` reads them.

    Returns:
        ``id``, ``title``, ``caption`` (HTML), ``judges`` (sentences), ``heading`` and ``rows``,
        lists of cells with ``text`` and ``order`` (the number to sort by, None in columns of text).
    """
    name = Path(path).stem
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    layout = tables.layout(name, [*rows[0]])
    pairwise = rows if name in tables.TABLES else []  # a benchmark's verdicts are of another kind
    judged = [row for row in pairwise if row.get("annotator") in config["annotators"]]
    heading = layout.headings(rows)
    number = re.compile(r"(-?\d+(\.\d+)?)?")

    def value(row: dict, text: str) -> str:
        return row[layout.shown[text][0]]

    numeric = {text: all(number.fullmatch(value(row, text)) for row in rows) for text in heading}

    def cell(row: dict, text: str) -> dict:
        order = value(row, text) if numeric[text] else None
        return {"text": layout.cell(row, text), "order": order}

    return {
        **_titled(name),
        "judges": about_judges(judged, config, judges),
        "heading": [{"text": text, "numeric": numeric[text]} for text in heading],
        "rows": [[cell(row, text) for text in heading] for row in rows],
    }


def figure(path: str | Path) -> dict:
    """An SVG figure with the CSV beside it, both as data URIs."""
    path = Path(path)
    return {
        **_titled(path.stem),
        "svg": _data_uri("image/svg+xml", path.read_bytes()),
        "csv": _data_uri("text/csv", path.with_suffix(".csv").read_bytes()),
        "file": f"{path.stem}.csv",
    }


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _titled(name: str) -> dict:
    title, text = titles.of(name)
    body = publish_parts(text, writer="html5", settings_overrides={"report_level": 4})["body"]
    return {"id": name, "title": title, "caption": Markup(body)}


def library() -> tuple[str, str]:
    """DataTables as itables ships it: a script that names jQuery ``$``, and its style sheet.

    Raises:
        UserError: the script no longer exports jQuery; see the pin of itables.
    """
    folder = resources.files("itables") / "html"
    script = (folder / "dt_bundle.js").read_text(encoding="utf-8")
    export = re.search(r"export\s*\{[^}]*?([\w$]+) as jQuery\b[^}]*\};?", script)
    if export is None:
        raise UserError("itables' dt_bundle.js exports no jQuery; expected the pinned itables")
    script = script.replace(export[0], f"const $ = {export[1]};")
    return script, (folder / "dt_bundle.css").read_text(encoding="utf-8")


def policy(*scripts: str) -> str:
    """A content security policy under which these scripts run, and nothing is ever fetched."""
    hashes = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def of_versions(made_of: dict) -> list[str]:
    """Cautions where results come from several versions of the code, or do not say from which.

    Args:
        made_of: the manifest; where it does not say what made the results, as one of an older
            release, its own code counts.
    """

    def code(row: dict) -> str | None:  # of documents no change matters
        return row.get("code") or row["git_commit"]

    made_by, cautions = made_of.get("made_by", [made_of]), []
    named = [row for row in made_by if code(row)]
    unnamed = [row for row in made_by if not code(row)]
    if len({*map(code, named), code(made_of)} - {None}) > 1:
        found = "; ".join(f"{version(row)}: {len(row['files'])} files" for row in named)
        cautions.append(
            f"These results were made by several versions of the code ({found}; this page: "
            f"{version(made_of)}). To make all with one, run the same command with --forceall "
            "(make results ARGS=--forceall), or remove results/ before."
        )
    if unnamed:  # as an archive's may be
        files = sum(len(row.get("files", ())) for row in unnamed)
        which = f"{files} files of these results do" if files else "These results do"
        cautions.append(
            f"{which} not say which version of the code made them: it may be another than this."
        )
    return cautions


def version(row: dict) -> str:
    """A version of the code, as the page names it."""
    commit = f"commit {row['git_commit'][:12]}" if row["git_commit"] else "not under git"
    changed = ", with uncommitted changes" if row["git_dirty"] else ""
    return commit + changed + (f", code {row['code']}" if row.get("code") else "")


def render(manifest: dict, answers: dict, withheld: Sequence[str] = (), **shown) -> str:
    """The page as HTML.

    Args:
        answers: what :func:`poet.report.answers.bundle` returns.
        withheld: the settings whose texts an archive leaves out.
        shown: by the template's names: ``answer`` of :func:`poet.report.headline.sentence` and the
            ``gains`` that it is made of; ``cautions``, sentences that stand before it; ``tables``,
            what :func:`table` returns; ``figures``, what :func:`figure` returns; ``diagnoses``,
            what ``poet.analyse.diagnose`` writes.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    filters = (headline.signed, headline.effect, headline.why_not, headline.interval, version)
    environment.filters |= {of.__name__: of for of in filters}
    script, style = library()
    script += "\n" + (TEMPLATES / "page.js").read_text(encoding="utf-8")
    style += "\n" + (TEMPLATES / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        **shown,
        manifest=manifest,
        configuration=yaml.safe_dump(manifest["config"], sort_keys=False),
        answers=packed(answers) if answers["pairs"] else None,
        withheld=withheld,
        policy=policy(script),
        script=Markup(script),
        style=Markup(style),
    )


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", required=True, help="manifest.json")
    parser.add_argument("--comparison", nargs="+", required=True, help="the main table's")
    parser.add_argument("--cautions", required=True, help="what poet.report.cautions writes")
    parser.add_argument("--tables", nargs="+", required=True, help=".csv files, in their order")
    parser.add_argument("--figures", nargs="+", required=True, help=".svg files beside their .csv")
    parser.add_argument("--judges", nargs="*", default=[], help="train.json of reward models")
    parser.add_argument("--diagnosis", nargs="*", default=[], help="diagnosis.json files")
    parser.add_argument(
        "--annotations", nargs="+", action="append", default=[],
        metavar="SETTING ANNOTATOR METHOD FILE", help="one file per seed; repeat for each method",
    )  # fmt: skip
    parser.add_argument("--output", required=True, help="index.html")
    parser.add_argument("--answer", required=True, help="the answer and the cautions as plain text")
    args = parser.parse_args(argv)
    made_of = read_json(args.manifest)
    config, judges = made_of["config"], [*map(read_json, args.judges)]
    annotations = named_files(args.annotations, "--annotations", names=3)
    gains = headline.poet_gains([*map(read_json, args.comparison)], config["methods"])
    answer = headline.sentence(gains)
    cautions = read_json(args.cautions) + of_versions(made_of)
    answers = bundle(annotations, config["gains"], config["methods"], config["seeds"])
    settings = dict.fromkeys(setting for setting, _, _ in annotations)
    html = render(
        made_of,
        answers,
        [name for name in settings if name not in answers["prompts"]],
        answer=answer,
        gains=gains,
        cautions=cautions,
        tables=[table(path, config, judges) for path in args.tables],
        figures=[*map(figure, args.figures)],
        diagnoses=[*map(read_json, args.diagnosis)],
    )
    write_text(html, args.output)
    said = [answer, *(f"Caution: {text}" for text in cautions), f"Code: {version(made_of)}."]
    write_text("\n".join([*said, f"Page: {args.output}", ""]), args.answer)


if __name__ == "__main__":
    cli(main)
