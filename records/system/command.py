"""How every `python -m` command of the project ends: one line on stderr and an exit code."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable

from records.system.free_memory import free_memory, show_bytes
from records.system.quiet import import_tensorflow_quietly
from records.system.streams import steady_streams

_HOME = re.compile(r"^(--[\w-]+=|)~(?=/|$)")
_INTERRUPTED = 130  # what shells give a command that SIGINT ended: 128 + 2


def with_home(arguments: list[str] | None) -> list[str]:
    """Arguments with the home directory for "~", which a shell leaves in `--output=~/file`.

    None: those of the command line.
    """
    home, given = os.path.expanduser("~"), sys.argv[1:] if arguments is None else arguments
    return [_HOME.sub(lambda found: f"{found[1]}{home}", argument) for argument in given]


def run_as_command(
    work: Callable[[], int | None],
    *,
    errors: tuple[type[Exception], ...] = (ValueError, OSError),
    failure: int = 1,
    interrupted: str = "interrupted",
    tensorflow: bool = True,
) -> int:
    """Does a command's work and turns its end into an exit code.

    Args:
      work: everything after the flags are parsed; returns the exit code, None is 0.
      errors: what a user can mend, printed as "error: ...", as is a lack of memory. Others are
        faults of the program and keep their traceback.
      failure: the exit code after one of `errors`.
      interrupted: printed after Ctrl-C, unless the KeyboardInterrupt brings a text of its own.
      tensorflow: import it first, quietly.

    Returns:
      What `work` returned; `failure`; 130 after Ctrl-C. Printing never ends the work, see
      `records.system.streams`.
    """
    with steady_streams():
        try:
            if tensorflow:
                import_tensorflow_quietly()
            return work() or 0
        except Exception as error:
            if (wanted := _wanted_memory(error)) is not None:
                print(
                    f"error: memory: expected room for {wanted}, received "
                    f"{show_bytes(free_memory())} that are free. Choose smaller sizes (of batches, "
                    "layers or pictures), or free memory",
                    file=sys.stderr,
                )
                return failure
            if not isinstance(error, errors):
                raise
            print(f"error: {error}", file=sys.stderr)
            return failure
        except KeyboardInterrupt as error:
            # Where the interrupt fell into Python code that a C extension ran (TensorFlow's import
            # does), CPython keeps a note of it and, started with `-m`, dies of SIGINT whatever the
            # exit code. Running any piece of source text drops the note (`run_eval_code_obj` in
            # CPython's pythonrun.c).
            exec("")
            print(str(error) or interrupted, file=sys.stderr)
            return _INTERRUPTED


def _wanted_memory(error: Exception) -> str | None:
    """What there was no memory for; None of another error."""
    # Where TensorFlow was not imported, the error is none of its.
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(error, tensorflow.errors.ResourceExhaustedError):
        found = re.search(r"shape ?\[([\d,]*)\] and type (\w+)", error.message)
        if found is None:
            return "what TensorFlow asked for"
        shape, kind = [int(n) for n in found[1].split(",") if n], found[2]
        size = math.prod(shape) * tensorflow.as_dtype({"float": "float32"}.get(kind, kind)).size
        return f"a tensor {shape} of {show_bytes(size)}"
    if isinstance(error, MemoryError):
        # NumPy says "Unable to allocate 7.45 GiB for an array with shape ...".
        said = re.search(r"allocate (.*)", str(error))
        return said[1] if said else "more"
    return None
