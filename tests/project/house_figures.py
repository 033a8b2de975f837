"""How the project is built, in figures: lines, functions, folders, circles of imports, comments.

python -m tests.project.house_figures [CHECKOUT]

All is counted outside tests, in the Python files of the five packages, unless a row says otherwise.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.project.imports_test import PACKAGES, REPOSITORY, circles, make_graph, read_sources

# Comments that are read by a tool say nothing to a reader.
_FOR_TOOLS = ("# noqa", "# type:", "# fmt:", "#!")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


def read_files(checkout: Path) -> dict[Path, str]:
    """Source by path of the Python files outside tests."""
    paths = [path for package in PACKAGES for path in sorted((checkout / package).rglob("*.py"))]
    own = [p for p in paths if not p.name.endswith("_test.py") and p.name != "conftest.py"]
    return {path: path.read_text(encoding="utf-8") for path in own}


def median_and_p90(numbers: Iterable[int]) -> str:
    """Both, as `median / p90`."""
    found = sorted(numbers)
    return f"{statistics.median(found):.0f} / {found[int(0.9 * (len(found) - 1) + 0.5)]}"


def functions(trees: Iterable[ast.Module]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods, also those inside of others."""
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, _FUNCTIONS):
                yield node


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Public functions of a module; methods are not among them: most override a documented one."""
    for node in tree.body:
        if isinstance(node, _FUNCTIONS) and not node.name.startswith("_"):
            yield node


def code_and_comments(source: str, tree: ast.Module) -> tuple[int, int]:
    """(lines that hold code, lines that hold a comment); docstrings and blank lines are neither."""
    docstrings: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            docstrings |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    code, comments = set(), set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(_FOR_TOOLS):
            comments.add(token.start[0])
        elif token.type not in _NO_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings), len(comments)


def measure(checkout: Path) -> dict[str, str]:
    """The figures, by what they count."""
    sources = read_files(checkout)
    trees = {path: ast.parse(source) for path, source in sources.items()}
    lengths = [len(source.splitlines()) for source in sources.values()]
    spans = [(f.end_lineno or f.lineno) - f.lineno + 1 for f in functions(trees.values())]
    public = [f for tree in trees.values() for f in public_functions(tree)]
    documented = sum(ast.get_docstring(f) is not None for f in public)
    folders = Counter(
        str(p.parent.relative_to(checkout)) for p in sources if p.parent.name != "peers"
    )
    counts = [code_and_comments(source, trees[path]) for path, source in sources.items()]
    code, comments = (sum(column) for column in zip(*counts, strict=True))
    in_circles = circles(make_graph(read_sources(checkout)))
    readme = (checkout / "README.md").read_text(encoding="utf-8").splitlines()
    return {
        "files": f"{len(sources):,}",
        "lines": f"{sum(lengths):,}",
        "lines of a file, median / p90": median_and_p90(lengths),
        "functions": f"{len(spans):,}",
        "lines of a function, median / p90": median_and_p90(spans),
        "public functions with a docstring": f"{100 * documented / len(public):.0f} %",
        "most modules in one folder (without benchmarks/peers)": ", ".join(
            f"{count} {folder}" for folder, count in folders.most_common(3)
        ),
        "lines of code without blanks, comments, docstrings": f"{code:,}",
        "comment lines per 100 lines of code": f"{100 * comments / code:.1f}",
        "modules in circles of imports": f"{len(in_circles)} {' '.join(in_circles)}".strip(),
        "lines of README.md": f"{len(readme):,}",
    }


def main(arguments: list[str]) -> int:
    """Prints the figures of a checkout, by default of this one."""
    checkout = Path(arguments[0] if arguments else REPOSITORY).resolve()
    if not (checkout / PACKAGES[0]).is_dir():
        print(f"error: {checkout} expected a checkout of this project", file=sys.stderr)
        return 1
    for name, value in measure(checkout).items():
        print(f"{name:54}{value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
