"""How every `python -m` command of the project ends: one line on stderr and an exit code."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

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
      errors: what a user can mend, printed as "error: ...". Others are faults of the program and
        keep their traceback.
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
