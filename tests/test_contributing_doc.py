"""CONTRIBUTING.md: its map is the house, and what it names is there."""

import re
from pathlib import Path

from test_floors import FLOORS, IMPORTS, MODULES, room

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_map_has_every_room_once_in_the_order_of_imports():
    (table,) = re.findall(r"^\| in `src/poet` \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    named = re.findall(r"^\| `(\w+)(?:\.py|/)` \| \S", table, re.MULTILINE)
    assert len(named) == table.count("\n")
    assert sorted(named) == sorted({room(module) for module in MODULES} - {""})
    floors = [next(n for n, names in enumerate(FLOORS) if name in names) for name in named]
    assert floors == sorted(floors)
    place = {name: number for number, name in enumerate([*named, ""])}
    for module, others in IMPORTS.items():  # also within a floor
        above = {other for other in others if place[room(other)] > place[room(module)]}
        assert above == set(), module


def test_the_folders_beside_it_are_there():
    (table,) = re.findall(r"^\| beside it \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    named = {
        name for row in table.splitlines() for name in re.findall("`([^`]+)`", row.split("|")[1])
    }
    assert {"rules/", "config/", "docs/", "paper/", "benchmarks/", "tests/"} <= named
    assert all((ROOT / name).exists() for name in named)


def test_files_and_targets_exist():
    made = set(re.findall(r"^A new file `([^`]+)`:$", TEXT, re.MULTILINE))
    paths = set(re.findall(r"`((?:src|tests|docs|config|rules|\.ci)/[\w./-]+)`", TEXT)) - made
    assert len(paths) > 15
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets = set(re.findall(r"\bmake ([a-z-]+)", TEXT))
    assert {"lint", "test-quick", "test", "lock"} <= targets <= rules
    assert "(CONTRIBUTING.md)" in (ROOT / "README.md").read_text()
