"""The end of a command that Ctrl-C or SIGTERM interrupted."""

from __future__ import annotations

import sys


def interrupted(message: str) -> int:
    """Prints the message to stderr; the exit code of an interrupted command, 130.

    Where the interrupt fell into Python code that a C extension ran (TensorFlow's import does),
    CPython keeps a note of it and, started with `-m`, dies of SIGINT whatever the exit code. The
    note is dropped when the next piece of source text is run (`run_eval_code_obj` in CPython's
    pythonrun.c).
    """
    exec("")
    print(message, file=sys.stderr)
    return 130
