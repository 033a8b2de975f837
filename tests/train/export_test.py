"""`python -m train.export`: it loads without our code and predicts what `train.predict` does."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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

# A process that has TensorFlow alone: raw inputs as JSON on stdin, probabilities on stdout.
_LOADER = """
import base64, json, sys
sys.path = [p for p in sys.path if p not in ("", sys.argv[2])]
import numpy as np, tensorflow as tf, tensorflow_text
asked = json.load(sys.stdin)
raw = [base64.b64decode(r) for r in asked["raw"]] if asked["bytes"] else asked["raw"]
model = tf.saved_model.load(sys.argv[1])
value = tf.constant(raw, tf.string if asked["bytes"] else tf.float32)
found = model.signatures["serving_default"](value)
ours = {"keras", "records", "models", "train", "builders"} & set(sys.modules)
print(json.dumps({
    "probabilities": found["probabilities"].numpy().tolist(),
    "label": [x.decode() for x in found["label"].numpy()],
    "usable": found["usable"].numpy().tolist() if "usable" in found else [],
    "empty": model.signatures["serving_default"](value[:0])["probabilities"].shape.as_list(),
    "ours": sorted(ours - {"keras"}),
}))
"""


def _load(saved: Path, raw: list[Any], as_bytes: bool) -> dict[str, Any]:
    import base64

    values = [base64.b64encode(r).decode() for r in raw] if as_bytes else raw
    done = subprocess.run(
        [sys.executable, "-c", _LOADER, str(saved), str(Path(__file__).resolve().parents[2])],
        input=json.dumps({"raw": values, "bytes": as_bytes}),
        cwd=saved.parent,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["ours"] == [], "it needs none of our code"
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


@pytest.mark.parametrize("name", ["fetal_health", "brain_tumor_mri", "song_lyrics"])
def test_it_predicts_the_same_without_our_code(
    name: str, finished_runs: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    run, saved, output = finished_runs[name], tmp_path / "saved", tmp_path / "out.csv"
    source, raw, as_bytes = _inputs(name, tmp_path)
    assert export.main([str(run), f"--output={saved}", f"--check={source}"]) == 0
    printed = capsys.readouterr().out
    assert f"{len(raw):,} items compared" in printed and "the same label for 100.000 %" in printed
    assert predict.main([str(run), str(source), f"--output={output}"]) == 0
    with open(output, newline="") as file:
        _, *rows = csv.reader(file)
    bad: list[Any] = [b"no picture", b"", raw[0][:-9]] if name == "brain_tumor_mri" else []
    if name == "fetal_health":
        bad = [[value, *raw[0][1:]] for value in (np.nan, np.inf, -np.inf)]
    found = _load(saved, bad + raw, as_bytes)
    assert found.pop("empty") == [0, len(rows[0]) - 2]
    if bad:  # they cost no other picture
        assert found["usable"] == [False] * 3 + [True] * len(raw)
        assert found["label"][:3] == ["", "", ""] and not np.any(found["probabilities"][:3])
        found = {name: values[3:] for name, values in found.items()}
    assert len(rows) == len(raw) > 2
    expected = np.array([row[2:] for row in rows], float)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert found["label"] == [row[1] for row in rows]


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


@pytest.mark.real_data
def test_ids_of_real_lyrics(shared_data: Path) -> None:
    texts = _lyrics(shared_data / "song_lyrics" / LYRICS_FILE)
    assert _same_share(texts) >= 0.999


def test_a_run_folder_is_asked_for(tmp_path: Path, capsys: Any) -> None:
    assert export.main([str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "expected a run folder" in message and "python -m train.run" in message
