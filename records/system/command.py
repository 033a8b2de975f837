"""How every `python -m` command of the project ends: one line on stderr and an exit code."""

import contextlib
import io
import itertools
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from records.system.quiet import import_tensorflow_quietly

_HOME = re.compile(r"^(--[\w-]+=|)~(?=/|$)")
_PLACE = re.compile(r"(--[\w-]*(?:dir|output|repair))(=?)")
_STREAMS = {1: "stdout", 2: "stderr"}  # by their file descriptors
_INTERRUPTED = 130  # what shells give a command that SIGINT ended: 128 + 2


def with_home(arguments: list[str] | None) -> list[str]:
    """Arguments with the home directory for "~", which a shell leaves in `--output=~/file`.

    None: those of the command line. Exits with 2 where the path of a flag is empty: else the
    default would take the place of an unset variable.
    """
    home, given = os.path.expanduser("~"), sys.argv[1:] if arguments is None else arguments
    for flag, value in itertools.pairwise([*given, None]):
        found = _PLACE.fullmatch(flag or "")
        if found and (found[2] or value == ""):
            said = f"error: {found[1]} expected a path, received an empty text"
            print(f"{said}. Where it comes from a variable, set that", file=sys.stderr)
            raise SystemExit(2)
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
      What `work` returned; `failure`; 130 after Ctrl-C. Printing never ends the work.
    """
    with _steady_streams():
        try:
            if tensorflow:
                import_tensorflow_quietly()
            return work() or 0
        except (Exception, KeyboardInterrupt) as error:
            if (interrupt := _interrupt(error)) is not None:
                # Where the interrupt fell into Python code that a C extension ran (TensorFlow's
                # import does), CPython keeps a note of it and, started with `-m`, dies of SIGINT
                # whatever the exit code. Running any piece of source text drops the note
                # (`run_eval_code_obj` in CPython's pythonrun.c).
                exec("")
                print(str(interrupt) or interrupted, file=sys.stderr)
                return _INTERRUPTED
            if (wanted := _wanted_memory(error)) is not None:
                print(f"error: {_describe_memory(wanted)}", file=sys.stderr)
                return failure
            if not isinstance(error, errors):
                raise
            print(f"error: {error}", file=sys.stderr)
            return failure


def _interrupt(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that an error is or comes from: a C extension that is imported ends its own
    initialisation with an ImportError "from" it.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error


def _wanted_memory(error: BaseException) -> str | None:
    """What there was no memory for; None of another error."""
    # Where TensorFlow was not imported, the error is none of its.
    tensorflow = sys.modules.get("tensorflow")
    kind = getattr(getattr(tensorflow, "errors", None), "ResourceExhaustedError", ())
    if tensorflow is not None and isinstance(error, kind):
        # A full disk is the same class, and another matter.
        found = re.search(r"shape ?\[([\d,]*)\] and type (\w+)", error.message)
        if found is None:
            return "what TensorFlow asked for" if "memory" in error.message else None
        shape, dtype = [int(n) for n in found[1].split(",") if n], found[2]
        from records.system.memory import show_bytes  # TensorFlow is there already

        size = math.prod(shape) * tensorflow.as_dtype({"float": "float32"}.get(dtype, dtype)).size
        return f"a tensor {shape} of {show_bytes(size)}"
    if isinstance(error, MemoryError):
        # NumPy says "Unable to allocate 7.45 GiB for an array with shape ...".
        said = re.search(r"allocate (.*)", str(error))
        return said[1] if said else "more"
    return None


def _describe_memory(wanted: str) -> str:
    from records.system.memory import free_memory, show_bytes  # it imports TensorFlow

    return (
        f"memory: expected room for {wanted}, received {show_bytes(free_memory())} that are free. "
        "Choose smaller sizes (of batches, layers or pictures), or free memory"
    )


class _Steady:
    """A text stream whose writes do not fail: after an error what is written goes nowhere."""

    def __init__(self, stream: Any, descriptor: int):
        self._stream, self._descriptor = stream, descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """The number of characters, written or not."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Writes what is held."""
        self._try(self._stream.flush)

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._descriptor)
            os.close(nowhere)
            self._stream.flush()  # what it still holds would fail again
            # A reader that goes away (`| head`) has seen what it wanted.
            if not isinstance(error, BrokenPipeError):
                name, other = _STREAMS[self._descriptor], _STREAMS[3 - self._descriptor]
                print(
                    f"{name} expected a place to print to, received: {error.strerror}. No more is "
                    "printed there; the work goes on",
                    file=getattr(sys, other),
                    flush=True,
                )


@contextlib.contextmanager
def _steady_streams() -> Iterator[None]:
    """Within it printing raises no error, to a closed or full place as little as in ASCII."""
    _open_closed_descriptors()
    kept = sys.stdout, sys.stderr
    for descriptor, name in _STREAMS.items():
        # Lives as long as the process.
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper) and _has(stream, descriptor):
            stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, _Steady(stream, descriptor))
        else:  # one that a test or a notebook has put there
            setattr(sys, name, stream)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = kept


def _has(stream: io.TextIOWrapper, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except OSError:  # of a stream in memory
        return False


def _open_closed_descriptors() -> None:
    """Gives `2>&-` and the like somewhere to write: else the next file would be number 2."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
