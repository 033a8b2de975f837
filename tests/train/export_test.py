"""`python -m train.export`: it loads without our code and predicts what `train.predict` does."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from builders.brain_tumor_mri.synthetic import write_pictures
from builders.fetal_health.synthetic import write_csv
from builders.song_lyrics.synthetic import write_tables
from builders.song_lyrics.tables import LYRICS_FILE
from records.decoding import cleaning
from records.decoding.cleaning_ops import TextEncoder
from records.sets.schema import IMAGE
from tests.support.fuzz_inputs import make_picture, make_run_folder
from train import export, predict
from train.folders.finished_run import open_run
from train.run import main as train
from train.serving.served_model import Served

# A process that has TensorFlow alone: by name a folder and raw inputs as JSON on stdin, what the
# model in it gives on stdout.
_LOADER = """
import base64, json, sys
sys.path = [p for p in sys.path if p not in ("", sys.argv[1])]
import numpy as np, tensorflow as tf, tensorflow_text

def predict(saved, values, encoded):
    raw = [base64.b64decode(r) for r in values] if encoded else values
    model = tf.saved_model.load(saved)
    value = tf.constant(raw, tf.string if encoded else tf.float32)
    found = model.signatures["serving_default"](value)
    return {
        "probabilities": found["probabilities"].numpy().tolist(),
        "label": [x.decode() for x in found["label"].numpy()],
        "usable": found["usable"].numpy().tolist() if "usable" in found else [],
        "empty": model.signatures["serving_default"](value[:0])["probabilities"].shape.as_list(),
    }

