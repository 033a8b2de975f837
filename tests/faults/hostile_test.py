"""Files and names made to do harm: refused with a limit or a reason, and never run."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from models.torch_weights import read_state_dict
from records.decoding.decode import PictureError, decode_pictures
from records.decoding.pixels import MAX_PIXELS, decode_jpeg
from records.sets.find import find_directory
from records.sets.schema import IMAGE
from records.sets.tfds_metadata import open_builder
from records.system.npz import read_arrays
from tests.support.faults import record_fault
from tests.support.fuzz_inputs import make_picture, make_run_folder, make_torch_file
from train.engine.checkpoint import read_checkpoint, write_checkpoint
from train.predict import main as predict

REFUSED = "the command ends with 1; nothing of the file is run"


def _png(width: int, height: int, idat_bytes: int | None = None) -> bytes:
    """A PNG that claims a size, and holds as much of it as is asked for, all black."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        sizes = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(kind + content))
        return sizes[0] + kind + content + sizes[1]

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    black = zlib.compress(bytes((width + 1) * height if idat_bytes is None else idat_bytes), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", black) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def _large_jpeg() -> bytes:
    """100 megapixels."""
    out = io.BytesIO()
    Image.new("L", (10_000, 10_000)).save(out, "JPEG", quality=10)
    return out.getvalue()


def test_pictures_of_100_megapixels_are_refused(tmp_path: Path, capsys: Any) -> None:
    jpeg, png = _large_jpeg(), _png(10_000, 10_000)
    with pytest.raises(ValueError, match=f"at most {MAX_PIXELS} pixels") as error:
        decode_jpeg(jpeg, "builders/brain_tumor_mri: large.jpg")
    record_fault("a picture of 100 megapixels, built", str(error.value), "the build ends")
    for channels in (1, 3):
        for data in (jpeg, png):
            with pytest.raises(PictureError, match=f"pixels, of {MAX_PIXELS:,} at most"):
                decode_pictures([data], 8, channels)
    run, folder = make_run_folder(tmp_path / "run", IMAGE), tmp_path / "pictures"
    folder.mkdir()
    (folder / "large.jpg").write_bytes(jpeg)
    (folder / "small.png").write_bytes(make_picture("PNG"))
    assert predict([str(run), str(folder), f"--output={tmp_path / 'out.csv'}"]) == 0
    (line,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("  large.jpg: ")]
    outcome = "left out, and said; the other pictures are predicted"
    record_fault("a picture of 100 megapixels, predicted", line, outcome)


def test_pictures_that_claim_more_than_they_hold_cost_no_memory() -> None:
    whole = make_picture("PNG")
    bombs = [_png(2**31 - 1, 2**31 - 1, 100), _png(65_000, 65_000, 10**6), whole[:-12]]
    # A chunk of 2 GB in a file of some KB: OpenCV would allocate it.
    bombs.append(whole[:33] + b"\x7f\xff\xff\xff" + whole[37:])
    before = _peak_kilobytes()
    for data in bombs:
        with pytest.raises(PictureError):
            decode_pictures([data], 8, 1)
    assert _peak_kilobytes() - before < 300_000
    for other in ("BMP", "GIF", "TIFF", "WEBP"):  # decoders that no picture of ours needs
        with pytest.raises(PictureError, match="expected JPEG or PNG"):
            decode_pictures([make_picture(other)], 8, 1)


def _peak_kilobytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def _npz(member: str, content: bytes, compress: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compress) as archive:
        archive.writestr(member, content)
    return out.getvalue()


def _npy(shape: str, dtype: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode() + b"\n" + data


BOMBS = {
    "a header that claims 8 TB": _npz("a.npy", _npy("(1000000000000,)", "<f8", bytes(64))),
    "a negative shape": _npz("a.npy", _npy("(-1,)", "<f8", bytes(64))),
    "256 MB of zeros in 256 KB": _npz(
        "a.npy", _npy(f"({2**28},)", "|u1", bytes(2**28)), zipfile.ZIP_DEFLATED
    ),
    "Python objects": _npz("a.npy", _npy("(1,)", "|O", pickle.dumps(np.array([1], object)))),
}


@pytest.mark.parametrize("what", BOMBS)
def test_arrays_that_would_burst_are_refused(what: str, tmp_path: Path) -> None:
    file = tmp_path / "checkpoints" / "step-0000000009.npz"
    write_checkpoint(file.parent, 3, {"model": [np.ones(3)]}, {"epoch": 1})
    file.write_bytes(BOMBS[what])
    tracemalloc.start()
    with pytest.raises(ValueError, match="expected arrays as numpy.savez writes them") as error:
        read_arrays(file)
    found = read_checkpoint(file.parent)
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()
    assert found is not None and found[1] == {"epoch": 1}  # the one before it
    record_fault(f"an .npz: {what}", str(error.value), "it counts as damaged", tmp_path)


def test_members_that_lie_on_each_other_are_refused(tmp_path: Path) -> None:
    """As in D. Fifield's zip bomb: many entries of the directory, one stretch of the file."""
    data = bytearray(_npz("a.npy", _npy("(100000,)", "|u1", bytes(100_000))))
    end = data.rindex(b"PK\x05\x06")
    entry = bytes(data[data.rindex(b"PK\x01\x02") : end])
    data[end:end] = entry * 9
    end += 9 * len(entry)
    data[end + 8 : end + 12] = struct.pack("<HH", 10, 10)
    data[end + 12 : end + 16] = struct.pack("<I", 10 * len(entry))
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match="file: .*expected arrays"):
        read_arrays(tmp_path / "a.npz")


def test_members_never_leave_their_archive(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    names = ("../evil.npy", "/tmp/evil.npy", "a/../../evil.npy", "C:\\evil.npy")
    with zipfile.ZipFile(inside / "a.npz", "w") as archive:
        for name in names:
            archive.writestr(name, _npy("(2,)", "|u1", b"ab"))
    assert {bytes(a) for a in read_arrays(inside / "a.npz").values()} == {b"ab"}
    run = make_run_folder(inside / "run")
    with zipfile.ZipFile(run / "model.keras", "a") as archive:
        for name in names:
            archive.writestr(name, b"evil")
    table = inside / "rows.csv"
    table.write_text("a,b,c\n1,2,3\n")
    predict([str(run), str(table), f"--output={inside / 'out.csv'}"])
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/evil.npy").exists()


def _message(capsys: Any, *arguments: str) -> str:
    assert predict(list(arguments)) == 1
    message = str(capsys.readouterr().err)
    assert message.startswith("error: ") and "Traceback" not in message
    return message


def test_code_in_a_model_is_not_run(tmp_path: Path, capsys: Any) -> None:
    run, table = make_run_folder(tmp_path / "run"), tmp_path / "rows.csv"
    table.write_text("a,b,c\n1,2,3\n")
    inputs = keras.Input((3,))
    outputs = keras.layers.Lambda(lambda x: x[:, :2], output_shape=(2,))(inputs)
    keras.Model(inputs, outputs).save(run / "model.keras")
    message = _message(capsys, str(run), str(table), f"--output={tmp_path / 'out.csv'}")
    assert "a Lambda layer, which is Python code and is not run" in message
    record_fault("a model with a Lambda layer", message, REFUSED, tmp_path)
    # A class of a module that is no part of Keras: its import alone would run it.
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(run / "model.keras")
    with zipfile.ZipFile(run / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1] |= {"module": "antigravity", "registered_name": None}
    with zipfile.ZipFile(run / "model.keras", "w") as archive:
        for name, data in (members | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, data)
    assert "expected the Keras model" in _message(capsys, str(run), str(table))
    assert "antigravity" not in sys.modules


class _Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch evil",)


def test_a_pickle_in_weights_is_not_run(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "weights.pth"
    data = make_torch_file()
    file.write_bytes(data)
    assert {name: a.shape for name, a in read_state_dict(file).items()} == {"a": (2, 3), "b": (4,)}
    for evil in (
        pickle.dumps(_Evil()),
        data[: data.index(b"little_endian")] + pickle.dumps(_Evil()),
    ):
        file.write_bytes(evil)
        with pytest.raises(ValueError, match="tensors only"):
            read_state_dict(file)
    file.write_bytes(pickle.dumps(_Evil(), 2))
    with pytest.raises(ValueError, match="the global posix.system") as error:
        read_state_dict(file)
    evil = pickle.dumps(_Evil(), 2)
    bombs = [evil[:2] + b"r\xff\xff\xff\x7f" + evil[2:], b"\x80\x04\x95" + b"\xff" * 7 + b"\x00."]
    before = _peak_kilobytes()
    for bomb in bombs:  # a table of 2**31 entries, a frame of 2**56 bytes
        file.write_bytes(bomb)
        with pytest.raises(ValueError, match="the instruction (LONG_BINPUT|FRAME)"):
            read_state_dict(file)
    assert _peak_kilobytes() - before < 100_000
    assert not (tmp_path / "evil").exists()
    record_fault("weights that are a program", str(error.value), REFUSED, tmp_path)


def test_a_set_cannot_name_modules_to_import(synthetic_data_dir: Path, tmp_path: Path) -> None:
    source = find_directory("fetal_health/synthetic", str(synthetic_data_dir))
    for name in ("dataset_info.json", "features.json"):
        shutil.copy(Path(source) / name, tmp_path)
    open_builder(str(tmp_path))
    features = tmp_path / "features.json"
    text = features.read_text()
    known = "tensorflow_datasets.core.features.text_feature.Text"
    assert known in text
    features.write_text(text.replace(known, "antigravity.Text"))
    with pytest.raises(ValueError, match="Metadata alone never make the project import") as error:
        open_builder(str(tmp_path))
    assert "antigravity" not in sys.modules
    record_fault("a set that names a module", str(error.value), REFUSED, tmp_path)
    old = {"type": "antigravity.Text", "content": {}}
    nested = {
        "pythonClassName": known.replace("Text", "Text"),
        "jsonFeature": {"json": json.dumps(old)},
    }
    features.write_text(json.dumps(nested))
    with pytest.raises(ValueError, match="Metadata alone never make the project import"):
        open_builder(str(tmp_path))
    features.write_text(text[:100])
    with pytest.raises(ValueError, match="features.json: expected JSON") as error:
        open_builder(str(tmp_path))
    record_fault("half a features.json", str(error.value), "the command ends with 1", tmp_path)


def test_damaged_files_of_a_run_are_named(tmp_path: Path, capsys: Any) -> None:
    run, table = make_run_folder(tmp_path / "run"), tmp_path / "rows.csv"
    table.write_text("a,b,c\n1,2,3\n")
    faults = {
        "config.json": (b'{"resolved": {', "a run's config.json cut short"),
        "model_input.json": (b"[]", "a run's model_input.json replaced"),
        "model.keras": (b"PK", "a run's model.keras cut short"),
    }
    for name, (content, fault) in faults.items():
        before = (run / name).read_bytes()
        (run / name).write_bytes(content)
        message = _message(capsys, str(run), str(table), f"--output={tmp_path / 'out.csv'}")
        assert name in message
        record_fault(fault, message, "predict, evaluate and export end with 1", tmp_path)
        (run / name).write_bytes(before)
    settings = json.loads((run / "config.json").read_text()) | {"epochs": "many"}
    (run / "config.json").write_text(json.dumps(settings))
    message = _message(capsys, str(run), str(table))
    record_fault("a run's setting of another type", message, "as above", tmp_path)
