"""The only door to the hub: what the lock file lists comes in, byte by byte, and nothing else.

huggingface_hub transfers; this module checks. A file under its final name has the size and the
sha256 that the lock says. ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HOME`` mean what they mean to
huggingface_hub. ``POET_HUB_MIRROR`` names a folder with copies (``owner/name/FILE`` of models,
``datasets/owner/name/FILE``), such as another run's ``results/hub``; it is asked first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from poet.files import UserError, cli, read_json, remove, sha256
from poet.hub import lock as locks
from poet.hub.folders import check_model

# Other copies of the same weights, as some repositories keep them.
NOT_NEEDED = ("original/*", "onnx/*", "openvino/*", "*.ckpt/*")
ATTEMPTS = 4
WAIT = 2.0  # seconds before the second attempt, doubled before each further one
PASSING = (408, 429, 500, 502, 503, 504)  # answers that may be better a moment later
CONNECTIONS = 4


def describe(name: str, revision: str | None, patterns: tuple[str, ...]) -> dict:
    """A lock entry for ``revision`` (None: the newest commit) of a repository.

    Sizes and, for large files, sha256 are the hub's word; small files are fetched and hashed.

    Raises:
        UserError: no such repository or revision, gated, no connection, no usable files.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils import filter_repo_objects

    kind, repository = _split(name)
    api = HfApi()
    with _explained(name, revision):
        commit = api.repo_info(repository, repo_type=kind, revision=revision).sha
        tree = api.list_repo_tree(repository, repo_type=kind, revision=commit, recursive=True)
        found = {item.path: item for item in tree if isinstance(item, RepoFile)}
    wanted = [*filter_repo_objects(found, allow_patterns=patterns, ignore_patterns=NOT_NEEDED)]
    lacking = {pattern for pattern in patterns if "*" not in pattern} - set(found)
    if lacking or not any(path.endswith(".safetensors") or kind != "model" for path in wanted):
        raise UserError(
            f"{name} at {commit} lacks what is taken from the hub.\n"
            f"  found:    {', '.join(found)[:300]}\n"
            f"  expected: {', '.join(sorted(lacking) or patterns)} (no pickled weights, no scripts)"
        )
    entry = {"revision": commit, "files": {f: _described(name, commit, found[f]) for f in wanted}}
    if kind == "model" and "config.json" in wanted:
        entry["shape"] = _shape(name, commit, found["config.json"])
    return entry


def _shape(name: str, commit: str, item) -> dict:
    """What of a model's ``config.json`` says how large it is."""
    with tempfile.TemporaryDirectory() as folder, _explained(name, commit):
        _transfer(name, commit, item.path, item.size, file := Path(folder, "config.json"))
        config = read_json(file)
    config |= config.get("text_config") or {}
    return {key: config[key] for key in locks.SHAPE if config.get(key) is not None}


def _described(name: str, commit: str, item) -> dict:
    if item.lfs:
        return {"size": item.lfs.size, "sha256": item.lfs.sha256}
    with tempfile.NamedTemporaryFile() as file:
        with _explained(name, commit):
            _transfer(name, commit, item.path, item.size, Path(file.name))
        return {"size": item.size, "sha256": sha256(Path(file.name))}


def download(name: str, pinned: dict, folder: Path) -> None:
    """Fetch a repository's files into ``folder``, which appears when all are there and right.

    Until then they gather beside it in ``.incomplete-*``, where an interrupted download goes on.

    Raises:
        UserError: no space, no access, no connection; or a file that is not what the lock says.
    """
    work = folder.parent / f".incomplete-{folder.name}"
    files = pinned["files"]
    wrong = [path for path in files if Path(path).is_absolute() or ".." in Path(path).parts]
    if wrong:
        raise UserError(f"{name}: the lock lists {wrong[0]}, which lies outside the repository")
    missing = {path: of for path, of in files.items() if not (work / path).exists()}
    _require_space(work, name, sum(of["size"] for of in missing.values()))

    def obtain(path: str) -> None:
        _obtain(name, pinned["revision"], path, missing[path], work)

    with _explained(name, pinned["revision"]), ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(obtain, missing))  # one that fails cancels those that have not begun
    if _split(name)[0] == "model":
        check_model(work, name)
    remove(folder)
    os.replace(work, folder)


def fetch(name: str, filename: str, lock: str | Path) -> Path:
    """One file of a repository, which the lock calls ``name``; kept below HF_HOME.

    Raises:
        UserError: as :func:`download`; the lock has no such repository or file.
    """
    from huggingface_hub import constants

    pinned = locks.entry(lock, name)
    if filename not in pinned["files"]:
        raise UserError(
            f"{name}: the lock file {lock} lists no {filename}; delete the entry and run `make "
            "lock` with the configuration that names it"
        )
    expected = pinned["files"][filename]
    folder = Path(constants.HF_HOME) / "poet" / name / pinned["revision"]
    if not _is(folder / filename, expected):
        _require_space(folder, name, expected["size"])
        with _explained(name, pinned["revision"]):
            _obtain(name, pinned["revision"], filename, expected, folder)
    return folder / filename


