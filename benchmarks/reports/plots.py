"""The report's plots, as PNG bytes; each takes comparisons and is None where it has nothing."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.measuring.comparison import FIRST_BATCH, OURS, PAIRED, Against, Comparison
from benchmarks.reports.table import format_number, set_name
from records.system.plotting import new_figure, plain, to_png

_WIDTH = 11.0
_COLOURS = {
    Against.PEER: "tab:blue",
    Against.LIMIT: "tab:gray",
    Against.OURSELVES: "tab:green",
}
_FASTER = "tab:red"
_KINDS = {
    Against.PEER: "over another library",
    Against.LIMIT: "over a limit",
    Against.OURSELVES: "over this system otherwise",
}


def ratios(comparisons: Sequence[Comparison]) -> bytes | None:
    """Speed of ours over the other system's, one row per question, on a logarithmic axis."""
    rows = [c for c in comparisons if c.suite not in ("accelerators", "growth")]
    if not rows:
        return None

    figure, axis = new_figure(_WIDTH, 1.7 + 0.26 * len(rows))
    axis.axvline(1, color="black", linewidth=1)
    for y, row in enumerate(rows):
        _dot(axis, y, row)
    labels = plain([f"{row_name(row)}  {row.ratio:.2f}" for row in rows])
    axis.set_yticks(range(len(rows)), labels, fontsize=8)
    axis.set(xscale="log", ylim=(len(rows) - 0.4, -0.6))
    axis.set_xlabel("speed of ours / the other system's: right of 1 ours is faster")
    _plain_ticks(axis.xaxis)
    axis.grid(axis="x", which="both", alpha=0.25)
    _legend(axis, rows)
    return to_png(figure)


def row_name(row: Comparison) -> str:
    """Set, question and what it is compared with."""
    return f"{set_name(row)}, {row.title}" + ("" if row.beside else f" / {row.reference}")


def _dot(axis: Any, y: int, row: Comparison) -> None:
    # Red: a loss must be seen at first sight.
    colour = _FASTER if row.peer_is_faster else _COLOURS[row.against]
    if row.quantity == PAIRED:
        high, low = (1 / time if time else np.inf for time in row.time_interval())
    else:
        low, high = row.ratios().min(), row.ratios().max()
    # A single pair has no interval, and 0 no place on a logarithmic axis.
    if np.isfinite([low, high]).all() and low > 0:
        axis.plot([low, high], [y, y], color=colour, linewidth=2, alpha=0.6)
    axis.plot(row.ratio, y, "o", color=colour, markerfacecolor="white" if row.noisy else colour)
    if row.goal is not None:
        least = 1 / row.goal if row.quantity == PAIRED else row.goal
        axis.plot(least, y, "|", color="black", markersize=11, markeredgewidth=2)


def _legend(axis: Any, rows: Sequence[Comparison]) -> None:
    from matplotlib.lines import Line2D

    dot: dict[str, Any] = {"marker": "o", "linestyle": ""}
    kinds = [kind for kind in _KINDS if any(row.against is kind for row in rows)]
    handles = [Line2D([], [], color=_COLOURS[k], label=_KINDS[k], **dot) for k in kinds]
    if any(row.peer_is_faster for row in rows):
        handles.append(Line2D([], [], color=_FASTER, label="the other library is faster", **dot))
    if any(row.noisy for row in rows):
        dot["markerfacecolor"] = "white"
        handles.append(Line2D([], [], color="black", label="noisy", **dot))
    handles.append(Line2D([], [], color="black", alpha=0.5, label="spread of the rounds"))
    if any(row.goal is not None for row in rows):
        goal: dict[str, Any] = {"marker": "|", "linestyle": "", "markersize": 11}
        handles.append(Line2D([], [], color="black", label="goal", **goal))
    axis.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, frameon=False
    )


def _plain_ticks(axis: Any) -> None:
    """0.5, 1, 2, 5 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))
    axis.set_minor_formatter(NullFormatter())


def first_batches(comparisons: Sequence[Comparison]) -> bytes | None:
    """Time to the first batch, all systems of each question, with the spread of the rounds."""
    found = [c for c in comparisons if c.quantity == FIRST_BATCH and c.suite != "growth"]
    rows = [(c, name) for c in found for name in c.samples]
    if not rows:
        return None

    figure, axis = new_figure(_WIDTH, 1.0 + 0.26 * len(rows))
    for y, (one, name) in enumerate(rows):
        values, median = one.values(name), one.median(name)
        colour = _COLOURS[Against.PEER] if name == OURS else "tab:gray"
        spread = [[median - values.min()], [values.max() - median]]
        axis.barh(y, median, color=colour, xerr=spread, capsize=2, alpha=0.8)
        axis.text(values.max() * 1.06, y, format_number(median), va="center", fontsize=8)
    labels = [f"{set_name(c)}, {c.title}: {name}" if name == OURS else name for c, name in rows]
    axis.set_yticks(range(len(rows)), plain(labels), fontsize=8)
    axis.set(xscale="log", ylim=(len(rows) - 0.4, -0.6), xlabel="ms to the first batch")
    # Room for the numbers behind the bars.
    axis.margins(x=0.12)
    _plain_ticks(axis.xaxis)
    axis.grid(axis="x", alpha=0.25)
    return to_png(figure)


def utilisation(comparisons: Sequence[Comparison]) -> bytes | None:
    """Accelerator utilisation against the time of a step, one line per set and cache."""
    lines: dict[str, list[tuple[float, float, str]]] = {}
    for one in comparisons:
        d = one.details
        if one.suite == "accelerators" and {"step_ms", "au", "cache"} <= set(d):
            # A comparison with a peer holds that one's utilisation in its details.
            system = OURS if one.against is Against.LIMIT else one.reference
            kind = " ".join(str(d[key]) for key in ("accelerator", "model") if d.get(key))
            name = f"{set_name(one)}, {d['cache']}: {system}"
            lines.setdefault(name, []).append((d["step_ms"], d["au"], kind))
    if not lines:
        return None

    figure, axis = new_figure(_WIDTH, 5.5)
    for share, style in ((0.9, "--"), (0.99, ":")):
        axis.axhline(100 * share, color="black", linestyle=style, linewidth=1)
    for name, points in lines.items():
        x, y, _ = zip(*sorted(points), strict=True)
        axis.plot(x, 100 * np.array(y), "o-", label=plain([name])[0])
    axis.set(xscale="log", ylim=(0, 105), xlabel="ms per step of the emulated accelerator")
    axis.set_ylabel("accelerator utilisation, %; dashed 90, dotted 99")
    _plain_ticks(axis.xaxis)
    axis.grid(axis="y", alpha=0.25)
    kinds = {x: name for points in lines.values() for x, _, name in points if name}
    above = axis.secondary_xaxis("top")
    above.set_xticks(list(kinds), plain(list(kinds.values())), rotation=50, ha="left")
    # A logarithmic axis would add marks of its own between the names.
    above.set_xticks([], minor=True)
    above.tick_params(labelsize=8)
    for step_ms in kinds:
        axis.axvline(step_ms, color="black", linewidth=0.5, alpha=0.25)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return to_png(figure)


def growth(comparisons: Sequence[Comparison]) -> bytes | None:
    """Time per example, time to the first batch and memory, against the number of examples."""
    panels: dict[str, dict[str, dict[int, float]]] = {}
    for one in comparisons:
        if one.suite == "growth" and "series" in one.details:
            name = f"{set_name(one)}, {one.details['series']}"
            for panel, size, value in _points(one):
                panels.setdefault(panel, {}).setdefault(name, {})[size] = value
    if not panels:
        return None

    figure, axes = new_figure(_WIDTH, 4.5, 1, len(panels))
    for axis, (title, series) in zip(np.ravel(axes), panels.items(), strict=True):
        for name, values in series.items():
            x, y = zip(*sorted(values.items()), strict=True)
            axis.plot(x, y, "o-", label=plain([name])[0])
        axis.set(xscale="log", yscale="log", xlabel="examples", ylabel=title)
        low, high = axis.get_ylim()
        axis.set_ylim(low / 3, high * 3)  # so that noise does not look like a slope
        _plain_ticks(axis.yaxis)
        axis.grid(which="both", alpha=0.25)
        axis.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return to_png(figure)


def _points(one: Comparison) -> Iterator[tuple[str, int, float]]:
    """(panel, examples, value) of both sizes: details describe ours and the other one."""
    for system, key in ((OURS, "ours"), (one.reference, "other")):
        described = one.details[key]
        size = described["examples"]
        if one.quantity == FIRST_BATCH:
            yield "ms to the first batch", size, one.median(system)
            continue
        # Time, not rate: what grows with the set then goes up.
        seconds = [s.seconds / s.examples for s in one.samples[system]]
        yield "µs per example", size, 1e6 * float(np.median(seconds))
        if "peak_bytes" in described:
            peak = float(np.median(described["peak_bytes"]))
            yield "MiB above the idle process", size, peak / 2**20
