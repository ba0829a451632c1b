"""What a configuration asks the hub for, and whether the lock file has it."""

from __future__ import annotations

import sys

from poet.files import UserError
from poet.hub import download, lock
from poet.hub.lock import DATA_FILES, MODEL_FILES, UNPINNED, is_hub_id

ALPACAEVAL_FILES = ("alpaca_eval_gpt4_baseline.json", "df_gamed.csv")


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
        for rows in (rows for section in _sections(setting) for rows in section.values()):
            if isinstance(rows, dict) and "file" in rows:  # of a benchmark
                ask(f"datasets/{rows['dataset']}", rows["revision"], (rows["file"],))
    return found


def _judges(config: dict) -> list[dict]:
    used = set()
    for setting in config["settings"].values():
        used |= {*setting["annotators"], *(each.get("annotator") for each in _sections(setting))}
    return [config["annotators"][name] for name in sorted(used - {None})]


def _sections(setting: dict) -> list[dict]:
    return [section for section in setting.values() if isinstance(section, dict)]


def check(config: dict, source: str) -> None:
    """Check that the revisions of a configuration are those of its lock file, as far as it goes.

    Raises:
        UserError: naming both.
    """
    entries = lock.read(config["lock"])
    for name, asked in repositories(config).items():
        locked = entries.get(name, {}).get("revision", asked["revision"])
        if asked["revision"] not in (UNPINNED, locked):
            raise UserError(
                f"{source} asks for revision {asked['revision']} of {name}, but {config['lock']} "
                f"has {locked}; write the lock's, or `{UNPINNED}`, or run `make lock`"
            )


def renew(config: dict) -> dict:
    """The lock's entries with what the configuration asks for and the lock does not have yet.

    Raises:
        UserError: as :func:`poet.hub.download.describe`.
    """
    entries = dict(lock.read(config["lock"]))
    for name, asked in repositories(config).items():
        have, revision = entries.get(name), asked["revision"]
        by_name = {path for path in asked["files"] if "*" not in path}
        if have and revision in (UNPINNED, have["revision"]) and by_name <= {*have["files"]}:
            continue
        if revision == UNPINNED:
            revision = have and have["revision"]
        entries[name] = download.describe(name, revision, asked["files"])
        size = sum(file["size"] for file in entries[name]["files"].values())
        print(f"{name}: {entries[name]['revision']}, {size / 1e9:.2f} GB", file=sys.stderr)
    return entries
