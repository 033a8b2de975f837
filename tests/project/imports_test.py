"""Reads every import of the project, module by module: no circle, and no arrow to a higher room.

Lazy imports inside functions count, so do those for type checkers only, and so does a string that
is a module's name (`"benchmarks.run"` handed to a new process).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.project.architecture_test import ALLOWED_IMPORTS

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("builders", "records", "models", "train", "benchmarks")
MOST_MODULES_IN_A_FOLDER = 16

# The rooms of each package, from the ground up: a module imports from its own room and from lower
# ones. "" is the package's own folder.
ROOMS: dict[str, tuple[str, ...]] = {
    "records": (
        "system",
        "stores",
        "sets",
        "shards",
        "decoding",
        "ordering",
        "loading",
        "damage",
        "",
        "service",
        "diagnose",
        "describe",
        "verify",
    ),
    "train": (
        # Settings are resolved for the devices that are there.
        "devices",
        # The choices of --monitor are the figures of `measures.metrics`.
        "measures",
        "settings",
        "folders",
        "step",
        "assembly",
        "engine",
        "search",
        "serving",
        "",
    ),
    "benchmarks": ("measuring", "input", "training", "build", "reports", ""),
}

Graph = dict[str, set[str]]


def read_sources(repository: Path = REPOSITORY) -> dict[str, str]:
    """Source by module name; without tests and peers, which run in environments of their own."""
    found = {}
    for package in PACKAGES:
        for path in sorted((repository / package).rglob("*.py")):
            parts = path.relative_to(repository).with_suffix("").parts
            if path.name.endswith("_test.py") or path.name == "conftest.py" or "peers" in parts:
                continue
            name = ".".join(parts).removesuffix(".__init__")
            found[name] = path.read_text(encoding="utf-8")
    return found


def imported_modules(source: str, module: str, names: Iterable[str]) -> set[str]:
    """The modules of `names` that `source`, of the name `module`, imports or names in a string."""
    names, found = set(names), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, *filter(None, [node.module])])
            inner = {f"{base}.{alias.name}" for alias in node.names} & names
            found |= inner or {base}
        elif isinstance(node, ast.Constant) and "." in str(node.value):
            found.add(str(node.value))
    return (found & names) - {module}


def make_graph(sources: Mapping[str, str]) -> Graph:
    """The modules that each module imports."""
    return {name: imported_modules(source, name, sources) for name, source in sources.items()}


def circles(graph: Graph) -> list[str]:
    """The modules that reach themselves, sorted."""

    def reaches(start: str) -> bool:
        seen: set[str] = set()
        pending = list(graph[start])
        while pending:
            one = pending.pop()
            if one not in seen:
                seen.add(one)
                pending += graph[one]
        return start in seen

    return sorted(filter(reaches, graph))


def room_of(module: str, sources: Iterable[str]) -> tuple[str, str]:
    """(package, room) of a module."""
    package, *rest = module.split(".")
    is_room = len(rest) > 1 or (rest and f"{module}." in " ".join(sources))
    return package, rest[0] if is_room and rest[0] in ROOMS.get(package, ()) else ""


def arrows_up(graph: Graph) -> list[str]:
    """Imports of a higher room by a lower one, or of a package that may not be imported."""
    found = []
    for module, imported in graph.items():
        package, room = room_of(module, graph)
        for one in sorted(imported):
            of, other = room_of(one, graph)
            if package == of and package in ROOMS:
                order = ROOMS[package]
                # A package's face hands names on and is no room of its own.
                if module != package and order.index(other) > order.index(room):
                    found.append(f"{module} -> {one}")
            elif package != of and of not in ALLOWED_IMPORTS[package]:
                found.append(f"{module} -> {one}")
    return found


def full_folders(sources: Iterable[str]) -> dict[str, int]:
    """Folders of more modules than allowed, `__init__` not counted."""
    counts: dict[str, int] = {}
    packages = {name.rpartition(".")[0] for name in sources}
    for name in sources:
        if name not in packages:
            folder = name.rpartition(".")[0]
            counts[folder] = counts.get(folder, 0) + 1
    return {name: n for name, n in counts.items() if n > MOST_MODULES_IN_A_FOLDER}


def test_no_circle() -> None:
    assert circles(make_graph(read_sources())) == []


def test_no_arrow_to_a_higher_room() -> None:
    assert arrows_up(make_graph(read_sources())) == []


def test_every_folder_is_a_room() -> None:
    for package, rooms in ROOMS.items():
        folders = {path.parent.name for path in (REPOSITORY / package).glob("*/__init__.py")}
        assert folders - {"peers"} == set(rooms) - {""}, package


def test_no_folder_is_too_full() -> None:
    assert full_folders(read_sources()) == {}


def test_the_rules_can_fail() -> None:
    planted = {
        "records.system.a": "def f():\n    from records.sets import b\n",
        "records.sets.b": "import records.system.a",
        "train.settings.c": 'start("train.engine.d")',
        "train.engine.d": "from train.settings import c",
        "train.engine.e": "from . import d",
        "train.demo": 'start("benchmarks.run")',
        "benchmarks.run": "import train.demo",
    }
    graph = make_graph(planted)
    assert circles(graph) == [
        "benchmarks.run",
        "records.sets.b",
        "records.system.a",
        "train.demo",
        "train.engine.d",
        "train.settings.c",
    ]
    assert arrows_up(graph) == [
        "records.system.a -> records.sets.b",
        "train.settings.c -> train.engine.d",
        "train.demo -> benchmarks.run",
    ]
    assert graph["train.engine.e"] == {"train.engine.d"}
    many = [f"train.step.m{i}" for i in range(MOST_MODULES_IN_A_FOLDER + 1)]
    assert full_folders([*many, "train.step"]) == {"train.step": MOST_MODULES_IN_A_FOLDER + 1}
