"""Draws the rooms of the code as the imports have them: `python -m tests.support.rooms_picture`.

The picture and its table stand in docs/architecture.md between two markers. An arrow means "uses".
It is left out where a longer way says the same: if a uses b and b uses c, a to c is not drawn.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.project.imports_test import PACKAGES, ROOMS, Graph, make_graph, read_sources, room_of

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: begin -->", "<!-- rooms: end -->"
# Packages whose rooms are drawn one by one; each other package is one box.
_WITH_ROOMS = ("records", "train")


def _box(module: str, modules: Graph) -> str:
    """The box of a module: `records.loading`, or its package."""
    package, room = room_of(module, modules)
    return f"{package}.{room}" if room and package in _WITH_ROOMS else package


def read_arrows(graph: Graph) -> Graph:
    """The boxes that each box uses, from the modules that each module imports."""
    found: Graph = {}
    for module, imported in graph.items():
        box = _box(module, graph)
        # A package's face, `records/__init__.py`, hands names on and uses nothing itself.
        uses = set() if module in _WITH_ROOMS else {_box(one, graph) for one in imported}
        found.setdefault(box, set()).update(uses - {box})
    return found


def reduce_arrows(arrows: Graph) -> Graph:
    """Without the arrows that a longer way makes plain."""

    def reach(box: str) -> set[str]:
        seen: set[str] = set()
        pending = [box]
        while pending:
            new = arrows.get(pending.pop(), set()) - seen
            pending += new
            seen |= new
        return seen

    return {
        box: {one for one in uses if not any(one in reach(other) for other in uses - {one})}
        for box, uses in arrows.items()
    }


def _node(box: str) -> str:
    return box.replace(".", "_")


def draw(arrows: Graph) -> str:
    """The picture as Mermaid: a frame for each package, the lowest room at its bottom."""
    lines = ["```mermaid", "flowchart TD"]
    for package in PACKAGES:
        if package not in _WITH_ROOMS:
            lines.append(f"  {package}[{package}]")
            continue
        lines.append(f"  subgraph {package}_rooms[{package}]")
        for room in reversed(ROOMS[package]):
            box = f"{package}.{room}" if room else package
            lines.append(f"    {_node(box)}[{room or f'{package}/*.py'}]")
        lines.append("  end")
    for box, uses in sorted(reduce_arrows(arrows).items()):
        lines += [f"  {_node(box)} --> {_node(one)}" for one in sorted(uses)]
    return "\n".join([*lines, "```"])


def _purpose(folder: Path) -> str:
    """The first sentence of a room's docstring, whose rest says what it may import."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    return " ".join(text.split()).partition(". ")[0].removesuffix(".").replace("|", "\\|")


def list_rooms() -> str:
    """A table of the rooms, each package from its top to its ground."""
    rows = ["| room | what lives there |", "|---|---|"]
    for package in PACKAGES:
        for room in reversed(ROOMS.get(package, ("",))):
            folder = REPOSITORY / package / room
            rows.append(f"| `{package}{f'/{room}' if room else ''}` | {_purpose(folder)} |")
    return "\n".join(rows)


def make_section() -> str:
    """What stands between the markers."""
    arrows = read_arrows(make_graph(read_sources()))
    return f"{BEGIN}\n{draw(arrows)}\n\n{list_rooms()}\n{END}"


def find_section(text: str) -> str:
    """The part of the page between the markers, both included."""
    return text[text.index(BEGIN) : text.index(END) + len(END)]


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.replace(find_section(page), make_section()), encoding="utf-8")