found = {name: predict(*asked) for name, asked in json.load(sys.stdin).items()}
ours = {"keras", "records", "models", "train", "builders"} & set(sys.modules)
print(json.dumps({"found": found, "ours": sorted(ours - {"keras"})}))
"""


def _load(asked: dict[str, tuple[Path, list[Any], bool]], folder: Path) -> dict[str, Any]:
    """By name, what the model of a saved folder gives for raw inputs, bytes or numbers."""
    import base64

    given = {
        name: (str(saved), [base64.b64encode(r).decode() for r in raw] if encoded else raw, encoded)
        for name, (saved, raw, encoded) in asked.items()
    }
    done = subprocess.run(
        [sys.executable, "-c", _LOADER, str(Path(__file__).resolve().parents[2])],
        input=json.dumps(given),
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["ours"] == [], "it needs none of our code"
    found: dict[str, Any] = answer["found"]
    return found


def _inputs(name: str, folder: Path) -> tuple[Path, list[Any], bool]:
    """(what `train.predict` takes, the same as raw inputs, whether these are bytes)."""
    if name == "fetal_health":
        write_csv(folder)
        source = folder / "fetal_health.csv"
        with open(source, newline="") as file:
            header, *rows = csv.reader(file)
        names = [h for h in header if h != "fetal_health"]
        at = [header.index(n) for n in names]
        return source, [[float(row[i]) for i in at] for row in rows], False
    if name == "brain_tumor_mri":
        write_pictures(folder)
        source = folder / "Testing"
        cmyk = Image.effect_noise((60, 50), 90).convert("RGB").convert("CMYK")
        cmyk.save(next(source.iterdir()) / "cmyk.jpg", quality=95)
        files = sorted(p for p in source.rglob("*") if p.is_file())
        return source, [file.read_bytes() for file in files], True
    source = folder / "lyrics.txt"
    texts = ["I don't know (x2) why you’re gone", "[Chorus] sing along, sing along", "love love"]
    source.write_text("\n".join(texts), encoding="utf-8")
    return source, [text.encode() for text in texts], True


@dataclasses.dataclass(frozen=True)
class _Exported:
    """What was asked of a run: inputs that are bad first, then those of `source`."""

    run: Path
    source: Path
    printed: str
    bad: list[Any]
    raw: list[Any]


def _export(name: str, run: Path, folder: Path) -> tuple[_Exported, tuple[Path, list[Any], bool]]:
    folder.mkdir()
    source, raw, as_bytes = _inputs(name, folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert export.main([str(run), f"--output={folder / 'saved'}", f"--check={source}"]) == 0
    bad: list[Any] = [b"no picture", b"", raw[0][:-9]] if name == "brain_tumor_mri" else []
    if name == "fetal_health":
        bad = [[value, *raw[0][1:]] for value in (np.nan, np.inf, -np.inf)]
    asked = (folder / "saved", bad + raw, as_bytes)
    return _Exported(run, source, printed.getvalue(), bad, raw), asked


def _check(exported: _Exported, found: dict[str, Any], output: Path) -> None:
    """Against `train.predict`."""
    printed, raw = exported.printed, exported.raw
    assert f"{len(raw):,} items compared" in printed and "the same label for 100.000 %" in printed
    assert predict.main([str(exported.run), str(exported.source), f"--output={output}"]) == 0
    with open(output, newline="") as file:
        _, *rows = csv.reader(file)
    assert found.pop("empty") == [0, len(rows[0]) - 2]
    if exported.bad:  # they cost no other item
        assert found["usable"] == [False] * 3 + [True] * len(raw)
        assert found["label"][:3] == ["", "", ""] and not np.any(found["probabilities"][:3])
        found = {name: values[3:] for name, values in found.items()}
    assert len(rows) == len(raw) > 2
    expected = np.array([row[2:] for row in rows], float)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert found["label"] == [row[1] for row in rows]


@pytest.fixture(scope="module")
def exports(
    finished_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[_Exported, dict[str, Any]]]:
    """Of every finished run: what was asked, and what one process that loaded them all found."""
    folder = tmp_path_factory.mktemp("exports")
    made = {name: _export(name, run, folder / name) for name, run in finished_runs.items()}
    found = _load({name: asked for name, (_, asked) in made.items()}, folder)
    return {name: (exported, found[name]) for name, (exported, _) in made.items()}


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri", "song_lyrics"])
def test_it_predicts_the_same_without_our_code(
    name: str, exports: dict[str, tuple[_Exported, dict[str, Any]]], tmp_path: Path
) -> None:
    exported, found = exports[name]
    _check(exported, dict(found), tmp_path / "out.csv")


@pytest.mark.slow
def test_a_whole_efficientnet_predicts_the_same_without_our_code(
    synthetic_data_dir: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    flags = ["--dataset=brain_tumor_mri/synthetic", f"--data-dir={synthetic_data_dir}"]
    flags += ["--image-size=32", "--epochs=2", "--strategy=one_device", f"--run-dir={run}"]
    assert train(flags) == 0
    exported, asked = _export("brain_tumor_mri", run, tmp_path / "export")
    _check(exported, _load({"found": asked}, tmp_path)["found"], tmp_path / "out.csv")


def test_what_a_check_leaves_out_is_named(tmp_path: Path, capsys: Any) -> None:
    run, folder = make_run_folder(tmp_path / "run", IMAGE), tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(make_picture("PNG"))
    (folder / "notes.txt").write_text("no picture")
    output = f"--output={tmp_path / 'saved'}"
    assert export.main([str(run), output, f"--check={folder}"]) == 0
    printed = capsys.readouterr().out
    assert "1 of 3 were left out:\n  notes.txt: expected JPEG or PNG\n" in printed
    assert f"{folder}: 2 items compared" in printed


@pytest.mark.parametrize("most", [119, 120])
def test_the_exported_graph_has_the_limit_of_its_training(most: int, tmp_path: Path) -> None:
    run = make_run_folder(tmp_path / "run", IMAGE)
    fields = json.loads((run / "model_input.json").read_text()) | {"max_pixels": most}
    (run / "model_input.json").write_text(json.dumps(fields))
    files = io.BytesIO()
    Image.fromarray(np.full((12, 10), 7, np.uint8)).save(files, "PNG")
    found = open_run(str(run))
    served = Served(found.load_model(), found.input).signatures()["serving_default"]
    assert served(tf.constant([files.getvalue()]))["usable"].numpy().tolist() == [most == 120]


def test_an_export_is_never_half_there(
    finished_runs: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    """A folder with other content is left alone."""
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    assert export.main([str(finished_runs["fetal_health"]), f"--output={other}"]) == 1
    assert "expected" in capsys.readouterr().err
    assert [p.name for p in other.iterdir()] == ["thesis.txt"]


def _same_share(texts: list[str]) -> float:
    """Share of the texts whose ids are those of the builder's cleaning, for both rules."""
    same = np.ones(len(texts), bool)
    for rule, split in (("clean", cleaning.clean_text), ("basic", cleaning.basic_tokens)):
        words = [list(split(text)) for text in texts]
        vocabulary = ["[PAD]", "[UNK]", *sorted({w for text in words for w in text})]
        number = {word: i for i, word in enumerate(vocabulary)}
        encoder = TextEncoder(rule, vocabulary, 400)
        found = encoder(np.array([text.encode() for text in texts])).numpy()
        for i, text in enumerate(words):
            wanted = np.zeros(400, np.int32)
            ids = [number[w] for w in text][:400]
            wanted[: len(ids)] = ids
            same[i] &= np.array_equal(found[i], wanted)
    print(f"token ids equal to the builder's: {same.sum():,} of {len(texts):,} texts")
    return float(same.mean())


def _lyrics(file: Path, count: int | None = None) -> list[str]:
    csv.field_size_limit(2**27)
    with open(file, newline="", encoding="utf-8") as opened:
        rows = csv.DictReader(opened)
        return [row["Lyric"] for row, _ in zip(rows, range(count or 2**31), strict=False)]


def test_ids_of_generated_lyrics_in_the_layout_of_kaggle(tmp_path: Path) -> None:
    write_tables(tmp_path, 2000, 100)
    texts = _lyrics(tmp_path / LYRICS_FILE)
    assert len(texts) >= 2000
    joined = "".join(texts)
    for wanted in ("’", "[", "n't", "\n"):
        assert wanted in joined, f"no {wanted!r} among the generated lyrics"
    assert _same_share(texts) >= 0.99


@pytest.mark.slow
@pytest.mark.real_data
def test_ids_of_real_lyrics(shared_data: Path) -> None:
    texts = _lyrics(shared_data / "song_lyrics" / LYRICS_FILE)
    assert _same_share(texts) >= 0.999


def test_a_run_folder_is_asked_for(tmp_path: Path, capsys: Any) -> None:
    assert export.main([str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "expected a run folder" in message and "python -m train.run" in message
