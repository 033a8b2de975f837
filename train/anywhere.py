"""`records-to-models COMMAND ...`: the commands of this project, started from any folder.

    records-to-models train.run --dataset fetal_health/kaggle

As `python -m COMMAND ...`, but a `train.py` or `records` of the folder is not taken for ours.
"""

import os
import runpy
import sys

# By package: names alone, because nothing of a command is used here.
_MODULES = {
    "builders": "convert",
    "records": "describe diagnose service verify",
    "train": "baseline cross_validate evaluate export predict pretrain results run sweep",
    "benchmarks": "compare report run",
}
COMMANDS = tuple(f"{package}.{name}" for package in _MODULES for name in _MODULES[package].split())


def main() -> int:
    """Runs the command that the first argument names; returns the exit code, 2 without one."""
    name, *arguments = sys.argv[1:] or [""]
    if name not in COMMANDS:
        wanted = name in ("-h", "--help")
        print(
            f"usage: records-to-models COMMAND ...\n  COMMAND: {', '.join(COMMANDS)}",
            file=sys.stdout if wanted else sys.stderr,
        )
        return 0 if wanted else 2
    os.environ["PYTHONSAFEPATH"] = "1"  # for the processes that a command starts
    # Behind ours: a model of the user's own is found in this folder.
    sys.path.append(os.getcwd())
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
