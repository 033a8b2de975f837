"""No module of ours runs what a file holds: read out of the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("builders", "records", "models", "train", "benchmarks")
# What turns bytes into code or objects. `models/torch_weights.py` reads a pickle whose every
# global it resolves itself.
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
FORBIDDEN_MODULES |= {"yaml", "code", "codeop"}
# Such a module, and those that may use it: what they read runs nothing (their own tests), or was
# written by the same build, in the unfinished folder of its own set.
READERS = {
    "pickle": ("models/torch_weights.py", "builders/on_beam.py"),
    "yaml": ("train/settings/settings_file.py",),
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {"extractall", "extract", "system", "enable_unsafe_deserialization"}
# (last part of the called name) -> the argument that makes it safe, and its value.
NEEDED = {"np.load": ("allow_pickle", False), "load_model": ("safe_mode", True)}
NEEDED |= {"format.read_array": ("allow_pickle", False)}


def complaints(source: str, module: str = "") -> Iterator[str]:
    """What in a module could run a file's content."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            for name in names:
                root = (name or "").partition(".")[0]
                if root in FORBIDDEN_MODULES and module not in READERS.get(root, ()):
                    yield f"line {node.lineno}: import {name}"
        if isinstance(node, ast.Call):
            yield from _complain_of_call(node)


def _complain_of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
    # Source text that stands in the module itself is not what a file holds.
    literal = all(isinstance(argument, ast.Constant) for argument in node.args)
    forbidden = name in FORBIDDEN_CALLS and not (name == "exec" and literal)
    if forbidden or (name == "torch.load" and given.get("weights_only") is not True):
        yield f"line {node.lineno}: {name}()"
    if isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_METHODS:
        yield f"line {node.lineno}: {name}()"
    if given.get("shell"):
        yield f"line {node.lineno}: {name}(shell=True)"
    for called, (argument, value) in NEEDED.items():
        is_called = name == called or name.endswith(f".{called}")
        # A method of our own of that name takes no argument.
        if is_called and (node.args or node.keywords) and given.get(argument) is not value:
            yield f"line {node.lineno}: {name}() without {argument}={value}"


def test_no_module_runs_what_a_file_holds() -> None:
    found = []
    looked_at = 0
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            module = path.relative_to(REPOSITORY).as_posix()
            looked_at += 1
            found += [f"{module}, {text}" for text in complaints(path.read_text(), module)]
    assert looked_at > 100
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "np.load(path)",
        "numpy.np.load(path, mmap_mode='r')",
        "np.load(path, allow_pickle=True)",
        "np.lib.format.read_array(file)",
        "keras.models.load_model(path)",
        "keras.saving.load_model(path, safe_mode=False)",
        "torch.load(path)",
        "yaml.load(text); import yaml",
        "eval(text)",
        "exec(text)",
        "archive.extractall(folder)",
        "subprocess.run(text, shell=True)",
        "keras.config.enable_unsafe_deserialization()",
    ],
)
def test_what_runs_a_file_is_noticed(source: str) -> None:
    assert list(complaints(source))


def test_what_is_safe_is_not_noticed() -> None:
    safe = "np.load(p, allow_pickle=False); load_model(p, safe_mode=True); run.load_model()"
    assert not list(complaints(safe))
    for module, readers in READERS.items():
        for reader in readers:
            assert not list(complaints(f"import {module}", reader))
