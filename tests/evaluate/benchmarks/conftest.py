"""A judge behind a server, and the section of an annotator that asks it."""

import pytest

from judge_server import JudgeServer


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with JudgeServer() as running:
        yield running


@pytest.fixture
def settings(server, tmp_path):
    return {
        "kind": "api", "base_url": server.url, "price": {"prompt": 1.0, "completion": 1.0},
        "max_cost": 1.0, "concurrency": 2, "requests_per_minute": None, "timeout": 20,
        "attempts": 2, "backoff": {"initial": 0.01, "longest": 0.01}, "allow_model_change": False,
        "store": str(tmp_path / "store"),
    }  # fmt: skip
