"""A hub on loopback: as much of the protocol as huggingface_hub speaks, and faults on command.

It serves folders ``owner/name`` (models) and ``datasets/owner/name`` below one root. Weights and
parquet files are "large": their sha256 is told, as the hub tells that of files in its large-file
storage.
"""

import hashlib
import json
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

TOKEN = "hf_of-an-account-that-accepted-the-terms"
LARGE = (".safetensors", ".parquet")
CODES = {401: "RepoNotFound", 403: "GatedRepo", 404: "EntryNotFound", 429: None, 503: None}


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests for a file whose address holds ``where``.

    ``kind``: an HTTP status (401, 403, 404, 429, 503), or "stall" (the answer stops after ``after``
    bytes and the connection stays), "cut" (it is closed there), "corrupt" (one byte is another),
    "short" (the file ends there, and the headers say so), "longer" (there are more bytes).
    """

    where: str
    kind: int | str
    times: int = 1
    after: int = 40


@dataclass
class ServedHub:
    """The server; a context manager. ``asked`` lists the requests: method, path, range, token."""

    root: Path
    gated: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple] = field(default_factory=list)
    commits: dict[str, str] = field(default_factory=dict)  # in place of those of the content

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url, "no_proxy": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def files(self, name: str) -> dict[str, Path]:
        root = self.root / name
        return {str(p.relative_to(root)): p for p in sorted(root.rglob("*")) if p.is_file()}

    def commit(self, name: str) -> str:
        """The repository's commit: a hash of its files, as git's is."""
        files = self.files(name)
        text = json.dumps([[path, sha256(file)] for path, file in files.items()])
        return self.commits.get(name, hashlib.sha1(text.encode()).hexdigest())

    def downloads(self) -> list[str]:
        """Addresses of the files whose content was asked for, in order."""
        return [path for method, path, *_ in self.asked if method == "GET" and "/resolve/" in path]

    def take_fault(self, address: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.where in address:
                fault.times -= 1
                return fault
        return None


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: ServedHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = urlsplit(self.path).path
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.asked.append((self.command, path, self.headers.get("Range"), token))
        api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(\w+)/([^/]+))?/?", path)
        file = re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not (api or file):
            return self.refuse(404, "RepoNotFound")
        name = file[1] if file else (f"datasets/{api[2]}" if api[1] == "datasets" else api[2])
        revision = file[2] if file else api[4]
        if not (self.hub.root / name).is_dir():
            return self.refuse(404, "RepoNotFound")
        if name in self.hub.gated and token != TOKEN:
            return self.refuse(403 if token else 401, "GatedRepo")
        if revision not in (None, "main", self.hub.commit(name)):
            return self.refuse(404, "RevisionNotFound")
        if file:
            return self.send_file(name, file[3])
        if api[3] == "tree":
            return self.send_json([self.entry(*item) for item in self.hub.files(name).items()])
        siblings = [{"rfilename": path} for path in self.hub.files(name)]
        self.send_json({"id": api[2], "sha": self.hub.commit(name), "siblings": siblings})

    def entry(self, path: str, file: Path) -> dict:
        found = {"type": "file", "path": path, "size": file.stat().st_size, "oid": "0" * 40}
        if file.suffix in LARGE:
            found["lfs"] = {"oid": sha256(file), "size": found["size"], "pointerSize": 130}
        return found

    def send_file(self, name: str, path: str):
        file = self.hub.files(name).get(path)
        if file is None:
            return self.refuse(404, "EntryNotFound")
        fault = self.hub.take_fault(self.path) if self.command == "GET" else None
        if fault and fault.kind in CODES:
            return self.refuse(fault.kind, CODES[fault.kind])
        content, kind = file.read_bytes(), fault.kind if fault else None
        if kind == "corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        elif kind == "short":
            content = content[: fault.after]
        elif kind == "longer":
            content += b"more"
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        if start >= len(content) and start:
            return self.refuse(416, None)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{sha256(file)}"')
        self.send_header("X-Repo-Commit", self.hub.commit(name))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind in ("stall", "cut"):
            self.wfile.write(content[start : start + fault.after])
            self.wfile.flush()
            if kind == "stall":
                time.sleep(2)
            else:  # a reset, not an orderly end; the bytes before it arrive
                time.sleep(0.1)
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(content[start:])

    def refuse(self, status: int, code: str | None):
        headers = {"X-Error-Code": code, "X-Error-Message": f"refused: {code}"} if code else {}
        self.send_json({"error": str(code)}, status, {**headers, "Retry-After": "0"})

    def send_json(self, value, status: int = 200, headers: dict | None = None):
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass
