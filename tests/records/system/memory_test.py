"""Memory is used again only when nobody holds it any more."""

import gc

import numpy as np
import tensorflow as tf

from records.system.memory import ALIGNMENT, empty_inputs, recycled_inputs, share

SHAPE = (64, 61, 67, 1)  # a size that no other test uses


def _address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_a_batch_takes_the_memory_of_one_that_is_gone() -> None:
    first = recycled_inputs(SHAPE, np.uint8)
    where = _address(first)
    assert where % ALIGNMENT == 0 and first.flags.writeable and first.flags.c_contiguous
    assert _address(recycled_inputs(SHAPE, np.uint8)) != where, "the first one is still held"
    del first
    held = [recycled_inputs(SHAPE, np.uint8) for _ in range(2)]
    assert where in [_address(a) for a in held]
    assert len({_address(a) for a in held}) == 2


def test_views_and_tensors_hold_the_memory() -> None:
    array = recycled_inputs(SHAPE, np.uint8)
    array[:] = 7
    row, tensor = array[3:5, 1:].reshape(2, -1), share(array)
    del array
    others = [recycled_inputs(SHAPE, np.uint8) for _ in range(12)]
    for other in others:
        other[:] = 0
    assert (row == 7).all()
    del row
    gc.collect()
    others += [recycled_inputs(SHAPE, np.uint8) for _ in range(4)]
    for other in others:
        other[:] = 0
    assert (tensor.numpy() == 7).all(), "a tensor that shares the memory holds it"
    assert tf.reduce_all(tf.identity(tensor) == 7)


def test_small_arrays_and_other_types() -> None:
    for make in (empty_inputs, recycled_inputs):
        array = make((3, 5), np.int32)
        assert array.shape == (3, 5) and array.dtype == np.int32
        assert _address(array) % ALIGNMENT == 0
