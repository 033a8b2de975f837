"""Hooks of MkDocs: pages of the top folder, an API reference by rooms, and links to source files.

The pages of the repository link to each other and to source files by relative paths, as code hosts
show them. On the site a link to a module leads to its place in the reference; one to any other
file of the repository becomes plain text.
"""

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("records", "models", "train", "builders", "benchmarks")
# Pages of the top folder, and their names on the site.
TOP_PAGES = {
    "README.md": "index.md",
    "RESULTS.md": "results_page.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
# What a user calls, besides what `records` hands on.
PUBLIC = ("models.build_model", "train.settings.config.TrainConfig", "builders.base.RecordsBuilder")
_LEFT_OUT = {"peers", "dummy_data"}  # environments of their own; samples


def read_rooms() -> dict[str, list[str]]:
    """Modules by room, `records.loading`: [`records.loading.cache`, ...]; packages are rooms."""
    rooms: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            if not path.name.endswith("_test.py") and not _LEFT_OUT & set(parts):
                room = ".".join(parts[:-1])
                is_room = path.name == "__init__.py"
                rooms.setdefault(room, []).append(room if is_room else ".".join(parts))
    return rooms


ROOMS = read_rooms()
_ROOM_OF = {module: room for room, modules in ROOMS.items() for module in modules}


def _public() -> dict[str, str]:
    """Full names by the names that users call: the dict `_MODULES` of `records`, and PUBLIC."""
    for node in ast.parse((REPOSITORY / "records/__init__.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_MODULES":
            names: dict[str, str] = ast.literal_eval(node.value)
            found = {
                f"records.{name}": f"records.{module}.{name}" for name, module in names.items()
            }
            return found | {name: name for name in PUBLIC}
    raise ValueError("docs/hooks.py: records/__init__.py expected a dict _MODULES, received none")


def _purpose(room: str) -> str:
    source = (REPOSITORY / room.replace(".", "/") / "__init__.py").read_text("utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].replace("\n", " ")


def write_reference() -> dict[str, str]:
    """Markdown of the reference by page name: an index, and a page for each room."""
    rows = [f"| [`{room}`]({room}.md) | {_purpose(room)} |" for room in ROOMS]
    public = [f"- [`{name}`][{full}]" for name, full in _public().items()]
    index = [
        "# API reference",
        "",
        "What users call:",
        "",
        *public,
        "",
        "The rooms of the code:",
        "",
    ]
    index += ["| room | what lives there |", "|---|---|", *rows]
    pages = {"index": "\n".join(index)}
    for room, modules in ROOMS.items():
        blocks = [f"::: {name}\n" for name in modules]
        pages[room] = "\n".join([f"# {room}", "", *blocks])
    return {f"reference/{name}.md": text for name, text in pages.items()}


def on_config(config: Any) -> Any:
    """Adds the reference to the menu."""
    pages = ["reference/index.md", *({room: f"reference/{room}.md"} for room in ROOMS)]
    config.nav.append({"API reference": pages})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages."""
    for name, page in TOP_PAGES.items():
        text = (REPOSITORY / name).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    for page, text in write_reference().items():
        files.append(File.generated(config, page, content=text))
    return files


def _site_link(source: str, link: str) -> str | None:
    """Where a link of the page `source` of the repository leads on the site; None: nowhere."""
    path, hash_sign, anchor = link.partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if target in TOP_PAGES:
        return TOP_PAGES[target] + hash_sign + anchor
    if target.startswith("docs/"):
        return target.removeprefix("docs/") + hash_sign + anchor
    module = target.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if module in _ROOM_OF:
        return f"reference/{_ROOM_OF[module]}.md#{module}"
    return None


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links that leave docs/ into links of the site, or plain text."""
    shown = page.file.src_uri
    if shown.startswith("reference/"):
        return markdown
    sources = {page: name for name, page in TOP_PAGES.items()}
    source = sources.get(shown, f"docs/{shown}")

    def turn(found: re.Match[str]) -> str:
        text, link = found.groups()
        if "://" in link or link.startswith(("#", "mailto:")):
            return found[0]
        target = _site_link(source, link)
        if target is None:
            return text
        return f"[{text}]({posixpath.relpath(target, posixpath.dirname(shown) or '.')})"

    return re.sub(r"\[([^\]\n]+)\]\(([^)\s]+)\)", turn, markdown)
