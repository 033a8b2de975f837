"""The README's tables of results: one row per question, made from a committed file.

They stand between `<!-- benchmarks: FILE -->` and `<!-- end -->`; FILE is relative to the README.
"""

from __future__ import annotations

import dataclasses
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring.result_file import Result, write_text
from benchmarks.measuring.timing import LIMIT, OURS, PAIRED, Comparison
from benchmarks.reports.table import TITLES, UNITS, format_number, set_name

_SECTION = re.compile(r"<!-- benchmarks: (?P<file>\S+) -->\n.*?<!-- end -->", re.DOTALL)
# Longer tables are folded: a reader sees the line that sums them up, and opens what he needs.
_MOST_ROWS = 12
_LIBRARIES = "peers"
_HEAD = ("set", "question", "ours", "best other", "ratio", "of the limit", "goal")


@dataclasses.dataclass(frozen=True)
class Row:
    """A question, and everything that the same work of ours was compared with.

    Attributes:
      question: without the other system's name.
      answers: the comparisons, at least one.
    """

    question: str
    answers: list[Comparison]

    @property
    def best(self) -> Comparison | None:
        """The one with the lowest ratio, limits left out; None where there are only limits."""
        others = [c for c in self.answers if c.kind != LIMIT]
        return min(others, key=lambda c: c.ratio) if others else None


def group(comparisons: Sequence[Comparison]) -> list[Row]:
    """One row per set, question and unit, in the order of the comparisons."""
    found: dict[tuple[str, str, str], list[Comparison]] = {}
    for one in comparisons:
        ending = f": {one.label(one.reference)}"
        question = one.question.removesuffix(ending)
        found.setdefault((one.dataset, question, one.quantity), []).append(one)
    return [Row(question, answers) for (_, question, _), answers in found.items()]


def format_section(result: Result, name: str) -> str:
    """The markers and what stands between them.

    Args:
      result: the run.
      name: how the marker names its file.
    """
    environment = result.environment
    gpus = ", ".join(environment["gpus"]) or "no GPU"
    rounds = result.content["effort"]["repetitions"]
    intro = (
        f"{environment['processor']}, {environment['processors']} processors, {gpus}, "
        f"{environment['utc'][:10]}, commit {environment['versions']['commit']}: medians of "
        f"{rounds} rounds, in examples/s unless a unit is named. *Ratio*: speed of ours over the "
        "best other system, median of the rounds; bold where the other one is faster. *Of the "
        "limit*: share of what could be reached at most. `~`: noisy."
    )
    if not result.content.get("complete", True):
        intro += " The run did not come to its end: later parts are missing."
    lines = [f"<!-- benchmarks: {name} -->", *textwrap.wrap(intro, 100)]
    for suite in dict.fromkeys(c.suite for c in result.comparisons):
        table = _format_libraries if suite == _LIBRARIES else _format_suite
        lines += ["", *table([c for c in result.comparisons if c.suite == suite])]
    return "\n".join([*lines, "", "<!-- end -->"])


def _format_libraries(comparisons: Sequence[Comparison]) -> list[str]:
    """All that one work of ours was compared with: a row per library, a column per question."""
    columns = {(row.answers[0].dataset, row.question): row.answers for row in group(comparisons)}
    heads = [f"{_set(c[0])}, {q}" for (_, q), c in columns.items()]
    cells = [["ours, examples/s", *(_value(c[0], OURS) for c in columns.values())]]
    for name in dict.fromkeys(c.label(c.reference) for c in comparisons):
        found = [[c for c in a if c.label(c.reference) == name] for a in columns.values()]
        cells.append([name, *(_to_library(c[0]) if c else "" for c in found)])
    lines = ["| " + " | ".join(map(_escape, row)) + " |" for row in [["", *heads], *cells]]
    lines.insert(1, "|" + "---|" * (1 + len(heads)))
    missed = [f"{_set(c)}, {c.question} {_goal(c)}" for c in comparisons if c.goal_met is False]
    more = [f"Goals missed: {'; '.join(missed)}."] if missed else []
    title = f"**{TITLES.get(_LIBRARIES, _LIBRARIES)}**: {_summary(comparisons)}; the ratios to each"
    return [title, "", *lines, *(["", *textwrap.wrap(more[0], 100)] if more else [])]


def _set(one: Comparison) -> str:
    return set_name(one).removesuffix("/kaggle")


def _to_library(one: Comparison) -> str:
    """Its ratio; of a limit the share that ours reaches."""
    return ", ".join(map(_percent, one.shares().values())) if one.kind == LIMIT else _ratio(one)


