"""The order of the house: who may import whom in src/poet, wherever in a file the import stands."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
# From the ground up: a floor imports from itself and from below.
FLOORS = [
    {"files", "progress", "provenance", "devices", "precision"},
    {"methods"},
    {"hub"},
    {"sizes"},
    {"digests"},
    {"world"},
    {"data"},
    {"evaluate"},
    {"train"},
    {"analyse"},
    {"report"},
    {"library"},
    {
        "config",
        "config_checks",
        "config_extends",
        "config_schema",
        "config_shortcuts",
        "local_inputs",
    },  # fmt: skip
    {"grid"},
    {"plan"},
]
HEAVY = {"torch", "transformers", "trl", "datasets", "alpaca_eval"}


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def room(module: str) -> str:
    """The folder, or the file at the top, that a module is in; empty of the package itself."""
    return module.partition(".")[2].partition(".")[0]


def named(path: Path) -> set[str]:
    """What a file imports, anywhere in it; of ``from a import b`` both ``a`` and ``a.b``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imports(module: str) -> set[str]:
    """The modules of ours that one imports, with the packages around them, which run first."""
    around = {name.rsplit(".", depth)[0] for name in named(MODULES[module]) for depth in range(4)}
    found = around & set(MODULES)
    return {name for name in found if name != module and not module.startswith(f"{name}.")}


IMPORTS = {module: imports(module) for module in MODULES}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The nodes of one of a graph's circles; none if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_every_room_has_its_floor():
    rooms = {room(module) for module in MODULES} - {""}
    assert rooms - set().union(*FLOORS) == set() and len(rooms) > 15


def test_nothing_imports_upwards():
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    floor[""] = len(FLOORS)  # the package itself, which nothing may import
    upwards = [
        f"{module} -> {other}"
        for module, others in IMPORTS.items()
        for other in others
        if floor[room(other)] > floor[room(module)]
    ]
    assert upwards == [] and sum(map(len, IMPORTS.values())) > 200


def test_no_module_and_no_folder_imports_itself_by_a_detour():
    assert circle(IMPORTS) == []
    rooms = {room(module): set() for module in MODULES}
    for module, others in IMPORTS.items():
        rooms[room(module)] |= {room(other) for other in others} - {room(module)}
    assert circle(rooms) == []
    # What it would find:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


def test_the_package_does_not_know_snakemake():
    for path in MODULES.values():
        assert not {name for name in named(path) if name.split(".")[0] == "snakemake"}, path


def test_the_configuration_is_light():
    """It reads the wings' registries, in every `snakemake -n`; none of them loads a big library."""
    above = set().union(*FLOORS[FLOORS.index({"library"}) + 1 :])
    light = [module for module in MODULES if room(module) in above]
    code = f"import sys, {', '.join(light)}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(light) <= set(loaded.stdout.split())
    assert HEAVY & set(loaded.stdout.split()) == set()
