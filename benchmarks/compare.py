"""Two runs beside each other: what became slower, beyond noise?

    python -m benchmarks.compare OLD NEW

Each question that both runs asked is answered twice: by the ratio to another system that both
measured, which cancels the speed of the machine, and, on the same hardware, by the speed itself.
Exit code: 0 without a regression, 1 with one, 2 where the files cannot be compared.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import special

from benchmarks.measuring.comparison import DURATION, FIRST_BATCH, OURS, Comparison
from benchmarks.measuring.result_file import Result, ResultError, read_result
from benchmarks.reports.table import align, set_name
from records.system.command import run_as_command, with_home

Key = tuple[str, str, str, str]
# Of all intervals of a comparison together. One whole run in 200 without any change would fail
# by noise alone, as a regression is at one end of the interval only; the tolerance makes it less.
_CONFIDENCE = 0.99
_TOLERANCE_PERCENT = 5.0


@dataclasses.dataclass(frozen=True)
class Change:
    """How a question's answer changed, new over old: above 1 this system became faster."""

    # old and new: the two answers.
    old: Comparison
    new: Comparison
    reference: str  # the system that both ratios are taken to
    # ratio and ratio_interval: of the ratio to it.
    ratio: float
    ratio_interval: tuple[float, float]
    # speed and speed_interval: of this system's speed alone.
    speed: float
    speed_interval: tuple[float, float]
    # False where the ratio does not cancel the machine's speed, and the machines differ.
    judged: bool = True

    def is_regression(self, tolerance: float) -> bool:
        """The whole interval of the ratio lies below 1 - tolerance."""
        return self.judged and self.ratio_interval[1] < 1 - tolerance

    def is_gain(self, tolerance: float) -> bool:
        """The whole interval of the ratio lies above 1 + tolerance."""
        return self.judged and self.ratio_interval[0] > 1 + tolerance


@dataclasses.dataclass(frozen=True)
class Changes:
    """Everything about two runs."""

    changes: list[Change]  # of the questions in both
    without_reference: list[Key]  # questions in both, but with no other system in both
    # only_old and only_new: questions of one run.
    only_old: list[Key]
    only_new: list[Key]
    same_hardware: bool  # whether the speeds alone say something


def compare(old: Result, new: Result) -> Changes:
    """Compares two runs question by question.

    Raises:
      ResultError: they have no question in common, or one holds a question twice.
    """
    before, after = _by_key(old), _by_key(new)
    common = [key for key in after if key in before]
    if not common:
        raise ResultError(
            f"benchmark: {old.file} and {new.file} expected questions in common (suite, "
            f"set, question), received {len(before)} and {len(after)} without one"
        )
    same = old.hardware == new.hardware
    pairs = [
        (before[key], after[key], _common_reference(before[key], after[key])) for key in common
    ]
    known = [(a, b, name) for a, b, name in pairs if name is not None]
    # Bonferroni: every interval is so wide that all of them hold at once.
    confidence = 1 - (1 - _CONFIDENCE) / max(1, len(known))
    return Changes(
        changes=[_change(a, b, name, confidence, same) for a, b, name in known],
        without_reference=[k for k, pair in zip(common, pairs, strict=True) if pair[2] is None],
        only_old=[key for key in before if key not in after],
        only_new=[key for key in after if key not in before],
        same_hardware=same,
    )


def ratio_interval(
    old: np.ndarray, new: np.ndarray, confidence: float
) -> tuple[float, tuple[float, float]]:
    """new / old of the geometric means, and its interval by Welch's t on the logarithms.

    Both are float64, above 0; their numbers may differ. One on a side says nothing: (0, inf).
    """
    # Logarithms: half and twice as fast are equally far from 1.
    a, b = np.log(old), np.log(new)
    change = float(b.mean() - a.mean())
    if min(len(a), len(b)) < 2:
        return math.exp(change), (0.0, math.inf)
    errors = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    total = errors.sum()
    # Times that follow from a definition have no spread.
    if total == 0:
        return math.exp(change), (math.exp(change), math.exp(change))
    # Welch-Satterthwaite: one of the two runs may have been noisier than the other.
    freedom = total**2 / (errors**2 / (len(a) - 1, len(b) - 1)).sum()
    # What `stats.t.ppf` computes, without 0.1 ms of checks a question.
    reach = float(special.stdtrit(freedom, (1 + confidence) / 2) * np.sqrt(total))
    return math.exp(change), (_exp(change - reach), _exp(change + reach))


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf  # a wild spread of few repetitions


def _by_key(result: Result) -> dict[Key, Comparison]:
    found: dict[Key, Comparison] = {}
    for one in result.comparisons:
        key = (one.suite, one.dataset, one.title, one.quantity)
        if key in found:
            raise ResultError(f"benchmark: {result.file} holds twice: {_name(key)}")
        found[key] = one
    return found


