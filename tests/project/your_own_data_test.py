"""Does what docs/howto/your_own_data.md says, with the code and the commands that stand there."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw

import records
from models import MODELS
from records.describe.__main__ import main
from tests.support.forks import fork
from tests.support.tiny_models import take_tiny_backbone
from train.run import main as train
from train.settings.defaults import MODALITY_DEFAULTS

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = (REPOSITORY / "docs" / "howto" / "your_own_data.md").read_text(encoding="utf-8")


def blocks(kind: str) -> dict[str, str]:
    """The code blocks of the document that follow `<!-- kind: name -->`, by name."""
    found = re.findall(rf"<!-- {kind}: (.+?) -->\n```\w*\n(.*?)```", DOCUMENT, re.DOTALL)
    return dict(found)


def run_command(command: str, folder: Path) -> str:
    """Runs a command of the document as a user would; returns what it printed."""
    program, *arguments = shlex.split(command)
    if program != "python":
        arguments = [str(Path(sys.executable).with_name(program)), *arguments]
    process = fork(*arguments, folder=folder)
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    if process.returncode:
        pytest.fail(f"{command}\nexit code {process.returncode}\n{(out + err)[-6000:]}")
    return out + err


def write_builder(name: str, folder: Path) -> None:
    """Writes the builder `name` of the document below `folder`."""
    module = f"{name}/{name}_dataset_builder.py"
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    (folder / module).write_text(blocks("file")[module], encoding="utf-8")


def run_section(name: str, folder: Path) -> dict[str, Any]:
    """Runs the commands of a section in `folder`; returns the metrics of its training run."""
    write_builder(name, folder)
    commands = blocks("commands")[name].strip().splitlines()
    assert [shlex.split(c)[:3] for c in commands] == [
        ["tfds", "build", name],
        ["python", "-m", "records.describe"],
        ["python", "-m", "train.run"],
    ]
    run_command(commands[0], folder)
    assert f"{name}/1.0.0" in describe(commands[1], folder)
    return run_training(commands[2], folder)


def describe(command: str, folder: Path) -> str:
    """What a `records.describe` command prints; run here, to save the start of a process."""
    output = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(output):
        assert main(shlex.split(command)[3:]) == 0
    assert (folder / "describe" / shlex.split(command)[3] / "classes.png").exists()
    return output.getvalue()


def run_training(command: str, folder: Path) -> dict[str, Any]:
    """Runs a `train.run` command, in this process; returns its metrics."""
    flags = [*shlex.split(command)[3:], "--evaluate-test", "--no-xla", "--strategy=one_device"]
    with contextlib.chdir(folder):
        assert train(flags) == 0
    run_dir = folder / shlex.split(command)[-1]
    assert (run_dir / "model.keras").exists()
    return json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))


SHAPES = ("disc", "square", "cross", "ring", "stripes")


def draw_shape(kind: str, rng: np.random.Generator) -> Image.Image:
    """A coloured shape on a coloured ground; size and place vary."""
    width, height = (int(n) for n in rng.integers(48, 80, 2))
    ground, colour = (tuple(int(n) for n in rng.integers(low, low + 100, 3)) for low in (0, 150))
    picture = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(picture)
    left, top = (int(n) for n in rng.integers(4, 14, 2))
    right, bottom = left + 30, top + 30
    if kind == "disc":
        draw.ellipse((left, top, right, bottom), fill=colour)
    elif kind == "square":
        draw.rectangle((left, top, right, bottom), fill=colour)
    elif kind == "cross":
        draw.line((left, top, right, bottom), fill=colour, width=6)
        draw.line((left, bottom, right, top), fill=colour, width=6)
    elif kind == "ring":
        draw.ellipse((left, top, right, bottom), outline=colour, width=5)
    else:
        for x in range(0, width, 10):
            draw.line((x, 0, x, height), fill=colour, width=4)
    return picture


def write_pictures(folder: Path, train_count: int, test_count: int) -> None:
    rng = np.random.default_rng(5)
    for split, count in (("train", train_count), ("test", test_count)):
        for kind in SHAPES:
            files = folder / "sources" / "my_pictures" / split / kind
            files.mkdir(parents=True)
            for i in range(count):
                draw_shape(kind, rng).save(files / f"{i:03d}{('.png', '.PNG', '.jpeg')[i % 3]}")
            (files / ".DS_Store").touch()


@pytest.mark.parametrize("network", ["small", pytest.param("whole", marks=pytest.mark.slow)])
def test_pictures_in_colour_of_five_classes_without_validation(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one block of EfficientNet-Lite0 and random weights; what ImageNet's learn is `slow`."""
    if network == "small":
        take_tiny_backbone(monkeypatch)
    write_pictures(tmp_path, train_count=24, test_count=8)
    metrics = run_section("my_pictures", tmp_path)
    assert list(metrics["test"]["recall"]) == list(SHAPES)
    assert np.sum(metrics["test"]["confusion_matrix"]) == 40
    assert 10 <= np.sum(metrics["validation"]["confusion_matrix"]) <= 15  # cut from 120
    assert network == "small" or metrics["test"]["accuracy"] > 0.5  # chance: 0.2
    model = keras.models.load_model(tmp_path / "runs" / "my_pictures" / "model.keras")
    assert model.input_shape == (None, 96, 96, 3)
    assert model.output_shape == (None, 5)


