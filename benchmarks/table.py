"""Tables: comparisons as aligned text."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.timing import DURATION, FIRST_BATCH, NOISY_SPREAD, PAIRED, RATE, Comparison

_TITLES = {
    "input": "Input",
    "engine": "Input engine",
    "peers": "Input, other libraries and limits",
    "train": "Training",
    "step": "The training step",
    "choices": "What auto chooses (ours), and the other choices",
}
_LEGEND = (
    "ratio: speed of ours / the best other one, median of the rounds (smallest - largest);",
    "       below 1 the other one is faster.",
    "time x 95 % interval of the time of ours / the other one's, in pairs; its lower end counts.",
    f"~      noisy: repetitions differ by more than {NOISY_SPREAD:.0%}.",
)


def format_tables(comparisons: Sequence[Comparison]) -> str:
    """One table per suite, with a legend below; "" for no comparisons."""
    blocks = []
    for suite in dict.fromkeys(c.suite for c in comparisons):
        blocks.append(_format_suite([c for c in comparisons if c.suite == suite]))
    return "\n\n".join([*blocks, "\n".join(_LEGEND)]) if blocks else ""


def _format_suite(comparisons: Sequence[Comparison]) -> str:
    systems = list(dict.fromkeys(name for c in comparisons for name in c.samples))
    repetitions = max(len(s) for c in comparisons for s in c.samples.values())
    title = _TITLES.get(comparisons[0].suite, comparisons[0].suite)
    rows = [["set", "question", *systems, "ratio", ""]]
    previous = ""
    for comparison in comparisons:
        name = "/".join(comparison.dataset.split("/")[:-1]) or comparison.dataset
        rows.append([name if name != previous else "", *_cells(comparison, systems)])
        previous = name
    lines = [f"{title}: {RATE}, median of {repetitions}", *align(rows)]
    notes = dict.fromkeys(f"{c.question}: {c.note}" for c in comparisons if c.note)
    return "\n".join([*lines, *notes])


def _cells(comparison: Comparison, systems: Sequence[str]) -> list[str]:
    unit = {FIRST_BATCH: " ms", DURATION: " s"}.get(comparison.quantity, "")
    values = []
    for name in systems:
        known = name in comparison.samples
        digits = 1 if comparison.quantity == DURATION else 0
        values.append(f"{comparison.median(name):,.{digits}f}{unit}" if known else "-")
    if comparison.quantity == PAIRED:
        low, high = comparison.time_interval()
        reach = f"time x {low:.3f} - {high:.3f} (95 %)"
    else:
        ratios = comparison.ratios()
        reach = f"({ratios.min():.2f} - {ratios.max():.2f})"
    reach += " ~" * comparison.noisy
    if comparison.goal is not None:
        least = "at most " if comparison.quantity == PAIRED else ""
        met = "met" if comparison.goal_met else "MISSED"
        reach = f"{reach:20}  goal {least}{comparison.goal:g}: {met}"
    return [comparison.question, *values, f"{comparison.ratio:.2f}", reach]


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
