"""Tables: comparisons as aligned text, and what must be said below them."""

from collections.abc import Sequence
from typing import Any

from benchmarks.measuring.comparison import (
    DURATION,
    FIRST_BATCH,
    NOISY_SPREAD,
    OURS,
    PAIRED,
    RATE,
    Against,
    Comparison,
)

TITLES = {
    "input": "Input",
    "peers": "Input, other libraries and limits",
    "engine": "Input engine",
    "limits": "Input, limits of the machine",
    "accelerators": "Input, emulated accelerators",
    "growth": "Input, growing sets",
    "train": "Training",
    "step": "The training step",
    "target": "Training to a target",
    "folds": "Cross-validation, all folds at once",
    "scaling": "Training, several devices and processes (a test of overhead, not of speed)",
    "own_model": "Training a model of the user's own",
    "build": "Building the sets",
    "choices": "What auto chooses (ours), and the other choices",
}
UNITS = {FIRST_BATCH: " ms", DURATION: " s"}
# More columns than these do not fit a terminal: the best other system stands for all.
_MOST_SYSTEMS = 5
_LEGEND = (
    "ratio: speed of ours / the best other one, median of the rounds (smallest - largest);",
    "       below 1 the other one is faster.",
    "time x 95 % interval of the time of ours / the other one's, in pairs; its lower end counts.",
    "% of   speed of ours as a share of a limit's.",
    f"~      noisy: repetitions differ by more than {NOISY_SPREAD:.0%}.",
)


def format_number(value: float) -> str:
    """Three significant digits, thousands apart."""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def set_name(comparison: Comparison) -> str:
    """`name/config`, without the version."""
    return "/".join(comparison.dataset.split("/")[:-1]) or comparison.dataset


def format_tables(comparisons: Sequence[Comparison]) -> str:
    """One table per suite, with a legend below; "" for no comparisons."""
    blocks = []
    for suite in dict.fromkeys(c.suite for c in comparisons):
        blocks.append(_format_suite([c for c in comparisons if c.suite == suite]))
    return "\n\n".join([*blocks, "\n".join(_LEGEND)]) if blocks else ""


def format_notes(comparisons: Sequence[Comparison], content: dict[str, Any]) -> list[str]:
    """Lines about the whole run: hardware, noise, what was skipped or failed, where a peer wins.

    `content` is the JSON object of the run.
    """
    environment = content["environment"]
    versions = environment["versions"]
    lines = [
        f"{environment['processor']}, {environment['processors']} processors, "
        f"{', '.join(environment['gpus']) or 'no GPU'}; TensorFlow {versions['tensorflow']}, "
        f"Keras {versions['keras']}, TFDS {versions['tensorflow-datasets']}, commit "
        f"{versions['commit']}"
    ]
    noisy = sum(c.noisy for c in comparisons)
    if noisy:
        lines.append(f"This run was noisy in {noisy} of {len(comparisons)} questions.")
    if environment["busy"]:
        lines.append(environment["busy"])
    if not content.get("complete", True):
        lines.append("The run did not come to its end: later parts are missing.")
    # Each sentence once, however many sets it was said of.
    lines += dict.fromkeys(f"skipped: {skip['what']}" for skip in content.get("skipped", ()))
    faster = [f"  {describe(c)}" for c in comparisons if c.peer_is_faster]
    if faster:
        lines += [f"Another system is faster than ours in {len(faster)} rows:", *faster]
    lines += [
        f"FAILED: {f['part']}, {f['dataset']}: {f['error']}" for f in content.get("failures", ())
    ]
    return lines


def describe(comparison: Comparison) -> str:
    """One row in words: set, question, verdict."""
    return f"{set_name(comparison)}, {comparison.title}: {verdict(comparison)}"


def verdict(comparison: Comparison) -> str:
    """Who is faster where that is not ours, or the share of a limit; "" elsewhere."""
    if comparison.against is Against.LIMIT:
        return f"{comparison.ratio:.1%} of {comparison.reference}"
    if not comparison.peer_is_faster:
        return ""
    # Ours was ahead in some round: the difference may be noise.
    also = comparison.ratios().max() >= 1
    noise = ", not in all rounds" if also else ""
    return f"{comparison.reference} is faster ({1 / comparison.ratio:.2f} x{noise})"


def goal_text(comparison: Comparison) -> str:
    """The goal and whether it was met; "" without one."""
    if comparison.goal is None:
        return ""
    least = "at most " if comparison.quantity == PAIRED else ""
    met = "met" if comparison.goal_met else "MISSED"
    return f"goal {least}{comparison.goal:.3g}: {met}"


def _format_suite(comparisons: Sequence[Comparison]) -> str:
    systems = list(dict.fromkeys(name for c in comparisons for name in c.samples))
    # All rows of a suite have the same columns: one question with many systems decides for all.
    compact = len(systems) > _MOST_SYSTEMS
    repetitions = max(len(s) for c in comparisons for s in c.samples.values())
    title = TITLES.get(comparisons[0].suite, comparisons[0].suite)
    heads = ["ours", "best other"] if compact else systems
    rows = [["set", "question", *heads, "ratio", ""]]
    previous = ""
    for comparison in comparisons:
        name = set_name(comparison)
        shown = [OURS, comparison.reference] if compact else systems
        values = [_value(comparison, n) if n in comparison.samples else "-" for n in shown]
        if compact:
            values[1] = f"{comparison.reference} {values[1]}"
        ending = [f"{comparison.ratio:.2f}", _reach(comparison)]
        rows.append([name if name != previous else "", comparison.title, *values, *ending])
        previous = name
    lines = [f"{title}: {RATE}, median of {repetitions}", *align(rows)]
    # A dict keeps the order and drops what several rows say alike.
    notes = dict.fromkeys(f"{c.title}: {c.note}" for c in comparisons if c.note)
    return "\n".join([*lines, *notes])


def _value(comparison: Comparison, system: str) -> str:
    value, unit = comparison.median(system), UNITS.get(comparison.quantity, "")
    return f"{value:,.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"


def _reach(comparison: Comparison) -> str:
    if comparison.quantity == PAIRED:
        low, high = comparison.time_interval()
        reach = f"time x {low:.3f} - {high:.3f} (95 %)"
    else:
        ratios = comparison.ratios()
        reach = f"({ratios.min():.2f} - {ratios.max():.2f})"
    reach += " ~" * comparison.noisy
    words = [goal_text(comparison), verdict(comparison)]
    return "  ".join([f"{reach:20}", *(w for w in words if w)]).rstrip()


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pads the cells of each column: the first two and the last to the left, others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < 2 or i == len(row) - 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
