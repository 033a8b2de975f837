"""From the flags to the step, the settings of a run enter few modules.

Those further down take the plain values that they need. A module counts where it imports what was
asked (`TrainConfig`), what it became (`Settings`), or the context that holds it (`RunContext`).
"""

from __future__ import annotations

import ast
import dataclasses
from typing import get_args, get_type_hints

from tests.project.imports_test import read_sources, room_of
from train.settings.config import TrainConfig
from train.settings.resolved import Settings

TYPES = {"TrainConfig", "Settings", "RunContext"}
MOST_MODULES = 20


def modules_with_settings(sources: dict[str, str]) -> list[str]:
    """The modules of the project, benchmarks apart, that import or define one of the types."""
    found = []
    for name, source in sources.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ClassDef):
                names.add(node.name)
        if names & TYPES and not name.startswith("benchmarks."):
            found.append(name)
    return sorted(found)


def test_settings_enter_few_modules() -> None:
    found = modules_with_settings(read_sources())
    print(f"{len(found)} modules: {', '.join(found)}")
    assert len(found) <= MOST_MODULES, found
    assert [m for m in found if room_of(m, found)[1] in ("step", "measures", "devices")] == []


def test_the_rule_can_fail() -> None:
    planted = {
        "train.step.a": "from train.settings.resolved import Settings",
        "train.step.b": "def f():\n    from train.assembly.context import RunContext",
        "train.step.c": "from train.settings.config import PRECISIONS",
    }
    assert modules_with_settings(planted) == ["train.step.a", "train.step.b"]


def test_every_setting_is_resolved_under_its_name() -> None:
    asked, resolved = get_type_hints(TrainConfig), get_type_hints(Settings)
    del asked["given"], asked["conversion"]  # no settings
    assert list(resolved) == ["asked", *asked]
    for name, hint in asked.items():
        if name == "profile":  # parsed
            continue
        plain = {one for one in get_args(hint) or (hint,) if one is not type(None)}
        own = resolved[name]
        assert {one for one in get_args(own) or (own,) if one is not type(None)} == plain, name
    fields = {field.name for field in dataclasses.fields(Settings)}
    for name in ("model", "epochs", "global_batch_size", "learning_rate", "precision", "xla"):
        assert name in fields and type(None) not in get_args(resolved[name]), name