@pytest.mark.slow
def test_pictures_train_from_nothing(tmp_path: Path) -> None:
    write_pictures(tmp_path, train_count=12, test_count=4)
    write_builder("my_pictures", tmp_path)
    run_command(blocks("commands")["my_pictures"].splitlines()[0], tmp_path)
    metrics = run_training(blocks("commands")["my_pictures from nothing"].strip(), tmp_path)
    assert np.isfinite(metrics["test"]["loss"])
    assert np.shape(metrics["test"]["confusion_matrix"]) == (5, 5)


def test_a_table_of_integers_with_groups(tmp_path: Path) -> None:
    source = tmp_path / "sources" / "my_table"
    source.mkdir(parents=True)
    rng = np.random.default_rng(1)
    lines = ["patient,age,pulse,pressure,class"]
    for i in range(400):
        age, pulse = rng.integers(20, 90), rng.integers(50, 120)
        kind = ("low", "middle", "high")[np.digitize(age + pulse, (125, 155))]
        lines.append(f"p{i % 90},{age},{pulse},{rng.integers(90, 180)},{kind}")
    (source / "measurements.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    metrics = run_section("my_table", tmp_path)
    assert list(metrics["test"]["recall"]) == ["low", "middle", "high"]
    assert metrics["test"]["accuracy"] > 0.7  # the most frequent class: about 0.4
    data = records.open_data("my_table", str(tmp_path / "data"))
    patients = {}
    for role in ("train", "validation", "test"):
        examples = data.examples(role)
        patients[role] = set(examples.index.group[examples.numbers].tolist())
    assert sum(map(len, patients.values())) == 90 == len(set.union(*patients.values()))


def test_texts_of_two_classes(tmp_path: Path) -> None:
    source = tmp_path / "sources" / "my_texts"
    source.mkdir(parents=True)
    rng = np.random.default_rng(2)
    common = ["the", "a", "room", "was", "it", "bed", "breakfast", "staff", "with", "and", "very"]
    telling = {
        "complaint": ["dirty", "broken", "noisy", "rude"],
        "praise": ["lovely", "clean", "calm"],
    }
    for split, count in (("train", 600), ("test", 100)):
        lines = []
        for i in range(count):
            kind = ("complaint", "praise")[i % 2]
            words = [*rng.choice(common, rng.integers(4, 40)), rng.choice(telling[kind])]
            # What str.splitlines() takes for the end of a line: a line separator, a form feed.
            space = (" ", "\u2028", "\f")[i % 3]
            lines.append(f"{kind}\t{' '.join(rng.permutation(words)).capitalize()}!{space}The end")
        end = ("\n", "\r\n")[split == "test"]
        text = end.join(lines) + end
        (source / f"{split}.tsv").write_text(text, encoding="utf-8-sig", newline="")
    metrics = run_section("my_texts", tmp_path)
    assert list(metrics["test"]["recall"]) == ["complaint", "praise"]
    assert np.sum(metrics["test"]["confusion_matrix"]) == 100
    assert metrics["test"]["accuracy"] > 0.75  # chance: 0.5


def test_the_table_of_models_is_whole() -> None:
    """Each kind of data has its default first, then its other models, sorted."""
    for kind, modality in (("pictures", "image"), ("table", "tabular"), ("text", "text")):
        default = MODALITY_DEFAULTS[modality]["model"]
        others = sorted(n for n, e in MODELS.items() if e.modality == modality and n != default)
        listed = ", ".join([f"`{default}` (default)", *(f"`{name}`" for name in others)])
        assert re.search(rf"^\|.*\| {kind}.* \| {re.escape(listed)} \|", DOCUMENT, re.M), listed


class TinyBuilder(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """A set of 20 examples per split; those of `extra` have no class.

    `features` gives each feature's TFDS type and a function from the example's number to its value.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, name: str, features: dict[str, tuple[Any, Any]], data_dir: Path):
        self.name = name
        self._features = features
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {name: feature for name, (feature, _) in self._features.items()}
        label = tfds.features.ClassLabel(names=["no", "yes"])
        spec = tfds.features.FeaturesDict(features | {"label": label})
        return tfds.core.DatasetInfo(builder=self, features=spec)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in ("train", "test", "extra")}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(20):
            values = {name: make(i) for name, (_, make) in self._features.items()}
            yield i, values | {"label": -1 if split == "extra" else i % 2}


@pytest.fixture
def describe_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Builds a set and returns the error of `records.describe`."""

    def error(name: str, **features: tuple[Any, Any]) -> str:
        TinyBuilder(name, features, tmp_path).download_and_prepare()
        output = str(tmp_path / "figures")
        capsys.readouterr()  # the progress of the build
        assert main([name, "--data-dir", str(tmp_path), "--output", output]) == 1
        return capsys.readouterr().err

    return error


VECTOR = (tfds.features.Tensor(shape=(2,), dtype=np.float32), lambda i: [i, 2.0])


def test_errors_are_those_of_the_document(describe_error: Callable[..., str]) -> None:
    several = describe_error("two_inputs", left=VECTOR, right=VECTOR)
    assert several == blocks("error")["several inputs"]
    none = describe_error("no_input", age=(tfds.features.Scalar(np.float32), float))
    assert none == blocks("error")["no input"]


def test_inputs_stored_as_other_bytes_are_refused(describe_error: Callable[..., str]) -> None:
    packed = tfds.features.Tensor(shape=(2,), dtype=np.float32, encoding="zlib")
    message = describe_error("packed", values=(packed, lambda i: [i, 2.0]))
    expected = "feature 'values' expected a tensor stored as numbers, received one stored as bytes"
    assert f"{expected}. Build it with Tensor(..., encoding='none')" in message
    floats = tfds.features.Image(shape=(4, 4, 1), dtype=np.float32)
    message = describe_error("floats", image=(floats, lambda i: np.full((4, 4, 1), i, np.float32)))
    assert "feature 'image' expected a picture of uint8, received float32" in message


def test_a_split_without_classes_is_left_alone(tmp_path: Path) -> None:
    TinyBuilder("with_extra", {"values": VECTOR}, tmp_path).download_and_prepare()
    data = records.open_data("with_extra", str(tmp_path))
    assert data.roles() == ("train", "validation", "test")
    assert [data.examples(role).num_examples for role in data.roles()] == [18, 2, 20]
    with pytest.raises(ValueError, match="split extra, record 0: label expected 0 to 1"):
        data.examples("extra")
