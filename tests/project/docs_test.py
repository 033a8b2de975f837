"""Every page of the documentation: its links lead somewhere, and the site's menu names it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_AT_THE_TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "RESULTS.md")
PAGES = sorted((REPOSITORY / "docs").rglob("*.md")) + [REPOSITORY / name for name in _AT_THE_TOP]
# Text files that may name a page: `docs/howto/damage.md`.
_NAMING = ("builders", "records", "models", "train", "benchmarks", "tests", "docs")


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def anchors(text: str) -> set[str]:
    """The names that links can give to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def broken_links(page: Path) -> list[str]:
    """Relative links of a page, or anchors of them, that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A: title\n[a](page.md) [b](#a-title) [c](gone.md) [d](#gone) [e](https://x)")
    assert broken_links(page) == ["gone.md", "#gone"]


def _files() -> Iterator[Path]:
    yield from (REPOSITORY / name for name in (*_AT_THE_TOP, "Makefile", "setup.cfg", ".ci/run"))
    for folder in _NAMING:
        for ending in ("*.py", "*.sh", "*.md", "*.yaml"):
            yield from (REPOSITORY / folder).rglob(ending)


def test_pages_that_code_and_texts_name_are_there() -> None:
    missing = []
    for file in _files():
        for named in re.findall(r"(?<![\w/.])docs/[\w/]+\.\w+", file.read_text(encoding="utf-8")):
            if not (REPOSITORY / named).exists() and file != Path(__file__):
                missing.append(f"{name_of(file)}: {named}")
    assert missing == []


_PATH = r"`((?:builders|records|models|train|benchmarks|tests|docs)/[\w/.-]+)`"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=name_of)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(_PATH, page.read_text(encoding="utf-8"))
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def test_the_menu_of_the_site_names_every_page() -> None:
    menu = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [
        path.relative_to(REPOSITORY / "docs").as_posix() for path in PAGES[: -len(_AT_THE_TOP)]
    ]
    assert pages
    assert [page for page in pages if not re.search(rf"[ :]{page}$", menu, re.M)] == []
