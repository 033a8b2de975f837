"""A result as one page that can be looked at, or as the tables of the documents.

    python -m benchmarks.report FILE [--output report.html]
    python -m benchmarks.report FILE --markdown
    python -m benchmarks.report FILE --write-docs

The page is one HTML file: its plots are inside, nothing is loaded from elsewhere.
"""

import argparse
import base64
import sys
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

from benchmarks.measuring.comparison import OURS, PAIRED, Comparison
from benchmarks.measuring.result_file import Result, read_result, write_text
from benchmarks.reports import plots
from benchmarks.reports.markdown import RESULTS_PAGE, format_section, marker_name, write_docs
from benchmarks.reports.table import (
    TITLES,
    UNITS,
    describe,
    format_number,
    goal_text,
    set_name,
    verdict,
)
from records.system.command import run_as_command, with_home
from records.system.writing import check_output

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; }
h2 { margin-top: 2em; border-bottom: 1px solid #ccc; }
img { max-width: 100%; }
table { border-collapse: collapse; font-size: 13px; margin: 1em 0; }
th, td { padding: 2px 10px; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.question td { border-top: 2px solid #999; }
.bad { color: #b00020; } .good { color: #16713a; } .note { color: #555; }
"""
_REPOSITORY = Path(__file__).resolve().parents[1]
Plot = Callable[[Sequence[Comparison]], bytes | None]
# What is drawn over all suites: title, what it shows, how.
_OVERVIEWS: tuple[tuple[str, str, Plot], ...] = (
    ("Time to the first batch", "Lines: spread of the rounds.", plots.first_batches),
    (
        "Accelerator utilisation",
        "Share of the time in which an emulated accelerator computes instead of waiting.",
        plots.utilisation,
    ),
    ("Cost as the set grows", "Ours; a flat line is what is wanted.", plots.growth),
)


def format_page(result: Result) -> str:
    """The whole page as HTML."""
    comparisons = result.comparisons
    body = [
        "<h1>Benchmarks</h1>",
        _environment(result),
        *_findings(result),
        *(
            f"<h2>{escape(title)}</h2><p class=note>{escape(text)}</p>{_image(image, title)}"
            for title, text, plot in _OVERVIEWS
            if (image := plot(comparisons)) is not None
        ),
    ]
    for suite in dict.fromkeys(c.suite for c in comparisons):
        title = TITLES.get(suite, suite)
        some = [c for c in comparisons if c.suite == suite]
        image = plots.ratios(some)
        body += [
            f"<h2>{escape(title)}</h2>",
            _image(image, f"{title}: ratios") if image else "",
            _table(some),
            *_list(dict.fromkeys(f"{c.title}: {c.note}" for c in some if c.note)),
        ]
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>Benchmarks</title>"
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _environment(result: Result) -> str:
    """Hardware, versions and how the run was made."""
    found = result.environment
    effort = result.content.get("effort", {})
    rows = {
        "measured": f"{found['utc']}, {result.content.get('seconds', 0):.0f} s",
        "hardware": f"{found['processor']}, {found['processors']} processors, "
        f"{found['memory_bytes'] / 2**30:.0f} GiB of memory, "
        f"{', '.join(found['gpus']) or 'no GPU'}",
        "system": f"{found['system']}, Python {found['python']}",
        "versions": ", ".join(f"{k} {v}" for k, v in found["versions"].items()),
        "arguments": " ".join(result.content.get("arguments", [])) or "none",
        "effort": f"{effort.get('repetitions')} rounds, at least {effort.get('seconds')} s a "
        "repetition out of memory",
        "load before": ", ".join(f"{load:.2f}" for load in found["load_average"]),
    }
    # A part runs once for each set: its times are added up.
    times: dict[str, float] = {}
    for part in result.content.get("parts", ()):
        times[part["part"]] = times.get(part["part"], 0.0) + part["seconds"]
    if times:
        rows["time by part"] = ", ".join(f"{k} {v:.0f} s" for k, v in times.items())
    cells = "".join(f"<tr><th>{escape(k)}<td>{escape(v)}" for k, v in rows.items())
    return f"<table>{cells}</table>"


def _findings(result: Result) -> list[str]:
    """What a reader must know first: failures, noise, goals, where another one is faster."""
    found, content = result.comparisons, result.content
    goals = [c for c in found if c.goal is not None]
    missed = [c for c in goals if not c.goal_met]
    noisy = sum(c.noisy for c in found)
    lines = [f"{len(found)} questions; {len(goals) - len(missed)} of {len(goals)} goals met."]
    lines += [f"The run was noisy in {noisy} of them."] if noisy else []
    lines += [result.environment["busy"]] if result.environment["busy"] else []
    if not result.complete:
        lines.append("The run did not come to its end: later parts are missing.")
    blocks = _list(lines)
    for title, items in (
        (
            "Failed",
            [f"{f['part']}, {f['dataset']}: {f['error']}" for f in content.get("failures", ())],
        ),
        # The same sentence may have come from every set.
        ("Skipped", dict.fromkeys(s["what"] for s in content.get("skipped", ()))),
        ("Where another system is faster", [describe(c) for c in found if c.peer_is_faster]),
        (
            "Goals missed",
            [f"{set_name(c)}, {c.title}: ratio {c.ratio:.2f}, {goal_text(c)}" for c in missed],
        ),
    ):
        blocks += [f"<h3>{title}</h3>", *_list(items)] if items else []
    return blocks


def _list(items: Iterable[str]) -> list[str]:
    lines = "".join(f"<li>{escape(item)}" for item in items)
    return [f"<ul>{lines}</ul>"] if lines else []


def _image(data: bytes, title: str) -> str:
    # Inside the page, which can then be mailed or moved as one file.
    encoded = base64.b64encode(data).decode()
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{encoded}">'


def _table(comparisons: Sequence[Comparison]) -> str:
    """Every system of every question: median, spread; the ratio in the row of ours."""
    head = "<tr><th>set<th>question<th>system<th class=number>median<th class=number>spread"
    head += "<th class=number>ratio<th class=number>rounds<th>"
    rows = []
    for one in comparisons:
        # Ours first: its row has the cells of the whole question.
        names = [OURS, *(name for name in one.samples if name != OURS)]
        for name in names:
            ours = name == OURS
            unit = UNITS.get(one.quantity, "/s")
            cells = [
                f"<td>{escape(set_name(one) if ours else '')}",
                f"<td>{escape(one.title if ours else '')}",
                f"<td>{escape(name)}",
                f"<td class=number>{format_number(one.median(name))}{unit}",
                f"<td class=number>{one.spread(name):.0%}",
                _ratio_cells(one) if ours else "<td><td><td>",
            ]
            rows.append(f"<tr{' class=question' if ours else ''}>" + "".join(cells))
    return f"<table>{head}{''.join(rows)}</table>"


def _ratio_cells(one: Comparison) -> str:
    if one.quantity == PAIRED:
        low, high = one.time_interval()
        reach = f"time × {low:.3f} – {high:.3f}"
    else:
        reach = f"{one.ratios().min():.2f} – {one.ratios().max():.2f}"
    goal = goal_text(one)
    words = [
        f"<span class={'good' if one.goal_met else 'bad'}>{escape(goal)}</span>" if goal else "",
        f"<span class={'bad' if one.peer_is_faster else 'note'}>{escape(verdict(one))}</span>",
        "noisy" if one.noisy else "",
    ]
    return f"<td class=number>{one.ratio:.2f}<td class=number>{reach}<td>" + " ".join(words)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description="Makes a page with plots, or the documents' tables, from a result of "
        "benchmarks.run.",
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="JSON file of benchmarks.run")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--output", metavar="FILE", type=Path, help="the page (default: FILE with ending .html)"
    )
    what.add_argument("--markdown", action="store_true", help="print all tables instead")
    what.add_argument(
        "--write-docs",
        metavar="FOLDER",
        type=Path,
        nargs="?",
        const=_REPOSITORY,
        help="write all tables into docs/benchmark_results.md and ten rows into README.md, between "
        "their markers (default folder: this repository)",
    )
    return parser.parse_args(with_home(arguments))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or prints what the flags ask for; returns the exit code."""
    options = parse_arguments(list(sys.argv[1:] if arguments is None else arguments))
    return run_as_command(lambda: _report(options), tensorflow=False)


def _report(options: argparse.Namespace) -> None:
    result = read_result(options.file)
    if options.markdown:
        print(format_section(result, marker_name(options.file, RESULTS_PAGE)))
    elif options.write_docs:
        print(*write_docs(options.write_docs, result), sep="\n")
    else:
        page = options.output or options.file.with_suffix(".html")
        check_output(page, "benchmark")
        write_text(page, format_page(result))
        print(page)


if __name__ == "__main__":
    sys.exit(main())