def _format_suite(comparisons: Sequence[Comparison]) -> list[str]:
    rows = group(comparisons)
    cells = [_HEAD, *(_cells(row) for row in rows)]
    used = [i for i in range(len(_HEAD)) if any(row[i] for row in cells[1:])]
    table = ["| " + " | ".join(row[i] for i in used) + " |" for row in cells]
    table.insert(1, "|" + "---|" * len(used))
    title = TITLES.get(comparisons[0].suite, comparisons[0].suite)
    summary = _summary(comparisons)
    if len(rows) <= _MOST_ROWS:
        return [f"**{title}**: {summary}", "", *table]
    head = f"<details><summary><b>{title}</b>: {summary}</summary>"
    return [head, "", *table, "", "</details>"]


def _summary(comparisons: Sequence[Comparison]) -> str:
    others = [c for c in comparisons if c.kind != LIMIT]
    ahead = sum(c.ratio >= 1 for c in others)
    goals = [c.goal_met for c in comparisons if c.goal is not None]
    words = [f"ours faster in {ahead} of {len(others)} comparisons"] if others else []
    words += [f"{sum(map(bool, goals))} of {len(goals)} goals met"] if goals else []
    return ", ".join(words) or f"{len(comparisons)} comparisons"


def _cells(row: Row) -> tuple[str, ...]:
    best, first = row.best, row.answers[0]
    other = ratio = ""
    if best is not None:
        other = f"{best.label(best.reference)}: {_value(best, best.reference)}"
        ratio = _ratio(best)
    elif first.noisy:
        ratio = "~"
    shares = {name: share for c in row.answers for name, share in c.shares().items()}
    limits = [f"{_percent(s)} ({name.removeprefix('limit: ')})" for name, s in shares.items()]
    return (
        _escape(_set(first)),
        _escape(row.question),
        _value(best or first, OURS),
        _escape(other),
        ratio,
        _escape(", ".join(limits)),
        _escape(_goals(row)),
    )


def _ratio(one: Comparison) -> str:
    ratio = f"{one.ratio:.{2 if one.ratio < 10 else 1 if one.ratio < 100 else 0}f}"
    ratio = f"**{ratio}**" if one.ratio < 1 else ratio
    return f"{ratio} ~" if one.noisy else ratio


def _percent(share: float) -> str:
    """Whole percents; near 100 the tenths are what matters."""
    return f"{share:.1%}" if 0.95 < share < 1.05 else f"{share:.0%}"


def _value(one: Comparison, system: str) -> str:
    return format_number(one.median(system)) + UNITS.get(one.quantity, "")


def _goals(row: Row) -> str:
    """One goal as it is; of several those that were missed, by their system."""
    goals = [c for c in row.answers if c.goal is not None]
    if len(goals) == 1:
        return f"{_goal(goals[0])}: {'met' if goals[0].goal_met else 'missed'}"
    missed = [f"{c.label(c.reference)} {_goal(c)}" for c in goals if not c.goal_met]
    return f"missed: {'; '.join(missed)}" if missed else "met" * bool(goals)


def _goal(one: Comparison) -> str:
    return f"time ≤ {one.goal:.3g}" if one.quantity == PAIRED else f"≥ {one.goal:.3g}"


def _escape(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def read_marker(text: str) -> str:
    """The file that the README's marker names.

    Raises:
      ValueError: there is not exactly one pair of markers.
    """
    return _find(text).group("file")


def replace_section(text: str, section: str) -> str:
    """The README with another section between its markers.

    Raises:
      ValueError: there is not exactly one pair of markers.
    """
    match = _find(text)
    return text[: match.start()] + section + text[match.end() :]


def _find(text: str) -> re.Match[str]:
    found = list(_SECTION.finditer(text))
    if len(found) != 1:
        raise ValueError(
            "benchmark: the README expected one section between "
            f"`<!-- benchmarks: FILE -->` and `<!-- end -->`, received {len(found)}"
        )
    return found[0]


def marker_name(file: Path, readme: Path) -> str:
    """FILE as the marker names it: relative to the README's folder, with `/`."""
    return Path(os.path.relpath(file.resolve(), readme.resolve().parent)).as_posix()


def update_readme(readme: Path, result: Result) -> None:
    """Rewrites what stands between the markers, atomically.

    Raises:
      ValueError: there is not exactly one pair of markers.
      OSError: the file cannot be read or written.
    """
    section = format_section(result, marker_name(result.file, readme))
    write_text(readme, replace_section(readme.read_text(encoding="utf-8"), section))
