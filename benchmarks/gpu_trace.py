"""Where a call's operations ran, and what was copied: from TensorFlow's graphs and its profiler.

The graphs are those after placement, one for each device: a tensor that changes the device has a
`_Send` in one and a `_Recv` in the other.
"""

from __future__ import annotations

import collections
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.eager import context

from train.devices.tensorflow_private import parse_trace

_FLOATS = {types_pb2.DT_HALF, types_pb2.DT_BFLOAT16, types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE}
# They compute nothing: they hand on what others made.
_PLUMBING = {"Const", "Enter", "Exit", "Identity", "Merge", "NextIteration", "Switch"}
_PLUMBING |= {"_Arg", "_Recv", "_Retval", "_Send", "_SwitchN", "_HostSend", "_HostRecv"}
_SENDS = {"_Send", "_HostSend"}
# In the name of a node that came out of a loop's body.
_IN_LOOP = "/body/"


def partitions_of(call: Callable[[], None]) -> list[Any]:
    """The graphs that `call` runs, one for each device."""
    context.enable_run_metadata()  # no public API gives the graphs of a `tf.function`
    context.export_run_metadata()  # forgets what was run before
    try:
        call()
        found = context.export_run_metadata()
    finally:
        context.disable_run_metadata()
    return [part for graphs in found.function_graphs for part in graphs.partition_graphs]


def operations_of_loops(partitions: Iterable[Any]) -> list[Any]:
    """The nodes of loops' bodies.

    What is sent for its constant is left out: it only says that something is done.
    """
    found = []
    for partition in partitions:
        constants = {node.name for node in partition.node if node.op == "Const"}
        for node in partition.node:
            says = node.op in _SENDS and node.input[0].split(":")[0] in constants
            if _IN_LOOP in node.name and not says:
                found.append(node)
    return found


def find_misplaced(operations: Iterable[Any], device: str) -> list[str]:
    """What of a step is not on the device, or leaves it: arithmetic elsewhere, copies to the host.

    `device` is the end of its name, such as "GPU:0". Where there is another, the host is CPU:0.
    """
    found = []
    for node in operations:
        here, dtype = node.device.endswith(device), node.attr["T"].type
        name = f"{tf.dtypes.as_dtype(dtype).name if dtype else ''} {node.name}"
        if node.op in _SENDS:
            if here and node.attr["recv_device"].s.decode().endswith("CPU:0"):
                found.append(f"copied to the host: {name}")
        elif not here and node.op not in _PLUMBING and dtype in _FLOATS:
            found.append(f"computed on the host: {node.op} {name}")
    return found


def trace_of(call: Callable[[], None]) -> Any:
    """The profiler's XSpace of `call`."""
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        tf.profiler.experimental.start(folder)
        try:
            call()
        finally:
            tf.profiler.experimental.stop()
        (file,) = Path(folder).glob("plugins/profile/*/*.xplane.pb")
        return parse_trace(file.read_bytes())


def count_copies(space: Any) -> dict[str, int]:
    """What the GPUs of a trace did.

    Returns:
      {"kernels", "to_host", "to_device": how many; "to_host_bytes", "to_device_bytes"}.
    """
    found: dict[str, int] = collections.Counter()
    for plane in space.planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):  # the others say the same by module or step
                continue
            for event in line.events:
                _count_event(found, plane, event)
    names = ("kernels", "to_host", "to_device", "to_host_bytes", "to_device_bytes")
    return {name: found[name] for name in names}


def _count_event(found: dict[str, int], plane: Any, event: Any) -> None:
    name = plane.event_metadata[event.metadata_id].name.lower()
    if not name.startswith("mem"):
        found["kernels"] += 1
        return
    for ending, kind in (("d2h", "to_host"), ("h2d", "to_device")):
        if ending in name:
            texts = (
                stat.str_value or plane.stat_metadata[stat.ref_value].name for stat in event.stats
            )
            sizes = (re.search(r"\bsize:(\d+)", text) for text in texts)
            found[kind] += 1
            found[f"{kind}_bytes"] += max((int(size[1]) for size in sizes if size), default=0)
