"""Tables for the documents, made from a committed result.

`docs/benchmark_results.md` holds every question, the README ten of them. In both the tables stand
between `<!-- benchmarks: FILE -->` and `<!-- end -->`; FILE is relative to the page's folder.
"""

import dataclasses
import math
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring.comparison import OURS, PAIRED, Against, Comparison
from benchmarks.measuring.result_file import Result, write_text
from benchmarks.reports.table import TITLES, UNITS, format_number, set_name
from records.system.writing import markdown_table

_SECTION = re.compile(r"<!-- benchmarks: \S+ -->\n.*?<!-- end -->", re.DOTALL)
# Pages of the repository, and what is written into each.
README, RESULTS_PAGE = Path("README.md"), Path("docs/benchmark_results.md")
_README_ROWS = 10
_LIBRARIES = "peers"
_HEAD = ("set", "question", "ours", "best other", "ratio", "of the limit", "goal")


@dataclasses.dataclass(frozen=True)
class Row:
    """A question, and everything that the same work of ours was compared with."""

    question: str  # without the other system's name
    answers: list[Comparison]  # the comparisons, at least one

    @property
    def best(self) -> Comparison | None:
        """The one with the lowest ratio, limits left out; None where there are only limits."""
        others = [c for c in self.answers if c.against is not Against.LIMIT]
        return min(others, key=lambda c: c.ratio) if others else None

    @property
    def ratio(self) -> float:
        """Speed of ours over the best other one's; infinite where there are only limits."""
        return self.best.ratio if self.best else math.inf


def group(comparisons: Sequence[Comparison]) -> list[Row]:
    """One row per suite, set, question and unit, in the order of the comparisons."""
    found: dict[tuple[str, str, str, str], list[Comparison]] = {}
    for one in comparisons:
        key = (one.suite, one.dataset, one.question, one.quantity)
        found.setdefault(key, []).append(one)
    return [Row(key[2], answers) for key, answers in found.items()]


def format_section(result: Result, name: str) -> str:
    """The markers and between them every suite's table.

    `name` is how the marker names the file.
    """
    intro = (
        f"{_where(result)}: medians of {result.content['effort']['repetitions']} rounds, in "
        "examples/s unless a unit is named. *Ratio*: speed of ours over the best other system, "
        "median of the rounds; bold where the other one is faster. *Of the limit*: share of what "
        "could be reached at most. `~`: noisy."
    )
    if not result.complete:
        intro += " The run did not come to its end: later parts are missing."
    lines = textwrap.wrap(intro, 100)
    for suite in dict.fromkeys(c.suite for c in result.comparisons):
        some = [c for c in result.comparisons if c.suite == suite]
        rows = [_HEAD, *map(_cells, group(some))]
        table = _library_rows(some) if suite == _LIBRARIES else rows
        lines += ["", f"## {_title(suite)}", "", f"{_summary(some)}.", "", *_table(table)]
        if suite == _LIBRARIES:
            lines += _missed_goals(some)
    return _between_markers(name, lines)


def format_highlights(result: Result, name: str) -> str:
    """The markers and between them the README's rows, which `choose_rows` chooses."""
    found = [c for c in result.comparisons if c.against is Against.PEER]
    ahead = sum(not c.peer_is_faster for c in found)
    intro = (
        f"{_where(result)}. Ours is faster in {ahead} of {len(found)} comparisons with another "
        "library or way of doing the same work. First, of each suite, the question that ours loses "
        "by most; then the median of those that it wins. *Ratio*: speed of ours over the other's; "
        "`~`: noisy."
    )
    rows: list[tuple[str, ...]] = [("suite", "set", "question", "ours", "best other", "ratio")]
    for row in choose_rows(group(found)):
        # Limits and goals are for the longer page.
        rows.append((_title(row.answers[0].suite), *_cells(row)[:5]))
    return _between_markers(name, [*textwrap.wrap(intro, 100), "", *_table(rows)])


