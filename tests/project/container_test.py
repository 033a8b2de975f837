"""The Dockerfile copies what exists and runs targets that exist; CI resolves what GPUs need.

The files for Slurm and Kubernetes are read in `tests/train/devices/multi_worker_test.py`.
"""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

REPOSITORY = Path(__file__).resolve().parents[2]
KUBERNETES = REPOSITORY / "docs/howto/several_workers/kubernetes.yaml"
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def instructions(text: str) -> list[tuple[str, str]]:
    """(word, rest) of each instruction, its lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = (line.partition(" ") for line in joined.splitlines())
    return [(word, " ".join(rest.split())) for word, _, rest in found]


def missing(text: str, repository: Path = REPOSITORY) -> list[str]:
    """What the instructions name and the repository lacks: files, folders, targets of `make`."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    found = []
    for word, rest in instructions(text):
        if word == "COPY":
            *sources, _ = rest.split()
            found += [source for source in sources if not (repository / source).exists()]
        if word == "RUN":
            for target in re.findall(r"\bmake ([\w-]+)", rest.replace("recommends make", "")):
                found += [] if re.search(rf"^{target}:", makefile, re.M) else [f"make {target}"]
    return found


def test_what_the_image_is_made_of_is_there() -> None:
    assert missing(DOCKERFILE) == []
    words = [word for word, _ in instructions(DOCKERFILE)]
    assert words[0] == "FROM" and words[-1] == "CMD" and set(words) <= {
        "FROM", "RUN", "WORKDIR", "ENV", "COPY", "CMD",
    }  # fmt: skip
    for word, rest in instructions(DOCKERFILE):
        if word == "RUN":
            subprocess.run(["bash", "-n", "-c", rest], check=True)


def test_what_is_not_there_is_found() -> None:
    planted = "FROM a\nCOPY setup.cfg \\\n  gone.txt ./\nRUN make install && make vanish\n"
    assert missing(planted) == ["gone.txt", "make vanish"]


def test_the_image_has_python_packages_and_files_that_the_project_wants() -> None:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    given = dict(instructions(DOCKERFILE))
    version = re.match(r"python:([\d.]+)", given["FROM"])
    assert version and version[1] in SpecifierSet(parser["options"]["python_requires"])
    copied = [rest.split()[0] for word, rest in instructions(DOCKERFILE) if word == "COPY"]
    packages = parser["options.packages.find"]["include"].split()
    assert {name for name in packages if "." not in name} <= set(copied)
    assert given["ENV"].removeprefix("EXTRAS=") in parser["options.extras_require"]


def test_the_job_for_kubernetes_finds_the_environment_of_the_image() -> None:
    *_, job = yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["workingDir"] == dict(instructions(DOCKERFILE))["WORKDIR"]
    assert "exec .venv/bin/python -m train.run" in container["command"][-1]


def test_the_job_for_kubernetes_fits_its_schema() -> None:
    """Where the schemas are at hand: `pip install kubernetes-validate`."""
    kubernetes = pytest.importorskip("kubernetes_validate")
    documents = list(yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8")))
    for version in ("1.27", "1.37"):
        for document in documents:
            kubernetes.validate(document, version, strict=True)
        for wrong in ({"completions": "two"}, {"completion": 2}):
            planted = documents[-1] | {"spec": documents[-1]["spec"] | wrong}
            with pytest.raises(kubernetes.ValidationError):
                kubernetes.validate(planted, version, strict=True)


def test_ci_resolves_what_gpus_need() -> None:
    path = REPOSITORY / ".ci" / "run"
    subprocess.run(["bash", "-n", path], check=True)
    (line,) = re.findall(r"^beside gpu .*--dry-run.*$", path.read_text(encoding="utf-8"), re.M)
    words = shlex.split(line)
    assert words[-4:] == ["-e", ".[gpu]", "-c", "constraints.txt"]
