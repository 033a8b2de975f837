"""Reads every module of the project and enforces the conventions that a machine can check.

Each rule is a function from source to complaints, so that it can be shown to complain.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# What each package may import of ours, besides itself.
ALLOWED_IMPORTS: dict[str, set[str]] = {
    "builders": {"records"},
    "records": set(),
    "models": set(),
    "train": {"records", "models"},
    "benchmarks": {"builders", "records", "models", "train"},
}
# Modules that builders use: `tfds build` and the cleaning processes start them, and TensorFlow
# would cost each several seconds.
WITHOUT_TENSORFLOW = ("decoding.cleaning", "sets.fingerprint", "decoding.pixels")
TENSORFLOW_ROOTS = {"tensorflow", "tensorflow_text", "keras"}

# Only records/pipeline.py decides about order, batches and memory; benchmarks build the pipelines
# they compare with.
PIPELINE_METHODS = {"shuffle", "repeat", "batch", "cache", "prefetch"}
PIPELINE_METHODS |= {"padded_batch", "ragged_batch", "bucket_by_sequence_length"}
PIPELINE_MODULE = "records/pipeline.py"

TARGET_FILE_LINES, MAX_FILE_LINES = 300, 400
MAX_FUNCTION_LINES = 60


def _modules(*packages: str) -> Iterator[str]:
    """Paths, relative to the repository, of the modules of `packages`; tests are left out."""
    for package in packages or tuple(ALLOWED_IMPORTS):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if not path.name.endswith("_test.py"):
                yield path.relative_to(REPOSITORY).as_posix()


def _source(module: str) -> str:
    return (REPOSITORY / module).read_text(encoding="utf-8")


def imported_roots(source: str, *, top_level_only: bool = False) -> set[str]:
    """First name of everything `source` imports absolutely, function bodies included or not."""
    roots: set[str] = set()
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            roots.add(node.module.split(".")[0])
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            # Read by mypy, never run; still an import for the direction rule.
            pending.extend(node.orelse if top_level_only else [*node.body, *node.orelse])
        elif not (top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            pending.extend(ast.iter_child_nodes(node))
    return roots


def forbidden_imports(package: str, source: str) -> list[str]:
    """Packages of ours that `source`, a module of `package`, imports against the direction."""
    ours = imported_roots(source) & set(ALLOWED_IMPORTS)
    return sorted(ours - ALLOWED_IMPORTS[package] - {package})


def pipeline_calls(source: str) -> list[str]:
    """Calls that look like a tf.data method which only the pipeline may use.

    A function of an imported module (`np.repeat`, `tf.repeat`, `functools.cache`) is no method of
    a dataset, nor is what a random generator (`rng`, `generator`) does.
    """
    tree = ast.parse(source)
    imported = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    calls = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        receiver = ast.unparse(node.func.value)
        is_dotted_name = all(part.isidentifier() for part in receiver.split("."))
        of_module = is_dotted_name and receiver.split(".")[0] in imported
        of_generator = receiver.split(".")[-1] in {"rng", "generator"}
        if node.func.attr in PIPELINE_METHODS and not of_module and not of_generator:
            calls.append(f"line {node.lineno}: {receiver[-40:]}.{node.func.attr}(")
    return calls


def long_functions(source: str) -> list[str]:
    """Functions of more lines than allowed, decorators not counted."""
    return [
        f"{node.name} (line {node.lineno}): {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    ]


# What an error or a message may begin with: a part of the product that a user knows. It stays when
# a file moves. Builders name themselves by the folder that `tfds build` is given.
PARTS = {
    "baseline", "benchmark", "build", "checkpoint", "cleaning", "convert", "cross-validation",
    "data service", "data set", "demo", "describe", "devices", "diagnose", "evaluate", "export",
    "file", "fit", "gpu check", "input", "model", "place", "predict", "pretrain", "results",
    "run folder", "settings", "shards", "store", "sweep", "training", "verify", "workers",
}  # fmt: skip
BUILDERS = {"builders/fetal_health", "builders/brain_tumor_mri", "builders/song_lyrics"}


def unknown_prefixes(source: str) -> list[str]:
    """Errors that begin with one or two words and a colon, which are no part of the product.

    Errors without such a beginning are for a caller of ours, which names the part.
    """
    complaints = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
            continue
        text = node.exc.args[0]
        first = text.values[0] if isinstance(text, ast.JoinedStr) and text.values else text
        said = str(first.value) if isinstance(first, ast.Constant) else ""
        found = re.match(r"([a-z_/-]+( [a-z]+)?): ", said)
        if found and found[1] not in PARTS | BUILDERS:
            complaints.append(f"line {node.lineno}: {said[:60]!r}")
    return complaints


def _fail_on(complaints: dict[str, list[str]], rule: str) -> None:
    found = [f"{module}: {complaint}" for module, all_ in complaints.items() for complaint in all_]
    assert not found, f"{rule}\n" + "\n".join(found)


def test_every_package_is_looked_at() -> None:
    missing = [package for package in ALLOWED_IMPORTS if not list(_modules(package))]
    assert not missing, f"no modules found in {missing}"


def test_imports_go_one_way() -> None:
    complaints = {m: forbidden_imports(m.split("/")[0], _source(m)) for m in _modules()}
    _fail_on(complaints, f"May import, besides itself: {ALLOWED_IMPORTS}. Found:")


@pytest.mark.parametrize("name", WITHOUT_TENSORFLOW)
def test_modules_for_builders_do_not_name_tensorflow_at_the_top(name: str) -> None:
    roots = imported_roots(_source(f"records/{name.replace('.', '/')}.py"), top_level_only=True)
    assert not roots & TENSORFLOW_ROOTS, f"records.{name} imports TensorFlow when imported"


def test_modules_for_builders_start_without_tensorflow() -> None:
    # What counts in the end: nothing they import, `records/__init__.py` included, loads it.
    code = (
        f"import sys, {', '.join(f'records.{name}' for name in WITHOUT_TENSORFLOW)}\n"
        f"print(sorted({TENSORFLOW_ROOTS!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_only_the_pipeline_orders_batches_and_caches() -> None:
    packages = [package for package in ALLOWED_IMPORTS if package != "benchmarks"]
    modules = [module for module in _modules(*packages) if module != PIPELINE_MODULE]
    complaints = {module: pipeline_calls(_source(module)) for module in modules}
    _fail_on(complaints, f"Only {PIPELINE_MODULE} may call {sorted(PIPELINE_METHODS)}. Found:")


def test_names_say_what_lives_there() -> None:
    assert not [module for module in _modules() if Path(module).stem in {"utils", "util"}]


def test_files_and_functions_stay_short() -> None:
    complaints = {module: long_functions(_source(module)) for module in _modules()}
    for module in complaints:
        lines = len(_source(module).splitlines())
        if lines > MAX_FILE_LINES:
            complaints[module].append(f"{lines} lines, at most {MAX_FILE_LINES} are allowed")
        elif lines > TARGET_FILE_LINES:
            warnings.warn(f"{module}: {lines} lines, aim at {TARGET_FILE_LINES}", stacklevel=1)
    _fail_on(complaints, f"Functions have at most {MAX_FUNCTION_LINES} lines. Found:")


def test_errors_begin_with_a_part_of_the_product() -> None:
    complaints = {module: unknown_prefixes(_source(module)) for module in _modules()}
    _fail_on(complaints, f"An error begins with one of {sorted(PARTS)}. Found:")


BAD_SOURCE = """
import tensorflow as tf
import numpy as np
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import keras
def read(path, rng):
    from train import loop
    import benchmarks.run
    from . import models
    np.repeat(1, 2), tf.random.shuffle([1]), rng.shuffle([1])
    dataset = tf.data.TFRecordDataset(path)
    return dataset.batch(3), tf.data.Dataset.range(3).shuffle(2).map(len).cache()
"""


def test_the_rules_can_fail() -> None:
    assert forbidden_imports("records", BAD_SOURCE) == ["benchmarks", "train"]
    assert forbidden_imports("train", BAD_SOURCE) == ["benchmarks"]
    assert forbidden_imports("benchmarks", BAD_SOURCE) == []
    assert imported_roots(BAD_SOURCE, top_level_only=True) == {"tensorflow", "numpy", "typing"}
    calls = [call.rsplit(".", 1)[1] for call in pipeline_calls(BAD_SOURCE)]
    assert sorted(calls) == ["batch(", "cache(", "shuffle("]
    assert unknown_prefixes('raise OSError(f"records/schema: {name} is wrong")')
    assert unknown_prefixes('raise ValueError(f"settings: {name} is wrong")') == []
    body = "\n".join(["def f():"] + ["    pass"] * (MAX_FUNCTION_LINES - 1))
    assert long_functions(body) == []
    assert len(long_functions(body + "\n    pass")) == 1
