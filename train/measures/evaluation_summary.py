"""What `evaluation.json` holds, as lines for a terminal."""

import shlex
from pathlib import Path
from typing import Any

from records.sets.target import SINGLE_LABEL


def print_summary(found: dict[str, Any], folder: Path, measured: str) -> None:
    """Prints every metric with its interval, by class too, and where the files are.

    `measured` is what was measured on, such as "split test".
    """
    made = found["bootstrap"]
    print(
        f"{found['examples']:,} examples of {measured}; {made['percent']:g} % "
        f"intervals by percentiles of {made['resamples']} resamples of {made['units']:,} "
        f"{made['drawn']}, seed {made['seed']}"
    )
    for name, value in found["metrics"].items():
        limits = found["intervals"][name]
        if not isinstance(value, dict):
            print(f"  {name.replace('_', ' '):18} {_figure(value)}  {_range(limits)}")
    # Figures by class are objects in the file; those of all classes together are numbers.
    names = [k for k, v in found["metrics"].items() if isinstance(v, dict)]
    width = max(map(len, found["metrics"][names[0]]))
    print(f"  {'':{width}}" + "".join(f"  {name:24}" for name in names))
    for c in found["metrics"][names[0]]:
        cells = [
            f"  {_figure(found['metrics'][n][c])} {_range(found['intervals'][n][c])}" for n in names
        ]
        print(f"  {c:{width}}" + "".join(cells))
    if "decision" in found:
        _print_decision(found["decision"])
    single = found.get("task", SINGLE_LABEL) == SINGLE_LABEL
    pictures = "confusion_matrix.png, calibration.png, " * single
    print(f"more: {folder}/evaluation.json, {pictures}worst_errors.csv")


def _print_decision(decision: dict[str, Any]) -> None:
    name = decision["least_recall"].rpartition("=")[0]
    flag = shlex.join(["--threshold", f"{name}={decision['threshold']}"])
    print(
        f"  {name} from a probability of {decision['threshold']:.4f} on, chosen on validation for "
        f"{decision['least_recall']}; to give to train.predict as {flag}"
    )
    for how in ("without", "with"):
        cells = [f"{k.replace('_', ' ')} {_figure(v)}" for k, v in decision[how].items()]
        print(f"  {how:8} threshold: {', '.join(cells)}")


def _figure(value: float | None) -> str:
    if value is None:
        return f"{'-':>6}"
    # Numbers may be of any size; shares have four digits behind the point.
    return f"{value:6.4f}" if abs(value) < 100 else f"{value:6.6g}"


def _range(limits: list[float | None]) -> str:
    return f"[{_figure(limits[0])}, {_figure(limits[1])}]"
