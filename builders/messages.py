"""Errors of a build as one message, where the `tfds` command would print a page of traceback."""

import sys
import traceback
from pathlib import Path
from types import TracebackType

_ROOT = Path(__file__).resolve().parents[1]
_OURS = {_ROOT / "builders", _ROOT / "records"}


def shorten_tracebacks() -> None:
    """In the `tfds` command, prints only the message of what a builder of this project refuses.

    Anything else keeps its traceback: it may be a defect.
    """
    if Path(sys.argv[0]).name != "tfds":
        return
    previous = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        frames = traceback.extract_tb(trace)
        # Raised by a line of ours, not by a library that we called.
        ours = bool(frames) and bool(_OURS & {*Path(frames[-1].filename).resolve().parents})
        if ours and issubclass(kind, (ValueError, OSError, RuntimeError)):
            print(f"error: {error}", file=sys.stderr)
        else:
            previous(kind, error, trace)

    sys.excepthook = show
