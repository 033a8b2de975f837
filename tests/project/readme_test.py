"""README.md against the code, and the commands of all pages: they parse, what they name exists.

Nothing is trained here. What the commands do is tested elsewhere: `make demo` and the builders by
their own tests, `train.run` by the training tests.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorflow_datasets.scripts.cli import main as tfds_cli

from benchmarks import compare, report
from benchmarks import demo as whole_demo
from benchmarks.run import parse_arguments as parse_benchmark
from builders.convert import __main__ as convert
from models import MODELS, check_model
from records.diagnose import __main__ as diagnose
from records.service import __main__ as service
from records.verify import __main__ as verify
from train import (
    baseline,
    cross_validate,
    demo,
    evaluate,
    export,
    predict,
    pretrain,
    results,
    sweep,
)
from train.run import parse_config
from train.settings.defaults import MODALITY_DEFAULTS
from train.settings.sets import read_sets

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
_MODALITY = {"fetal_health": "tabular", "brain_tumor_mri": "image", "song_lyrics": "text"}
# Flags of programs that have no parser of ours.
_DESCRIBE = {"--data-dir", "--output", "--feature"}


def commands(text: str = README) -> list[str]:
    """The lines of a page's shell blocks, comments left out."""
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    joined = lines.replace("\\\n", " ").splitlines()
    return [line for line in (one.partition(" #")[0].strip() for one in joined) if line]


