"""What fuzzing starts from, and how it changes what has a structure: JSON, zip archives."""

from __future__ import annotations

import copy
import io
import json
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from builders.fetal_health.table import FEATURE_NAMES, LABEL_COLUMN
from models.torch_weights import _MAGIC, _PROTOCOL
from records.sets.schema import IMAGE, TABULAR
from records.shards.crc import masked_crc
from tests.support.faults import mutate
from tests.support.settings import make_settings
from train.folders.model_input import ModelInput

WEIRD: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 10**40, 1e999, float("nan"), "", "x", "../..", "\0", "1e5",
    "\ud800", "é\n|", [], {}, [[]], [None], {"a": 1}, ["x"] * 3,
)  # fmt: skip


def change_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Random bytes, or a value, a key or an entry replaced, removed or added."""
    if rng.random() < 0.3:
        return mutate(data, rng)
    if rng.random() < 0.01:
        return b'{"a":' * 100_000  # deeper than a parser of its own recursion goes
    tree = [json.loads(data)]
    for _ in range(int(rng.integers(1, 3))):
        _change(tree, rng)
    return json.dumps(tree[0]).encode()


def _change(tree: Any, rng: np.random.Generator) -> None:
    weird = copy.deepcopy(WEIRD[int(rng.integers(len(WEIRD)))])
    node: Any = tree
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = keys[int(rng.integers(len(keys)))]
        if not isinstance(node[key], dict | list) or (rng.random() < 0.3 and node is not tree):
            break
        node = node[key]
    kind = rng.integers(0, 4)
    if kind == 0 and node is not tree:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node["weird" if rng.random() < 0.5 else str(key)] = weird
    else:
        node[key] = weird


def change_zip(data: bytes, rng: np.random.Generator) -> bytes:
    """Random bytes of the archive, or of a member whose checksum is made to fit."""
    if rng.random() < 0.3:
        return mutate(data, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        names = source.namelist()
        chosen = names[int(rng.integers(len(names)))]
        for name in names:
            content = source.read(name)
            if name == chosen:
                change = change_json if name.endswith(".json") else mutate
                # A header says most: shape, dtype, order.
                head = content[:128] if name.endswith(".npy") else content
                content = change(head, rng) + content[len(head) :]
            target.writestr(name, content)
    return out.getvalue()


def frame_records(payloads: list[bytes]) -> bytes:
    """A TFRecord file."""
    out = b""
    for payload in payloads:
        size = len(payload).to_bytes(8, "little")
        out += size + masked_crc(size).to_bytes(4, "little")
        out += payload + masked_crc(payload).to_bytes(4, "little")
    return out


def make_picture(kind: str, channels: int = 3, side: int = 24) -> bytes:
    """A picture of noise, as a file."""
    shape = (side, side, 3) if channels == 3 else (side, side)
    pixels = np.random.default_rng(side).integers(0, 256, shape, np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def make_health_csv() -> bytes:
    """Thirty rows of the table."""
    rng = np.random.default_rng(0)
    lines = [",".join([*FEATURE_NAMES, LABEL_COLUMN])]
    for row in range(30):
        values = rng.integers(0, 200, len(FEATURE_NAMES)) / 10
        lines.append(",".join([*map(str, values), f"{1 + row % 3}.0"]))
    return ("\n".join(lines) + "\n").encode()


ARTISTS_CSV = (
    b"Artist,Songs,Popularity,Link,Genre,Genres\n"
    b'"Ann, the ""First""",3,1.5,/ann/,Rock,Rock; Pop\nBo,1,0,/bo/,Pop,\nNull,1,0,/null/,,Soul\n'
)
LYRICS_CSV = (
    "ALink,SName,SLink,Lyric,Idiom\n"
    '/ann/,One,/ann/one,"a red\ncar, ""so"" red",ENGLISH\n/bo/,Two,/bo/two,uma cor,PORTUGUESE\n'
    "/null/,Naïve,/null/naive,the sea is blue,ENGLISH\n/x/,Three,/x/three,no artist,ENGLISH\n"
).encode()


def make_torch_file() -> bytes:
    """A state dict of two tensors in PyTorch's legacy format."""
    storage = type("FloatStorage", (), {"__module__": "torch"})

    def rebuild(*_: Any) -> None: ...

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"

    class Tensor:
        def __init__(self, key: str, shape: tuple[int, ...]):
            self.key, self.shape = key, shape

        def __reduce__(self) -> Any:
            stride = tuple(int(np.prod(self.shape[i + 1 :])) for i in range(len(self.shape)))
            return rebuild, (Reference(self.key, int(np.prod(self.shape))), 0, self.shape, stride)

    class Reference:
        def __init__(self, key: str, size: int):
            self.key, self.size = key, size

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, Reference):
                return ("storage", storage, obj.key, "cpu", obj.size, None)
            return None

    modules = {"torch": types.ModuleType("torch"), "torch._utils": types.ModuleType("_utils")}
    modules["torch"].FloatStorage = storage  # type: ignore[attr-defined]
    modules["torch._utils"]._rebuild_tensor_v2 = rebuild  # type: ignore[attr-defined]
    kept = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    out = io.BytesIO()
    try:
        system = {"protocol_version": _PROTOCOL, "little_endian": True}
        for value in (_MAGIC, _PROTOCOL, system):
            pickle.dump(value, out, 2)
        Pickler(out, 2).dump({"a": Tensor("1", (2, 3)), "b": Tensor("2", (4,))})
        pickle.dump(["1", "2"], out, 2)
    finally:
        for name, module in kept.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    for size in (6, 4):
        out.write(size.to_bytes(8, "little") + np.arange(size, dtype="<f4").tobytes())
    return out.getvalue()


def make_run_folder(path: Path, modality: str = TABULAR) -> Path:
    """A folder as a finished run leaves it, untrained: of three columns or of 8x8 grey pictures."""
    path.mkdir(parents=True)
    kept = {"precision": "float32", "xla": False, "shuffle_block": None}
    settings = make_settings(model="mlp_small").to_dict()
    settings |= {"data_fingerprint": "0" * 64, "resolved": kept}
    (path / "config.json").write_text(json.dumps(settings))
    (path / "metrics.json").write_text(json.dumps(make_metrics()))
    common = ("a_set/1.0.0", modality, ("low", "high"))
    wanted = ModelInput(*common, feature_names=("a", "b", "c"))
    if modality == IMAGE:
        wanted = ModelInput(*common, image_size=8, channels=1)
    fields = {k: v for k, v in vars(wanted).items() if k != "vocabulary"}
    (path / "model_input.json").write_text(json.dumps(fields))
    small_model((8, 8, 1) if modality == IMAGE else (3,)).save(path / "model.keras")
    return path


def make_metrics() -> dict[str, Any]:
    """What `metrics.json` of a finished run holds, in so far as anything reads it."""
    figures = {"loss": 1.0, "accuracy": 0.5, "weighted_f1": 0.5, "recall": {"low": 1.0}}
    found = {"dataset": "a_set/1.0.0", "model": "mlp_small", "seed": 0, "input_share": 0.1}
    seconds = dict.fromkeys(("setup", "input", "step", "rest"), 1.0)
    return found | {"seconds": seconds, "validation": figures, "test": figures}


def small_model(shape: tuple[int, ...] = (3,)) -> keras.Model:
    """Logits of two classes."""
    inputs = keras.Input(shape)
    flat = keras.layers.Flatten()(inputs) if len(shape) > 1 else inputs
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(flat), name="small")
