"""What made a file: git commit, versions, hardware and command, without naming the machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "transformers", "trl", "datasets", "alpaca_eval", "lm_eval", "snakemake")


def provenance() -> dict:
    """Where the running program's output comes from; no time, host name, home path or environment.

    Returns:
        What :func:`version` says; ``versions`` of python, poet and :data:`PACKAGES`, None where not
        installed; ``hardware``: CPU model, logical cores, memory in GiB and GPU names, None where
        torch was not imported; ``command``, the program and its arguments without machine paths.
    """
    found = {"poet": _installed("poet-workflow"), **{name: _installed(name) for name in PACKAGES}}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    torch = sys.modules.get("torch")
    hardware = {
        "cpu": _cpu("model name"),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "gpus": torch and [*map(torch.cuda.get_device_name, range(torch.cuda.device_count()))],
    }
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {spec.name}" if spec else Path(sys.argv[0]).name
    return {
        **version(),
        "versions": {"python": platform.python_version(), **found},
        "hardware": hardware,
        "command": " ".join([program, *map(_without_machine, sys.argv[1:])]),
    }


@cache
def version() -> dict:
    """Which code runs.

    Returns:
        ``git_commit`` (40 hex digits) and ``git_dirty`` (tracked files differ from it), both None
        without git; ``code``, :func:`code`.
    """
    commit, dirty = _git()
    return {"git_commit": commit, "git_dirty": dirty, "code": code()}


def code() -> str:
    """16 hex digits of the SHA-256 of this package's sources: the same for another document."""
    package = Path(__file__).parent
    sources = [*package.rglob("*.py"), *package.glob("report/templates/*")]
    found = hashlib.sha256()
    for path in sorted(sources):
        content = path.read_bytes()
        found.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()[:16]


def value_digest(value) -> str:
    """16 hex digits of the SHA-256 of ``value`` as canonical JSON, whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _installed(distribution: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(distribution)


def _without_machine(argument: str) -> str:
    """A program's argument: a path below the working folder is relative, of others the last part.

    Inline JSON is replaced by its length, since the record it holds is written beside it anyway.
    """
    if argument.lstrip().startswith(("{", "[")):
        return f"<json, {len(argument)} characters>"
    flag, equals, value = argument.rpartition("=")
    if not os.path.isabs(value):
        return argument
    path, here = Path(value), Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path.name
    return f"{flag}{equals}{shown}"


def _git() -> tuple[str | None, bool | None]:
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here.parent), *arguments],
            check=True, capture_output=True, text=True, timeout=30,
        ).stdout.strip()  # fmt: skip

    try:
        # Installed inside somebody else's repository, this file is not tracked by it.
        git("ls-files", "--error-unmatch", here.name)
        described = git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None, None
    commit, _, dirty = described.partition("-")
    return commit, bool(dirty)


def processor() -> str:
    """The CPU's name and, since virtual machines' are vague, its family, model and stepping."""
    numbers = ("cpu family", "model", "stepping")
    return f"{_cpu('model name')} ({', '.join(f'{name} {_cpu(name)}' for name in numbers)})"


def _cpu(key: str) -> str:
    """What the kernel says of the CPU."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return platform.processor() or platform.machine()