def choose_rows(rows: Sequence[Row]) -> list[Row]:
    """Of each suite the row that ours loses by most, then the median of those that it wins.

    The losses come first, the heaviest on top: a short table must not hide them. The wins stand in
    the order of the run.
    """
    lost, won = [], []
    for suite in dict.fromkeys(row.answers[0].suite for row in rows):
        some = sorted((r for r in rows if r.answers[0].suite == suite), key=lambda r: r.ratio)
        losses = [row for row in some if row.ratio < 1]
        wins = some[len(losses) :]
        lost += losses[:1]
        # The median, not the best: that would promise too much.
        won += wins[len(wins) // 2 :][:1]
    return [*sorted(lost, key=lambda row: row.ratio), *won][:_README_ROWS]


def _where(result: Result) -> str:
    """Hardware, day and commit."""
    found = result.environment
    gpus = ", ".join(found["gpus"]) or "no GPU"
    return (
        f"{found['processor']}, {found['processors']} processors, {gpus}, {found['utc'][:10]}, "
        f"commit {found['versions']['commit']}"
    )


def _between_markers(name: str, lines: Sequence[str]) -> str:
    return "\n".join([f"<!-- benchmarks: {name} -->", *lines, "", "<!-- end -->"])


def _title(suite: str) -> str:
    return TITLES.get(suite, suite)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; the first row is its head. Columns with nothing below it are left out."""
    head, *body = rows
    # A suite without goals or limits has no column of empty cells.
    used = [i for i in range(len(head)) if any(row[i] for row in body)]
    return markdown_table([[row[i] for i in used] for row in rows])


def _library_rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """All that one work of ours was compared with: a row per library, a column per question."""
    columns = {(row.answers[0].dataset, row.question): row.answers for row in group(comparisons)}
    heads = [f"{_set(c[0])}, {q}" for (_, q), c in columns.items()]
    rows = [
        ["system", *heads],
        ["ours, examples/s", *(_value(c[0], OURS) for c in columns.values())],
    ]
    for name in dict.fromkeys(c.reference for c in comparisons):
        found = [[c for c in a if c.reference == name] for a in columns.values()]
        rows.append([name, *(_to_library(c[0]) if c else "" for c in found)])
    return [[_escape(cell) for cell in row] for row in rows]


def _missed_goals(comparisons: Sequence[Comparison]) -> list[str]:
    missed = [f"{_set(c)}, {c.title} {_goal(c)}" for c in comparisons if c.goal_met is False]
    return ["", *textwrap.wrap(f"Goals missed: {'; '.join(missed)}.", 100)] if missed else []


def _set(one: Comparison) -> str:
    return set_name(one).removesuffix("/kaggle")


def _to_library(one: Comparison) -> str:
    """Its ratio; of a limit the share that ours reaches."""
    return _percent(one.ratio) if one.against is Against.LIMIT else _ratio(one)


def _summary(comparisons: Sequence[Comparison]) -> str:
    others = [c for c in comparisons if c.against is not Against.LIMIT]
    ahead = sum(c.ratio >= 1 for c in others)
    goals = [c.goal_met for c in comparisons if c.goal is not None]
    words = [f"Ours is faster in {ahead} of {len(others)} comparisons"] if others else []
    words += [f"{sum(map(bool, goals))} of {len(goals)} goals met"] if goals else []
    return ", ".join(words) or f"{len(comparisons)} comparisons"


def _cells(row: Row) -> tuple[str, ...]:
    best, first = row.best, row.answers[0]
    other = ratio = ""
    if best is not None:
        other = f"{best.reference}: {_value(best, best.reference)}"
        ratio = _ratio(best)
    elif first.noisy:
        ratio = "~"
    # Limits stand apart: nobody is expected to be faster than the machine.
    shares = {c.reference: c.ratio for c in row.answers if c.against is Against.LIMIT}
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
    missed = [f"{c.reference} {_goal(c)}" for c in goals if not c.goal_met]
    return f"missed: {'; '.join(missed)}" if missed else "met" * bool(goals)


def _goal(one: Comparison) -> str:
    return f"time ≤ {one.goal:.3g}" if one.quantity == PAIRED else f"≥ {one.goal:.3g}"


def _escape(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def replace_section(text: str, section: str) -> str:
    """The page with another section between its markers.

    Raises:
      ValueError: there is not exactly one pair of markers.
    """
    found = list(_SECTION.finditer(text))
    if len(found) != 1:
        raise ValueError(
            "benchmark: the page expected one section between "
            f"`<!-- benchmarks: FILE -->` and `<!-- end -->`, received {len(found)}"
        )
    return text[: found[0].start()] + section + text[found[0].end() :]


def marker_name(file: Path, page: Path) -> str:
    """FILE as the marker names it: relative to the page's folder, with `/`."""
    return Path(os.path.relpath(file.resolve(), page.resolve().parent)).as_posix()


def write_docs(folder: Path, result: Result) -> list[Path]:
    """Writes the tables between the markers of the README and of `docs/benchmark_results.md`.

    `folder` is that of the README.

    Returns:
      The pages written. Nothing is written unless both can be.

    Raises:
      ValueError: a page does not have exactly one pair of markers.
      OSError: a page cannot be read or written.
    """
    texts = {}
    # All pages are made before the first is written: one without markers leaves the others as they
    # were.
    for page, make in ((README, format_highlights), (RESULTS_PAGE, format_section)):
        file = folder / page
        section = make(result, marker_name(result.file, file))
        texts[file] = replace_section(file.read_text(encoding="utf-8"), section)
    for file, text in texts.items():
        write_text(file, text)
    return list(texts)