def _common_reference(old: Comparison, new: Comparison) -> str | None:
    """The best other system of the new run, of the old one, or any that both measured."""
    both = [name for name in new.samples if name in old.samples and name != OURS]
    return next((n for n in (new.reference, old.reference, *both) if n in both), None)


def _change(
    old: Comparison, new: Comparison, reference: str, confidence: float, same: bool
) -> Change:
    ratio, reach = ratio_interval(old.ratios(reference), new.ratios(reference), confidence)
    speed, span = ratio_interval(_speeds(old), _speeds(new), confidence)
    judged = same or not (old.is_fixed or new.is_fixed)
    return Change(old, new, reference, ratio, reach, speed, span, judged)


def _speeds(comparison: Comparison) -> np.ndarray:
    values = comparison.values(OURS)
    return 1 / values if comparison.quantity in (FIRST_BATCH, DURATION) else values


def _name(key: Key) -> str:
    suite, dataset, question, quantity = key
    return f"{suite}: {dataset}: {question} ({quantity})"


def format_changes(found: Changes, tolerance: float) -> str:
    """A table and what has to be said beside it."""
    rows = [["suite, set", "question", "against", "ratio old", "ratio new", "new / old", ""]]
    rows[0].insert(-1, "speed new / old" if found.same_hardware else "")
    for one in found.changes:
        where = f"{one.new.suite}, {set_name(one.new)}"
        ratios = [f"{np.median(c.ratios(one.reference)):.2f}" for c in (one.old, one.new)]
        speed = _span(one.speed, one.speed_interval) if found.same_hardware else ""
        word = "REGRESSION" if one.is_regression(tolerance) else ""
        word = word or ("faster" if one.is_gain(tolerance) else "")
        word = word or ("" if one.judged else "not judged: other hardware")
        cells = [where, one.new.title, one.reference, *ratios]
        rows.append([*cells, _span(one.ratio, one.ratio_interval), speed, word])
    lines = align(rows)
    lines += [
        f"new / old: ratio of ours to the other system, and its interval; all {len(found.changes)} "
        f"hold at once with {_CONFIDENCE:.0%}. Above 1 ours became faster.",
    ]
    if not found.same_hardware:
        lines.append("The hardware differs: speeds alone are not compared.")
    for title, keys in (
        ("without a system that both runs measured", found.without_reference),
        ("only in OLD", found.only_old),
        ("only in NEW", found.only_new),
    ):
        lines += [f"{title}: {_name(key)}" for key in keys]
    slower = sum(one.is_regression(tolerance) for one in found.changes)
    verdict = f"{slower} regressions" if slower else "No regression"
    lines.append(f"{verdict} of more than {tolerance:.0%} in {len(found.changes)} questions.")
    return "\n".join(lines)


def _span(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} ({interval[0]:.2f} - {interval[1]:.2f})"


def _cautions(old: Result, new: Result) -> list[str]:
    """What makes the two runs less comparable than they look."""
    lines = []
    for name, result in (("OLD", old), ("NEW", new)):
        if not result.complete:
            lines.append(f"{name} did not come to its end: later parts are missing.")
        for failure in result.content.get("failures", ()):
            lines.append(f"{name}: failed: {failure['part']}, {failure['dataset']}")
    if old.content.get("effort") != new.content.get("effort"):
        lines.append("The two runs were made with different effort: sizes or durations may differ.")
    return lines


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Shows what changed between two results of benchmarks.run, with intervals "
        "that hold for all questions at once. Exit code 1: something became slower beyond noise; "
        "2: the files cannot be compared.",
        allow_abbrev=False,
    )
    parser.add_argument("old", metavar="OLD", type=Path, help="JSON file of the earlier run")
    parser.add_argument("new", metavar="NEW", type=Path, help="JSON file of the later run")
    parser.add_argument(
        "--tolerance",
        metavar="PERCENT",
        type=float,
        default=_TOLERANCE_PERCENT,
        help="a ratio may become smaller by as much, in percent (default: %(default)g)",
    )
    found = parser.parse_args(with_home(arguments))
    if not 0 <= found.tolerance < 100:
        parser.error(f"--tolerance expected 0 or more and below 100, received {found.tolerance:g}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares, prints, and returns the exit code."""
    options = parse_arguments(list(sys.argv[1:] if arguments is None else arguments))
    # 1 is a regression.
    return run_as_command(
        lambda: _compare(options), errors=(ResultError,), failure=2, tensorflow=False
    )


def _compare(options: argparse.Namespace) -> int:
    old, new = read_result(options.old), read_result(options.new)
    found = compare(old, new)
    tolerance = options.tolerance / 100
    print("\n".join([format_changes(found, tolerance), *_cautions(old, new)]))
    return int(any(one.is_regression(tolerance) for one in found.changes))


if __name__ == "__main__":
    sys.exit(main())
