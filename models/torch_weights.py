"""Reader of legacy PyTorch weight files (`.pth` before version 1.6) without PyTorch.

Such a file is a pickle, and a pickle is a program. This reader lets it build dicts of tensors and
nothing else: every other global is refused before anything of it runs.

Layout: three pickles (magic number, protocol version, system information), the pickled state
dict with references to storages, the pickled list of storage keys, then per key, in that order,
the element count (little-endian int64) and the raw elements.
"""

import dataclasses
import math
import os
import pickle
import pickletools
import reprlib
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_PICKLE_PROTOCOL = 2  # what PyTorch wrote with
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}

# What unpickling and slicing a damaged file may raise.
_DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)


class _Refused(Exception):
    """The file asks for something a dict of tensors does not need."""


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    numel: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _StateDict(dict):
    """What OrderedDict becomes; PyTorch hangs a `_metadata` attribute on it."""


# The two callables a pickle may reach are instances without attributes, not functions or
# classes: the pickle's BUILD instruction could set attributes on those.
class _MakeDict:
    __slots__ = ()

    def __call__(self, *items: Any) -> _StateDict:
        return _StateDict(*items)


class _MakeTensor:
    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise _Refused("a tensor without a storage")
        shape, stride = tuple(shape), tuple(stride)
        numbers = (offset, *shape, *stride)
        if len(shape) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
            raise _Refused(f"a tensor of {reprlib.repr((shape, stride, offset))}")
        return _Tensor(storage, offset, shape, stride)


class _TensorUnpickler(pickle.Unpickler):
    """Unpickler that knows three kinds of global and the storage references."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _MakeDict()
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _MakeTensor()
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise _Refused(f"the global {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) == 6 and pid[0] == "storage"):
            raise _Refused(f"the reference {reprlib.repr(pid)}")
        _, dtype, key, _, numel, view = pid
        if dtype not in _DTYPES.values() or type(key) is not str or view is not None:
            raise _Refused(f"the storage {reprlib.repr(pid)}")
        if type(numel) is not int or numel < 0:
            raise _Refused(f"a storage of {reprlib.repr(numel)} elements")
        return _Storage(key, dtype, numel)


def _unpickle(file: BinaryIO) -> Any:
    start = file.tell()
    # Read as text first: the unpickler makes a table as long as the largest number under which an
    # object is to be remembered, and buffers as large as a frame claims to be.
    for count, (code, argument, _) in enumerate(pickletools.genops(file)):
        if code.proto > _PICKLE_PROTOCOL or ("PUT" in code.name and int(argument or 0) > count):
            raise _Refused(f"the instruction {code.name} {reprlib.repr(argument)}")
    file.seek(start)
    return _TensorUnpickler(file).load()


def _read_header(file: BinaryIO) -> None:
    """Checks the three leading pickles."""
    if file.peek(4)[:4] == b"PK\x03\x04":  # type: ignore[attr-defined]
        raise _Refused(
            "the zip format of PyTorch 1.6 and later; save it again with "
            "torch.save(..., _use_new_zipfile_serialization=False)"
        )
    if _unpickle(file) != _MAGIC or _unpickle(file) != _PROTOCOL:
        raise _Refused("another magic number or protocol version")
    system = _unpickle(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _Refused("numbers that are not little-endian")


def _read_storages(
    file: BinaryIO, expected: dict[str, _Storage], file_bytes: int
) -> dict[str, np.ndarray]:
    """Reads the raw elements, each storage exactly as long as its references said."""
    keys = _unpickle(file)
    if not isinstance(keys, list) or not all(type(key) is str for key in keys):
        raise _Refused("a list of storage keys that is not a list of strings")
    if sorted(keys) != sorted(expected):
        raise _Refused("storage keys that differ from those the tensors name")
    storages = {}
    for key in keys:
        dtype, numel = np.dtype(expected[key].dtype), expected[key].numel
        if int.from_bytes(file.read(8), "little", signed=True) != numel:
            raise _Refused(f"storage {key} of another length than its tensors name ({numel})")
        # Asked before reading: a lying count must not become an allocation.
        if numel * dtype.itemsize > file_bytes - file.tell():
            raise _Refused(f"storage {key} of {numel} elements, past the end of the file")
        storages[key] = np.frombuffer(file.read(numel * dtype.itemsize), dtype)
    return storages


def _build_array(name: str, tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    """Copies one tensor out of its storage, honouring offset and strides."""
    numel = math.prod(tensor.shape)
    if numel == 0:
        return np.zeros(tensor.shape, storage.dtype)
    # Checked before `as_strided`, which itself reads wherever it is told to.
    last = tensor.offset + sum(
        (size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True)
    )
    # numel: a stride of 0 could blow one element up to any size.
    if last >= storage.size or numel > storage.size or len(tensor.shape) > 16:
        raise _Refused(
            f"tensor {name} of shape {tensor.shape}, stride {tensor.stride}, offset "
            f"{tensor.offset} in a storage of {storage.size} elements"
        )
    view = np.lib.stride_tricks.as_strided(
        storage[tensor.offset :],
        tensor.shape,
        [step * storage.itemsize for step in tensor.stride],
        writeable=False,
    )
    return view.copy(order="C")


def _read(file: BinaryIO, file_bytes: int) -> dict[str, np.ndarray]:
    _read_header(file)
    state = _unpickle(file)
    if not isinstance(state, dict):
        raise _Refused(f"a {type(state).__name__} in place of a dict")
    expected: dict[str, _Storage] = {}
    for name, tensor in state.items():
        if type(name) is not str or not isinstance(tensor, _Tensor):
            raise _Refused(f"an entry {reprlib.repr(name)} that is no tensor")
        # Tensors may be views of one storage; they must agree on what it is.
        if expected.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise _Refused(f"storage {tensor.storage.key} with two types or lengths")
    storages = _read_storages(file, expected, file_bytes)
    return {
        name: _build_array(name, tensor, storages[tensor.storage.key])
        for name, tensor in state.items()
    }


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a state dict saved by `torch.save` in the legacy format: arrays by name, in file order.

    Raises:
        ValueError: the file is damaged, in another format, or asks for anything but tensors.
    """
    with open(path, "rb") as file:
        try:
            return _read(file, os.fstat(file.fileno()).st_size)
        except _Refused as error:
            detail = str(error)
        except _DAMAGE as error:
            detail = f"a damaged file ({type(error).__name__})"
    raise ValueError(
        f"model: {os.fspath(path)}: expected a legacy PyTorch state dict (tensors "
        f"only), received {detail}"
    )