def _obtain(name: str, revision: str, path: str, expected: dict, folder: Path) -> None:
    """One file into ``folder``: from the mirror, the hub's cache, or the hub, in this order."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HTTPError

    kind, repository = _split(name)
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.incomplete")
    mirror = os.environ.get("POET_HUB_MIRROR")
    cached = try_to_load_from_cache(repository, path, repo_type=kind, revision=revision)
    for copy in (Path(mirror) / name / path if mirror else None, cached):
        if isinstance(copy, str | Path) and _is(Path(copy), expected):
            shutil.copyfile(copy, part)  # a link would follow what others do to the copy
            os.replace(part, target)
            return
    for attempt in range(ATTEMPTS):
        time.sleep(WAIT * 2 ** (attempt - 1) if attempt else 0)
        try:
            _transfer(name, revision, path, expected["size"], part)
        except HTTPError as error:  # what has come so far is kept
            response = getattr(error, "response", None)  # none without a connection
            final = response is not None and response.status_code not in PASSING
            if attempt == ATTEMPTS - 1 or final:
                raise
            print(f"{name}/{path}: {_reason(error)}; trying again", file=sys.stderr)
            continue
        except OSError as error:
            if error.errno or isinstance(error, ConnectionError):  # a full disk, no connection
                raise  # the rest is huggingface_hub finding another size
        if _is(part, expected):
            os.replace(part, target)
            return
        found = f"{part.stat().st_size} bytes, sha256 {sha256(part)}"
        part.unlink()
        print(f"{name}/{path}: not what the lock says ({found}); deleted", file=sys.stderr)
    raise UserError(
        f"{name}/{path} at revision {revision} is not what the lock says.\n"
        f"  found:    {found}\n"
        f"  expected: {expected['size']} bytes, sha256 {expected['sha256']}\n"
        "It was deleted. Is HF_ENDPOINT the hub that was locked?"
    )


def _transfer(name: str, revision: str, path: str, size: int, part: Path) -> None:
    """Append to ``part`` what is missing of a file."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    kind, repository = _split(name)
    url = hf_hub_url(repository, path, repo_type=kind, revision=revision)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # ranges count plain bytes
    with part.open("ab") as file:
        http_get(url, file, resume_size=file.tell(), headers=headers, expected_size=size)


def _split(name: str) -> tuple[str, str]:
    kind, _, repository = name.partition("/")
    return ("dataset", repository) if kind == "datasets" else ("model", name)


def _is(path: Path, expected: dict) -> bool:
    """Has a file the size and the sha256 that are expected?"""
    right_size = path.is_file() and path.stat().st_size == expected["size"]
    return right_size and sha256(path) == expected["sha256"]


def _require_space(folder: Path, name: str, size: int) -> None:
    size -= sum(part.stat().st_size for part in folder.rglob("*.incomplete"))
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(standing).free
    if size > free:
        raise UserError(
            f"{name} needs {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free where "
            f"{folder.name} would lie; make room, or run in another folder"
        )


@contextmanager
def _explained(name: str, revision: str | None) -> Iterator[None]:
    """Turn the libraries' errors into a UserError that says which one it is and what to do."""
    from huggingface_hub import constants, errors

    what = name + (f" at revision {revision}" if revision else "")
    page = f"{constants.ENDPOINT}/{name}"
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            f"{what} is gated: accept its terms at {page}, then set the variable HF_TOKEN to a "
            "token of the account that did"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{what} is not on the hub, or not for you to see.\nCheck the name at {page}; for a "
            "private one, set the variable HF_TOKEN."
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{what}: no such revision on the hub; see {page}/commits/main") from None
    except errors.EntryNotFoundError as error:
        raise UserError(f"{what}: a file of the lock is not there: {_reason(error)}") from None
    except (OSError, errors.HTTPError) as error:
        raise UserError(
            f"{what} could not be fetched ({_reason(error)}).\nIs there a connection? What came so "
            "far is kept, so that the next try goes on; POET_HUB_MIRROR can name a local copy."
        ) from None


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Fetch one repository as the lock file says.")
    parser.add_argument("--repository", required=True, help="owner/name or datasets/owner/name")
    parser.add_argument("--lock", required=True, help="the lock file")
    parser.add_argument("--output", required=True, help="folder")
    args = parser.parse_args(argv)
    download(args.repository, locks.entry(args.lock, args.repository), Path(args.output))


if __name__ == "__main__":
    cli(main)
