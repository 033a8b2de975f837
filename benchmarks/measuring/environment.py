"""Where a run was measured: hardware, versions, and whether other work disturbed it."""

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from records.system.threads import num_threads

# Load above this share of the processors before the start: someone else is computing.
_BUSY_SHARE = 0.5


def busy_note() -> str:
    """A sentence if other work already runs on this machine, else ""."""
    load, processors = os.getloadavg()[0], num_threads()
    if load <= _BUSY_SHARE * processors:
        return ""
    return (
        f"The machine was busy before the start (load {load:.1f} on {processors} processors): "
        "trust the ratios, not the rates."
    )


def describe_environment() -> dict[str, Any]:
    """Hardware, versions and commit, JSON-ready."""
    import psutil
    import tensorflow as tf  # not at module top: the arithmetic above needs none of it

    from train.engine.versions import versions

    # Physical ones: logical devices would start TensorFlow's runtime, which a part may want to set
    # up.
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(g).get("device_name") for g in gpus]
    return {
        "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor_name(),
        "processors": num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": names,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(),
        "load_average": list(os.getloadavg()),
        "busy": busy_note(),
    }


def _processor_name() -> str:
    description = Path("/proc/cpuinfo")  # Linux alone has it
    if description.exists():
        lines: Sequence[str] = description.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()
