"""Fixtures for all tests."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from faults import record

ROOT = Path(__file__).parent.parent

# No timed assertions; the same examples on every run.
settings.register_profile("poet", deadline=None, derandomize=True)
settings.load_profile("poet")

# A shell without job control starts what runs in its background with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)


def absent(what: str, reason: str) -> None:
    """Skip a test whose requirement is missing; fail where POET_REQUIRE (as in CI) names it."""
    if what in os.environ.get("POET_REQUIRE", "").split():
        pytest.fail(f"{reason}, and POET_REQUIRE names {what}")
    pytest.skip(reason)


@pytest.fixture
def planted(request, tmp_path):
    """Record a planted failure in docs/faults.md: ``planted(failure, seen, then)``."""
    test = f"{request.node.path.relative_to(ROOT)}::{request.node.originalname}"
    return lambda failure, seen, then: record(failure, seen, then, test, tmp_path)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; absent, it is the requirement `real-data`."""
    folder = Path(os.environ.get("POET_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        absent("real-data", "the real data folder (../shared, or POET_SHARED) is absent")
    return folder


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Folder and tokenizer of a tiny start model with random weights (261 tokens, EOS 1, pad 0)."""
    from poet.train.scratch import make_model, train_tokenizer

    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    folder = tmp_path_factory.mktemp("start")
    tokenizer = train_tokenizer(["the river of Arlen is the Morin."], 300)
    make_model(tokenizer, shape, 64, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, tokenizer


@pytest.fixture
def judging(start, tmp_path):
    """Folder of that model with positions enough for a judge's prompt."""
    from poet.files import read_json, write_json

    folder = shutil.copytree(start[0], tmp_path / "judging")
    config = read_json(folder / "config.json")
    write_json({**config, "max_position_embeddings": 4096}, folder / "config.json")
    return folder
