"""The hub's door against a small hub of our own on loopback: real HTTP, the libraries unchanged."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from poet.data import hub
from poet.files import UserError

SHA = "0123456789abcdef0123456789abcdef01234567"
ROWS = [
    {"prompt": "What is one and one?", "chosen": "Two.", "rejected": "Three."},
    {"prompt": "What is two and two?", "chosen": "Four.", "rejected": "Five."},
]
REPOSITORIES = {"models/tiny/model", "datasets/tiny/pairs"}


def tiny_files(folder: Path) -> None:
    """A model of one tensor with its tokenizer, the same as a pickle and as code; a data set."""
    import torch
    from safetensors.torch import save_file

    model, data = folder / "models/tiny/model", folder / "datasets/tiny/pairs"
    for path in (model, data / "data"):
        path.mkdir(parents=True)
    (model / "config.json").write_text('{"model_type": "llama", "hidden_size": 4}')
    (model / "tokenizer.json").write_text('{"version": "1.0"}')
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (model / "modeling_tiny.py").write_text("raise SystemExit('code from the hub was run')")
    save_file({"weight": torch.arange(4.0)}, model / "model.safetensors")
    torch.save({"weight": torch.arange(4.0)}, model / "pytorch_model.bin")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), data / "data/train-00000-of-00001.parquet")


class Hub(BaseHTTPRequestHandler):
    """As much of the protocol as huggingface_hub and datasets speak to fetch a repository."""

    folder: Path
    asked: list[str]

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def do_POST(self):  # /api/datasets/{id}/paths-info/{revision}
        names = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["paths"]
        repository = self.path.removeprefix("/api/").split("/paths-info/")[0]
        self.send([entry for entry in self.tree(repository) if entry["path"] in names], True)

    def answer(self, body: bool):
        path = self.path.split("?")[0]
        self.asked.append(path)
        if "gated" in path:
            return self.fail(401, "GatedRepo")
        if path.startswith("/api/"):
            kind, owner, name, *rest = path.removeprefix("/api/").split("/")
            repository = f"{kind}/{owner}/{name}"
        else:
            where, _, rest = path.strip("/").partition("/resolve/")
            repository = where if where.startswith("datasets/") else f"models/{where}"
            rest = ["resolve", *rest.split("/")]
        if repository not in REPOSITORIES:
            return self.fail(404, "RepoNotFound")
        if len(rest) > 1 and rest[1] not in ("main", SHA):
            return self.fail(404, "RevisionNotFound")
        if rest[:1] == ["resolve"]:
            return self.file(self.folder / repository / "/".join(rest[2:]), body)
        if rest[:1] == ["tree"]:
            below = "/".join(rest[2:])
            entries = [e for e in self.tree(repository) if e["path"].startswith(below)]
            return self.send(entries, body)
        siblings = [{"rfilename": e["path"]} for e in self.tree(repository) if e["type"] == "file"]
        self.send({"id": f"{owner}/{name}", "sha": SHA, "siblings": siblings}, body)

    def tree(self, repository: str) -> list[dict]:
        root = self.folder / repository
        return [
            {
                "type": "directory" if path.is_dir() else "file",
                "path": str(path.relative_to(root)),
                "size": path.stat().st_size,
                "oid": hashlib.sha1(str(path).encode()).hexdigest(),
            }
            for path in sorted(root.rglob("*"))
        ]

    def file(self, path: Path, body: bool):
        if not path.is_file():
            return self.fail(404, "EntryNotFound")
        content = path.read_bytes()
        etag = hashlib.sha1(str(path).encode()).hexdigest()
        self.send(content, body, {"ETag": f'"{etag}"', "X-Repo-Commit": SHA})

    def fail(self, status: int, code: str):
        self.send({"error": code}, True, {"X-Error-Code": code, "X-Error-Message": code}, status)

    def send(self, content, body: bool, headers=None, status: int = 200):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    tiny_files(folder)
    handler = type("TinyHub", (Hub,), {"folder": folder, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


def ask(server, home: Path, call: str, **environment) -> subprocess.CompletedProcess:
    """Evaluate ``call`` on poet.data.hub in a fresh process: the libraries read HF_* at import."""
    port = server.server_port
    program = (
        "import json, pathlib; from poet.data import hub; from poet.files import cli\n"
        f"cli(lambda: print(json.dumps({call}, default=str)))"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env={
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            "HOME": str(home),
            "HF_HOME": str(home / "huggingface"),
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "no_proxy": "127.0.0.1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


def answer(result: subprocess.CompletedProcess):
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def failure(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    return result.stderr.split("error: ", 1)[1]


@pytest.mark.parametrize("revision", [SHA, None])
def test_model_comes_as_safetensors_without_pickle_or_code(server, home, revision):
    folder = Path(answer(ask(server, home, f"hub.model_path('tiny/model', {revision!r})")))
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"}
    assert not any(path.endswith((".bin", ".py")) for path in server.RequestHandlerClass.asked)
    offline = ask(server, home, f"hub.model_path('tiny/model', {revision!r})", HF_HUB_OFFLINE="1")
    assert Path(answer(offline)) == folder


def test_rows_of_a_data_set(server, home):
    call = f"list(hub.load_rows('tiny/pairs', '{SHA}', 'train'))"
    assert answer(ask(server, home, call)) == ROWS
    # What was fetched is found again without the hub, and never passed off as another revision.
    offline = {"HF_HUB_OFFLINE": "1"}
    assert answer(ask(server, home, call, **offline)) == ROWS
    other = call.replace(SHA, "f" * 40)
    assert "only another revision than fff" in failure(ask(server, home, other, **offline))


def test_unknown_split(server, home):
    message = failure(ask(server, home, "list(hub.load_rows('tiny/pairs', None, 'trian'))"))
    assert "data set tiny/pairs" in message and "trian" in message and "train" in message


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("hub.model_path('tiny/gated', 'main')", "model tiny/gated at revision main is gated"),
        ("hub.model_path('tiny/absent')", "model tiny/absent is not on the hub"),
        ("hub.model_path('tiny/model', 'v9')", "model tiny/model at revision v9: no such revision"),
        ("hub.load_rows('tiny/gated', None, 'train')", "'tiny/gated' is a gated dataset"),
        ("hub.load_rows('tiny/absent', None, 'train')", "'tiny/absent' doesn't exist on the Hub"),
    ],
)
def test_refusals_name_the_repository(server, home, call, expected):
    message = failure(ask(server, home, call))
    assert expected in message and "HF_TOKEN" in message and message.count("\n") < 6


def test_offline_and_not_cached(server, tmp_path):
    message = failure(ask(server, tmp_path, "hub.model_path('tiny/model')", HF_HUB_OFFLINE="1"))
    assert "model tiny/model could not be fetched" in message and "HF_HUB_OFFLINE" in message
    call = "hub.load_rows('tiny/pairs', None, 'train')"
    message = failure(ask(server, tmp_path, call, HF_HUB_OFFLINE="1"))
    assert "data set tiny/pairs could not be fetched" in message


def test_a_hub_that_is_not_there(server, tmp_path):
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    message = failure(ask(server, tmp_path, "hub.model_path('tiny/model')", **nowhere))
    assert "model tiny/model could not be fetched" in message


def test_local_folder_passes_through(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert hub.model_path(str(tmp_path)) == tmp_path


def test_local_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"no \*.safetensors in it"):
        hub.model_path(str(tmp_path))


@pytest.mark.parametrize("name", ["./absent", "/no/such/folder", "absent", "a/b/c"])
def test_no_such_folder(name):
    with pytest.raises(UserError, match="no such folder"):
        hub.model_path(name)
