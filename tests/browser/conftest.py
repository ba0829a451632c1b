"""A real browser, and pages built by the real programs from small data."""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from conftest import absent
from poet import config as poet_config
from poet.evaluate import alpaca, compare
from poet.report import cautions, figures, page, tables

ROOT = Path(__file__).parents[2]
# Without these Chromium looks for Google's hosts; a sandbox needs an ordinary user.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SEEDS = (1, 2)
METHODS = ("sft", "dpo", "dpo-poet", "simpo", "simpo-poet")


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium; absent, it is the requirement `browser`."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        absent("browser", "Chromium is not installed")
    from playwright.sync_api import sync_playwright

    # A module's, not the session's: while it runs, no other test can start an event loop.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Page:
    """A page's file, and what it was made of: (method, seed) -> annotations, rows of main.csv."""

    path: Path
    annotations: dict[tuple[str, int], list[dict]]
    main: list[dict]


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Build a page from ``texts(method, seed, i) -> (answer, preference)`` on ``n`` prompts."""

    def built(texts, n: int, prompt=lambda i: f"Question {i}?") -> Page:
        folder = tmp_path_factory.mktemp("page")
        prompts = [{"instruction": prompt(i)} for i in range(n)]
        (folder / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
        annotations = {}
        for method in METHODS:
            for seed in SEEDS:
                made = [texts(method, seed, i) for i in range(n)]
                annotations[method, seed] = [
                    {
                        "instruction": prompt(i), "output_1": f"Reference {i}." + i % 7 * " More.",
                        "generator_1": "reference", "output_2": answer, "generator_2": method,
                        "preference": 1 + preference, "annotator": "judge",
                    }
                    for i, (answer, preference) in enumerate(made)
                ]  # fmt: skip
                path = folder / f"{method}-{seed}.json"
                path.write_text(json.dumps(annotations[method, seed]))
        _run(folder)
        with (folder / "main.csv").open(newline="") as file:
            return Page(folder / "index.html", annotations, list(csv.DictReader(file)))

    return built


def _run(folder: Path) -> None:
    """What the rules run, on the files in ``folder``."""

    def files(method):
        return [str(folder / f"{method}-{seed}.json") for seed in SEEDS]

    def path(name):
        return str(folder / name)

    config = poet_config.load(yaml.safe_load((ROOT / "config.yaml").read_text()))
    config["seeds"] = list(SEEDS)
    made_of = {
        "git_commit": None, "git_dirty": None, "versions": {"python": "3"}, "config": config,
        "hardware": {"cpu": "a CPU", "cores": 2, "memory_gib": 8.0, "gpus": []},
        "config_digest": "0", "seconds": 1.5, "sha256": {"main.csv": "0"},
        "rules": {"train": {"jobs": 8, "seconds": 1.5, "max_rss_mb": None}},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(made_of))
    flags = []
    for method in METHODS:
        scores = [f"{file}.scores" for file in files(method)]
        alpaca.main(["--annotations", *files(method), "--without-gamed",
                     "--prompts", path("prompts.jsonl"), "--output", *scores])  # fmt: skip
        flags += ["--method", method, *scores]
    compare.main(
        ["--setting", "world", "--annotator", "judge", "--kind", "reward_model", *flags,
         "--output", path("comparison.json"),
         "--gain", "dpo-poet", "dpo", "--gain", "simpo-poet", "simpo"]
    )  # fmt: skip
    comparison = ["--comparison", path("comparison.json")]
    config["annotators"] = {"judge": {"kind": "reward_model", "name": "a/model"}}
    cautions.main(
        [*comparison, "--config-json", json.dumps(config), "--output", path("cautions.json")]
    )
    cautioned = ["--cautions", path("cautions.json")]
    reported = ["--reported", str(ROOT / "paper" / "reported.csv")]
    tables.main(["main", *comparison, *cautioned, *reported, "--output", path("main.csv")])
    win_rates = [path("win-rates.svg"), path("win-rates.csv")]
    figures.main(["win-rates", "--table", path("main.csv"), "--output", *win_rates])
    page.main(
        ["--manifest", path("manifest.json"), *comparison, *cautioned, "--tables", path("main.csv"),
         "--figures", path("win-rates.svg"), "--output", path("index.html"),
         "--answer", path("answer.txt"), *(text for method in METHODS
           for text in ("--annotations", "world", "judge", method, *files(method)))]
    )  # fmt: skip
