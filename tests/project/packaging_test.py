"""What setup.cfg and constraints.txt promise, against the environment and the source."""

from __future__ import annotations

import configparser
import importlib.metadata
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from tests.project.architecture_test import imported_roots

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("builders", "records", "models", "train", "benchmarks")
BUILDERS = ("fetal_health", "brain_tumor_mri", "song_lyrics")


def _setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return parser


def _requirements(text: str) -> list[Requirement]:
    lines = [line.strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def _installed_requirements() -> list[Requirement]:
    """Those that every installation by `make` holds: the base ones, `test` and `lint`."""
    extras = _setup_cfg()["options.extras_require"]
    text = [_setup_cfg()["options"]["install_requires"], extras["test"], extras["lint"]]
    return [requirement for part in text for requirement in _requirements(part)]


def _constraints() -> dict[NormalizedName, Version]:
    versions: dict[NormalizedName, Version] = {}
    for requirement in _requirements((REPOSITORY / "constraints.txt").read_text()):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"constraints.txt: {requirement} is not exact"
        versions[canonicalize_name(requirement.name)] = Version(specifier.version)
    return versions


@pytest.mark.parametrize("requirement", _installed_requirements(), ids=str)
def test_requirement_is_installed_and_constrained(requirement: Requirement) -> None:
    installed = importlib.metadata.version(requirement.name)
    assert requirement.specifier.contains(installed), f"{requirement}: installed is {installed}"
    constraint = _constraints().get(canonicalize_name(requirement.name))
    assert constraint is not None, f"constraints.txt has no line for {requirement.name}"
    assert requirement.specifier.contains(constraint), f"{requirement}: constraint is {constraint}"


def test_tools_of_the_site_are_constrained() -> None:
    # They are installed by `make docs` alone, in an environment of their own.
    for requirement in _requirements(_setup_cfg()["options.extras_require"]["docs"]):
        version = _constraints().get(canonicalize_name(requirement.name))
        assert version is not None, requirement
        assert requirement.specifier.contains(version)


def test_cuda_is_the_one_that_tensorflow_was_built_with() -> None:
    """What `make` installs beside it where there are GPUs; nothing of it is installed here."""
    wanted = _requirements("\n".join(importlib.metadata.requires("tensorflow") or []))
    cuda = [r for r in wanted if r.marker and r.marker.evaluate({"extra": "and-cuda"})]
    cuda = [r for r in cuda if r.name.startswith("nvidia")]
    constraints, built = _constraints(), tf.sysconfig.get_build_info()
    assert len(cuda) >= 10
    for requirement in cuda:
        version = constraints[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: constraint is {version}"
    runtime = constraints[canonicalize_name("nvidia-cuda-runtime-cu12")]
    assert runtime.release[:2] == Version(built["cuda_version"]).release[:2]
    cudnn = constraints[canonicalize_name("nvidia-cudnn-cu12")]
    assert cudnn.major == Version(built["cudnn_version"]).major


def test_every_import_is_declared() -> None:
    declared = {canonicalize_name(r.name) for r in _installed_requirements()}
    for text in _setup_cfg()["options.extras_require"].values():
        declared |= {canonicalize_name(r.name) for r in _requirements(text)}
    distributions = importlib.metadata.packages_distributions()
    known = set(sys.stdlib_module_names) | set(PACKAGES) | set(BUILDERS) | {"__main__"}
    undeclared = []
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            # A peer of the benchmarks is its reader's own installation.
            if "peers" in path.parts:
                continue
            for module in sorted(imported_roots(path.read_text(encoding="utf-8")) - known):
                names = {canonicalize_name(n) for n in distributions.get(module, [module])}
                if not names & declared:
                    undeclared.append(f"{path.relative_to(REPOSITORY)}: {module} ({names})")
    assert not undeclared, "setup.cfg does not declare:\n" + "\n".join(undeclared)


def test_every_requirement_for_tfds_is_there() -> None:
    # The command imports these itself and names none of them in its own requirements.
    names = {canonicalize_name(r.name) for r in _installed_requirements()}
    assert {"apache-beam", "mlcroissant", "importlib-resources"} <= names


def test_tfds_command_belongs_to_this_environment() -> None:
    command = Path(sys.executable).with_name("tfds")
    assert command.is_file(), f"{command} is missing; run `make install`"


def test_every_package_and_builder_is_found() -> None:
    include = _setup_cfg()["options.packages.find"]["include"].split()
    for package in PACKAGES:
        assert {package, f"{package}.*"} <= set(include)
        assert (REPOSITORY / package / "__init__.py").is_file(), f"{package}: no __init__.py"
    for name in BUILDERS:
        folder = REPOSITORY / "builders" / name
        for file in ("__init__.py", "README.md", "TAGS.txt", "CITATIONS.bib", "dummy_data"):
            assert (folder / file).exists(), f"builders/{name}: {file} is missing"
