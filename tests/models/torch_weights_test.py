"""The reader of legacy PyTorch files, against files made by hand."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import efficientnet_lite0, torch_weights

MAGIC = 0x1950A86A20F9469CFC6C


class _FakeStorage:
    """Pickled as PyTorch's storage reference."""

    def __init__(self, key: str, values: np.ndarray, numel: int | None = None) -> None:
        self.key, self.values = key, values
        self.numel = values.size if numel is None else numel


class _FakeTensor:
    def __init__(self, storage: _FakeStorage, offset: int, shape: Any, stride: Any) -> None:
        self.args: tuple[Any, ...] = (
            storage,
            offset,
            shape,
            stride,
            False,
            collections.OrderedDict(),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _torch_global("torch._utils", "_rebuild_tensor_v2"), self.args


def _torch_global(module: str, name: str) -> Any:
    """A stand-in that pickles as the global `module.name` without PyTorch."""
    stand_in = type(name, (), {}) if name.endswith("Storage") else (lambda *_: None)
    stand_in.__module__, stand_in.__qualname__, stand_in.__name__ = module, name, name
    setattr(sys.modules[module], name, stand_in)
    return stand_in


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _FakeStorage):
            return None
        names = {"f4": "FloatStorage", "i8": "LongStorage", "f2": "HalfStorage"}
        kind = _torch_global("torch", names[obj.values.dtype.str[1:]])
        return ("storage", kind, obj.key, "cpu", obj.numel, None)


@pytest.fixture
def torch_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty modules named like PyTorch's, so that references to them can be pickled."""
    for name in ("torch", "torch._utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


def _write_legacy(path: Path, state: Any, storages: list[_FakeStorage]) -> Path:
    buffer = io.BytesIO()
    pickle.dump(MAGIC, buffer, protocol=2)
    pickle.dump(1001, buffer, protocol=2)
    pickle.dump({"protocol_version": 1001, "little_endian": True}, buffer, protocol=2)
    _Pickler(buffer, protocol=2).dump(state)
    pickle.dump([storage.key for storage in storages], buffer, protocol=2)
    for storage in storages:
        buffer.write(struct.pack("<q", storage.numel) + storage.values.tobytes())
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.usefixtures("torch_modules")
def test_strides_offsets_and_shared_storages_are_honoured(tmp_path: Path) -> None:
    values = np.arange(24, dtype="<f4")
    shared, count = _FakeStorage("a", values), _FakeStorage("b", np.array([7], "<i8"))
    state = collections.OrderedDict(
        plain=_FakeTensor(shared, 0, (4, 6), (6, 1)),
        transposed=_FakeTensor(shared, 0, (6, 4), (1, 6)),
        inner=_FakeTensor(shared, 7, (2, 3), (6, 1)),
        scalar=_FakeTensor(count, 0, (), ()),
    )
    arrays = torch_weights.read_state_dict(
        _write_legacy(tmp_path / "x.pth", state, [shared, count])
    )
    assert list(arrays) == list(state)
    np.testing.assert_array_equal(arrays["plain"], values.reshape(4, 6))
    np.testing.assert_array_equal(arrays["transposed"], values.reshape(4, 6).T)
    np.testing.assert_array_equal(arrays["inner"], values.reshape(4, 6)[1:3, 1:4])
    assert arrays["transposed"].flags.c_contiguous and arrays["plain"].dtype == np.float32
    assert arrays["scalar"].shape == () and arrays["scalar"] == 7


@pytest.mark.usefixtures("torch_modules")
def test_metadata_of_a_state_dict_is_ignored(tmp_path: Path) -> None:
    storage = _FakeStorage("a", np.ones(3, "<f2"))
    state = collections.OrderedDict(x=_FakeTensor(storage, 0, (3,), (1,)))
    state._metadata = collections.OrderedDict(version=1)  # type: ignore[attr-defined]
    arrays = torch_weights.read_state_dict(_write_legacy(tmp_path / "x.pth", state, [storage]))
    assert list(arrays) == ["x"] and arrays["x"].dtype == np.float16


@pytest.mark.usefixtures("torch_modules")
@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (5, 6), (6, 1)),
        (1, (24,), (1,)),
        (0, (2, 2), (23, 1)),
        (0, (1000, 1000), (0, 0)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2,), (1, 1)),
        (0, (2.0,), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, offset: int, shape: Any, stride: Any
) -> None:
    storage = _FakeStorage("a", np.arange(24, dtype="<f4"))
    state = collections.OrderedDict(x=_FakeTensor(storage, offset, shape, stride))
    path = _write_legacy(tmp_path / "x.pth", state, [storage])
    with pytest.raises(ValueError, match=r"model: .*x\.pth: expected a legacy"):
        torch_weights.read_state_dict(path)


@pytest.mark.usefixtures("torch_modules")
def test_a_lying_storage_length_is_refused_before_reading(tmp_path: Path) -> None:
    storage = _FakeStorage("a", np.arange(4, dtype="<f4"), numel=1 << 50)
    state = collections.OrderedDict(x=_FakeTensor(storage, 0, (4,), (1,)))
    path = _write_legacy(tmp_path / "x.pth", state, [storage])
    with pytest.raises(ValueError, match="past the end of the file"):
        torch_weights.read_state_dict(path)


class _Malicious:
    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


@pytest.mark.usefixtures("torch_modules")
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__])
def test_a_malicious_pickle_is_refused_before_it_runs(tmp_path: Path, function: Any) -> None:
    proof = tmp_path / "proof"
    state = {"x": _Malicious(function, f"__import__('pathlib').Path({str(proof)!r}).touch()")}
    with pytest.raises(ValueError, match="received the global"):
        torch_weights.read_state_dict(_write_legacy(tmp_path / "x.pth", state, []))
    leading = tmp_path / "y.pth"
    leading.write_bytes(pickle.dumps(_Malicious(function, f"touch {proof}"), protocol=2))
    with pytest.raises(ValueError, match="received the global"):
        torch_weights.read_state_dict(leading)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"hello", "damaged"),
        (pickle.dumps(12), "magic number"),
        (b"PK\x03\x04rest", "_use_new_zipfile_serialization=False"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        torch_weights.read_state_dict(path)


def test_every_truncation_of_a_real_file_is_refused(tmp_path: Path) -> None:
    content = Path(efficientnet_lite0.find_weights()).read_bytes()
    for length in (10, 1_000, 100_000, 1_000_000, len(content) - 1):
        path = tmp_path / "x.pth"
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="model: "):
            torch_weights.read_state_dict(path)


def test_the_installed_weights_have_the_known_tensors() -> None:
    arrays = torch_weights.read_state_dict(efficientnet_lite0.find_weights())
    assert len(arrays) == 296
    assert sum(array.size for array in arrays.values()) == 4_694_073
    assert arrays["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert arrays["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(array).all() for array in arrays.values())
    # Checked once against torch.load: the file's convolutions are stored transposed.
    assert arrays["_fc.weight"].strides == (1280 * 4, 4)