def check_dataset(dataset: str) -> None:
    """A set of ours, and a config that its builder names."""
    name, _, config = dataset.partition("/")
    folder = REPOSITORY / "builders" / name
    assert (folder / f"{name}_dataset_builder.py").is_file(), f"no builder {name}"
    known = {
        node.value
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not config or config in known, f"builders/{name} names no config {config!r}"


def check_make(words: list[str]) -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    targets = [word for word in words[1:] if "=" not in word]
    assert set(targets) <= set(phony.split()), f"Makefile lacks {targets}"


def check_tfds_build(words: list[str]) -> None:
    assert words[1] == "build"
    flags = tfds_cli._parse_flags(words).command
    for path in flags.positional_datasets:
        assert (REPOSITORY / path).is_dir(), f"{path} is not there"
        check_dataset(f"{Path(path).name}/{flags.generation.config or ''}")


def check_train(words: list[str]) -> None:
    config = parse_config(words)
    for dataset in read_sets(config.dataset):
        if Path(dataset).suffix:  # the reader's own file
            continue
        name = dataset.partition("/")[0]
        check_dataset(dataset)
        model = config.model or MODALITY_DEFAULTS[_MODALITY[name]]["model"]
        check_model(model, _MODALITY[name])


def check_benchmark(words: list[str]) -> None:
    for dataset in parse_benchmark(words).dataset:
        check_dataset(dataset)


def check_result(file: Path) -> None:
    """A committed result, or the one that a run writes."""
    committed = file.parts[:2] == ("benchmarks", "results") and file.name != "latest.json"
    assert not committed or (REPOSITORY / file).is_file(), f"{file} is not there"


def check_report(words: list[str]) -> None:
    check_result(report.parse_arguments(words).file)


def check_compare(words: list[str]) -> None:
    found = compare.parse_arguments(words)
    check_result(found.old)
    check_result(found.new)


def check_describe(words: list[str]) -> None:
    check_dataset(words[0])
    assert {word for word in words if word.startswith("--")} <= _DESCRIBE


def check_tests(words: list[str]) -> None:
    missing = [word for word in words if word[0] != "-" and not (REPOSITORY / word).exists()]
    assert not missing, f"{missing} are not there"


MODULES: dict[str, Callable[[list[str]], object]] = {
    "builders.convert": convert.parse_arguments,
    "train.run": check_train,
    "train.baseline": baseline.parse_arguments,
    "train.pretrain": pretrain.parse_arguments,
    "records.diagnose": diagnose.parse_arguments,
    "train.sweep": sweep.parse_config,
    "train.cross_validate": cross_validate.parse_arguments,
    "train.evaluate": evaluate.parse_arguments,
    "train.predict": predict.parse_arguments,
    "train.export": export.parse_arguments,
    "train.results": results.parse_arguments,
    "train.demo": demo.parse_arguments,
    "benchmarks.demo": whole_demo.parse_arguments,
    "benchmarks.run": check_benchmark,
    "benchmarks.report": check_report,
    "benchmarks.compare": check_compare,
    "records.describe": check_describe,
    "records.verify": verify.parse_arguments,
    "records.service": service.parse_arguments,
    "pytest": check_tests,
}


def check_command(command: str) -> None:
    """Raises or fails if the command could not be started as it stands."""
    words = shlex.split(command)
    if words[0] == "make":
        check_make(words)
    elif words[0] == "tfds":
        check_tfds_build(words)
    elif words[:2] == ["python", "-m"]:
        assert words[2] in MODULES, f"the README names an unknown module {words[2]}"
        try:
            MODULES[words[2]](words[3:])
        except SystemExit as end:
            assert end.code == 0 and "--help" in words, f"{command}: wrong flags"
    elif words[0] == "tensorboard":
        assert Path(sys.executable).with_name("tensorboard").exists()
        assert words[1] == "--logdir"
    elif words[0].startswith(".ci/"):
        assert os.access(REPOSITORY / words[0], os.X_OK)
    else:
        assert command == "source .venv/bin/activate", f"nothing here knows how to check {command}"


def all_commands() -> list[str]:
    """Those of README, CONTRIBUTING and all pages of docs/, each once."""
    pages = [REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    found = [c for page in pages for c in commands(page.read_text(encoding="utf-8"))]
    return list(dict.fromkeys(commands() + found))


@pytest.mark.parametrize("command", all_commands(), ids=str)
def test_command_could_be_run(command: str) -> None:
    check_command(command)


def test_what_a_newcomer_needs_is_there() -> None:
    assert {"make demo", "make test"} <= set(commands())
    for module in ("train.run", "records.describe", "benchmarks.run"):
        assert any(module in command for command in commands()), f"no command shows {module}"


@pytest.mark.parametrize(
    "command",
    [
        "make dmeo",
        "tfds build builders/fetal_heath",
        "tfds build builders/fetal_health --config kagle",
        "python -m train.run --dataset fetal_heath",
        "python -m train.run --model gru",
        "python -m train.run --epoch 3",
        "python -m train.rnu",
        "python -m records.describe fetal_health --datadir data",
        "curl example.com",
    ],
)
def test_the_checks_can_fail(command: str) -> None:
    with pytest.raises((AssertionError, ValueError, SystemExit)):
        check_command(command)


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links
    missing = [link for link in links if not (REPOSITORY / link).exists()]
    assert not missing


def test_code_blocks_are_all_looked_at() -> None:
    assert len(re.findall(r"^```", README, re.MULTILINE)) == 2 * README.count("```sh\n")


def _inline() -> list[str]:
    return re.findall(r"`([^`\n]+)`", README.replace("```", ""))


def test_flags_in_the_text_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for parse in (parse_config, verify.parse_arguments):
        with pytest.raises(SystemExit):
            parse(["--help"])
    known = capsys.readouterr().out + " --config --manual_dir --suite "
    for text in _inline():
        for flag in re.findall(r"--[a-z_-]+", text):
            assert re.search(rf"{flag}\b", known), f"README.md: `{text}`: no flag {flag}"


def test_modules_in_the_text_exist() -> None:
    found = [t for t in _inline() if re.fullmatch(r"(builders|records|models|train)[./][\w/.]+", t)]
    assert found
    for text in found:
        path = REPOSITORY / text.removesuffix(".py").replace(".", "/")
        in_package = (path.parent / "__init__.py").exists() and re.search(
            rf"\b{path.name}\b", (path.parent / "__init__.py").read_text(encoding="utf-8")
        )
        assert path.is_dir() or path.with_suffix(".py").exists() or in_package, text


def test_models_in_the_table_are_the_defaults() -> None:
    for name, modality in _MODALITY.items():
        model = MODALITY_DEFAULTS[modality]["model"]
        assert model in MODELS
        assert re.search(rf"^\| \[`{name}`\].*`{model}`", README, re.MULTILINE)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200
    compared = README[README.index("<!-- benchmarks:") : README.index("<!-- end -->")]
    rows = [line for line in compared.splitlines() if line.startswith("| ")]
    assert 5 <= len(rows) - 1 <= 10  # one of them is the header
    # Losses, in bold, come first.
    bold = ["**" in row for row in rows[1:]]
    assert any(bold)
    assert bold == sorted(bold, reverse=True)
