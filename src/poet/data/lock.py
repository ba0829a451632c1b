"""What the hub has to deliver: each repository's commit, and size and sha256 of each file.

The lock file is YAML. Its keys name repositories as the hub's addresses do: ``owner/name`` is a
model, ``datasets/owner/name`` a data set. This program, `make lock`, writes it and nothing else.
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import lru_cache
from pathlib import Path

import yaml

from poet.files import UserError, cli, publish

UNPINNED = "unpinned"
HEADER = """\
# What the hub has to deliver. Written by `make lock CONFIG=FILE`; everything else only reads it.
# To take a repository's newest commit, delete its entry and run `make lock` again.
"""
# Weights as safetensors; configuration, tokenizer and chat template as text. No pickles, no code.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
DATA_FILES = ("*.parquet", "*.json", "*.jsonl", "*.jsonl.gz", "*.csv", "*.md")
ALPACAEVAL_FILES = ("alpaca_eval_gpt4_baseline.json", "df_gamed.csv")


def is_hub_id(name: str) -> bool:
    """Does a model's name mean a hub repository (``owner/name``) rather than a local folder?"""
    return bool(re.fullmatch(r"\w[\w.-]*/[\w.-]+", name)) and not Path(name).exists()


def repositories(config: dict) -> dict[str, dict]:
    """What a validated configuration asks the hub for: repository -> ``revision``, ``files``.

    ``revision`` is a commit hash or "unpinned"; ``files`` are the patterns of the files taken.

    Raises:
        UserError: two revisions of one repository are asked for.
    """
    found: dict[str, dict] = {}

    def ask(name: str, revision: str, files: tuple[str, ...]) -> None:
        asked = found.setdefault(name, {"revision": revision, "files": files})
        if asked["revision"] != revision:
            raise UserError(
                f"two revisions of {name} are asked for: {asked['revision']} and {revision}; "
                "name one"
            )
        asked["files"] = tuple(dict.fromkeys(asked["files"] + files))

    for section in [s["model"] for s in config["settings"].values()] + _judges(config):
        if is_hub_id(section.get("name", "")):
            code = ("*.py",) if section.get("trust_remote_code") else ()
            ask(section["name"], section.get("revision", UNPINNED), MODEL_FILES + code)
    for setting in config["settings"].values():
        data = setting["data"]
        if data["kind"] == "hub":
            ask(f"datasets/{data['dataset']}", data["revision"], DATA_FILES)
        chats = setting.get("sft", {})
        if is_hub_id(chats.get("dataset", "")):
            ask(f"datasets/{chats['dataset']}", chats.get("revision", UNPINNED), DATA_FILES)
        if "evaluation" in data:
            of = data["evaluation"]
            ask(f"datasets/{of['dataset']}", of["revision"], ALPACAEVAL_FILES)
        for name, revision in setting.get("downstream", {}).get("datasets", {}).items():
            ask(f"datasets/{name}", revision, DATA_FILES)
        for rows in (rows for rate in _rates(setting) for rows in rate.values()):
            if "dataset" in rows:
                ask(f"datasets/{rows['dataset']}", rows["revision"], (rows["file"],))
    return found


def _judges(config: dict) -> list[dict]:
    settings = config["settings"].values()
    used = {name for setting in settings for name in setting["annotators"]}
    used |= {rate["annotator"] for setting in settings for rate in _rates(setting)}
    used |= {setting.get("analysis", {}).get("annotator") for setting in settings} - {None}
    return [config["annotators"][name] for name in sorted(used)]


def _rates(setting: dict) -> list[dict]:
    """A setting's sections on further benchmarks: who judges, and files of prompts."""
    return [setting[name] for name in ("safety", "arena") if name in setting]


def check(config: dict, source: str) -> None:
    """Check that the revisions of a configuration are those of its lock file, as far as it goes.

    Raises:
        UserError: naming both.
    """
    entries = read(config["lock"])
    for name, asked in repositories(config).items():
        locked = entries.get(name, {}).get("revision", asked["revision"])
        if asked["revision"] not in (UNPINNED, locked):
            raise UserError(
                f"{source} asks for revision {asked['revision']} of {name}, but {config['lock']} "
                f"has {locked}; write the lock's, or `{UNPINNED}`, or run `make lock`"
            )


def pinned(lock: str | Path, name: str, revision: str | None) -> str:
    """The commit of a repository: the one asked for, or where that is unpinned, the lock's."""
    if revision in (None, UNPINNED):
        return read(lock).get(name, {}).get("revision", UNPINNED)
    return revision


def entry(lock: str | Path, name: str) -> dict:
    """``{"revision": commit, "files": {path: {"size": bytes, "sha256": hex}}}`` of a repository.

    Raises:
        UserError: the lock has no such entry; it says what to do.
    """
    entries = read(lock)
    if name not in entries:
        raise UserError(
            f"{name} is not in the lock file {lock}, which says what the hub has to deliver.\n"
            "Run `make lock CONFIG=FILE` once, with access to the hub and the configuration that "
            "names it (with ARGS='--config model=...' where the command line does)."
        )
    return entries[name]


def read(lock: str | Path) -> dict:
    """The entries of a lock file; none where there is no file yet.

    Raises:
        UserError: the file is not what `make lock` writes.
    """
    path = Path(lock)
    return _parse(path, path.stat().st_mtime_ns) if path.exists() else {}


@lru_cache(maxsize=4)
def _parse(path: Path, changed: int) -> dict:
    try:
        entries = yaml.safe_load(path.read_text()) or {}
        sound = all(
            re.fullmatch("[0-9a-f]{40}", found["revision"])
            and all(re.fullmatch("[0-9a-f]{64}", f["sha256"]) for f in found["files"].values())
            and all(isinstance(f["size"], int) for f in found["files"].values())
            for found in entries.values()
        )
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        sound = False
    if not sound:
        raise UserError(
            f"{path} is not a lock file as `make lock` writes it; restore it, or delete it and run "
            "`make lock` again"
        )
    return entries


def named(asked: dict) -> set[str]:
    """The files that are asked for by name rather than by a pattern."""
    return {path for path in asked["files"] if "*" not in path}


def renew(config: dict) -> dict:
    """The lock's entries with what the configuration asks for and the lock does not have yet.

    Raises:
        UserError: as :func:`poet.data.hub.describe`.
    """
    from poet.data.hub import describe

    entries = dict(read(config["lock"]))
    for name, asked in repositories(config).items():
        have, revision = entries.get(name), asked["revision"]
        if have and revision in (UNPINNED, have["revision"]) and named(asked) <= set(have["files"]):
            continue
        if revision == UNPINNED:
            revision = have and have["revision"]
        entries[name] = describe(name, revision, asked["files"])
        size = sum(file["size"] for file in entries[name]["files"].values())
        print(f"{name}: {entries[name]['revision']}, {size / 1e9:.2f} GB", file=sys.stderr)
    return entries


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description="Write down what the hub has to deliver.")
    parser.add_argument("--configfile", required=True, help="its key `lock` names the file")
    from poet import config as poet_config
    from poet import local_inputs
    from poet.config_shortcuts import add_flag

    add_flag(parser)
    args = parser.parse_args(argv)
    config = poet_config.read(args.configfile, **dict(args.config))
    local_inputs.check(config, args.configfile)
    entries = renew(config)
    with publish(config["lock"]) as temporary:
        temporary.write_text(HEADER + yaml.safe_dump(entries))
    print(f"{config['lock']}: {len(entries)} repositories", file=sys.stderr)


if __name__ == "__main__":
    cli(main)
