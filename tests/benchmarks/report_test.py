"""The page and the documents' tables: all is in them, and the documents show what they make."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import report
from benchmarks.measuring.comparison import FIRST_BATCH, OURS, PAIRED, Against, Comparison
from benchmarks.measuring.result_file import Result, read_result
from benchmarks.measuring.timing import Sample
from benchmarks.reports import markdown, plots
from benchmarks.reports.table import format_number
from records.system.json_file import write_json

REPOSITORY = Path(__file__).resolve().parents[2]
_PNG = b"\x89PNG\r\n"


def _one(
    suite: str,
    question: str,
    quantity: str = "examples/s",
    goal: float | None = None,
    details: Any = None,
    against: Against = Against.PEER,
    **more: float,
) -> Comparison:
    """Ours takes 1 s for 1000 examples; every other system as many seconds as `more` says."""
    noise = 1 + 0.01 * np.arange(5)
    seconds = {OURS: 1.0} | (more or {"tfds": 2.0})
    samples = {
        name: [Sample(1000, float(s * n), float(s * n)) for n in noise]
        for name, s in seconds.items()
    }
    return Comparison(
        suite,
        "set/kaggle/1.0.0",
        question,
        samples,
        quantity,
        details=details or {},
        goal=goal,
        against=against,
    )


def _beside(name: str, seconds: float, **more: Any) -> Comparison:
    """A question asked of that system alone."""
    systems: dict[str, Any] = {name: seconds}
    one = _one("peers", "cold", **systems, **more)
    return dataclasses.replace(one, beside=name)


def _result(comparisons: Sequence[Comparison], **more: Any) -> Result:
    environment = {
        "utc": "2026-01-02T03:04:05+00:00",
        "processor": "A <processor>",
        "processors": 2,
        "memory_bytes": 2**33,
        "gpus": [],
        "system": "Linux",
        "python": "3.11",
        "versions": {"tensorflow": "2.21.0", "commit": "abc1234"},
        "load_average": [0.1, 0.2, 0.3],
        "busy": "",
    }
    content = {
        "format": 2,
        "environment": environment,
        "effort": {"repetitions": 5, "seconds": 1.0},
        "comparisons": [c.to_dict() for c in comparisons],
    }
    return Result(Path("run.json"), list(comparisons), content | more)


def _accelerator(step_ms: float, cache: str) -> Comparison:
    details = {"accelerator": "H100", "step_ms": step_ms, "au": step_ms / 100, "cache": cache}
    more: dict[str, Any] = {"accelerator alone": step_ms / 100, "against": Against.LIMIT}
    return _one("accelerators", f"{cache}, {step_ms:g} ms", details=details, **more)


def _grown(power: int, ending: str = "", quantity: str = "examples/s") -> Comparison:
    sizes = {"ours": 10**power, "other": 10**4}
    details: dict[str, Any]
    details = {key: {"examples": size, "peak_bytes": [size]} for key, size in sizes.items()}
    details["series"] = "rows"
    more: dict[str, Any] = {"10^4": 0.5, "against": Against.OURSELVES}
    return _one("growth", f"rows, 10^{power}{ending}", quantity, details=details, **more)


def _everything() -> list[Comparison]:
    return [
        _one("input", "cold", fit=3.0, tfds=2.5),
        _one("input", "first batch", FIRST_BATCH, tfds=0.5),
        _beside("DALI", 1.25, goal=1.5),
        _beside("limit: copy", 0.8, against=Against.LIMIT),
        _one("step", "real input", PAIRED, 1.02, None, Against.LIMIT, **{"constant batch": 0.99}),
        *(_accelerator(ms, cache) for ms in (20.0, 50.0) for cache in ("cold", "warm")),
        *(_grown(n) for n in (3, 5)),
        _grown(3, ": start", FIRST_BATCH),
    ]


class _Page(HTMLParser):
    """Collects text, the sources of what is loaded, and open tags."""

    def __init__(self, page: str):
        super().__init__()
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def _images(page: str) -> list[bytes]:
    return [base64.b64decode(s.partition(",")[2]) for s in _Page(page).sources]


def test_the_page_holds_everything_and_loads_nothing() -> None:
    found = _everything()
    skipped = [{"part": "peers", "dataset": "set", "what": "grain: not installed"}] * 2
    failure = {"part": "target", "dataset": "set", "error": "ValueError: <script>alert()</script>"}
    parts = [{"part": "peers", "seconds": 10.2}, {"part": "peers", "seconds": 20.4}]
    more: dict[str, Any] = {"skipped": skipped, "failures": [failure], "parts": parts}
    text = report.format_page(_result(found, complete=False, **more))
    page = _Page(text)
    assert not page.tags & {"script", "link", "iframe"} and "@import" not in text
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    # First batches, utilisation, growth; ratios of input, peers and step.
    assert len(page.sources) == 3 + 3
    assert all(image.startswith(_PNG) for image in _images(text))
    for one in found:
        for name in one.samples:
            assert format_number(one.median(name)) in page.text
        assert f"{one.ratio:.2f}" in page.text and one.title in page.text
    for expected in (
        "A <processor>",
        "abc1234",
        "peers 31 s",
        "goal 1.5: MISSED",
        "goal at most 1.02: met",
        "tfds is faster (2.00 x)",
        "80.0% of limit: copy",
        "ValueError: <script>alert()</script>",
        "did not come to its end",
    ):
        assert expected in page.text
    assert page.text.count("grain: not installed") == 1


@pytest.mark.parametrize("suite", ["input", "step", "accelerators", "growth", ""])
def test_absent_suites_leave_a_page(suite: str) -> None:
    found = [c for c in _everything() if c.suite == suite]
    text = report.format_page(_result(found))
    shown = {image[:6] for image in _images(text)}
    assert shown <= {_PNG} and bool(shown) == bool(suite)


def test_plots_have_nothing_to_show_elsewhere() -> None:
    rows = [_one("input", "cold")]
    assert plots.ratios(rows) and plots.ratios([]) is None
    for plot in (plots.first_batches, plots.utilisation, plots.growth):
        assert plot(rows) is None


def _catch(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures, instead of pictures of them."""
    drawn: list[Any] = []

    def catch(figure: Any) -> bytes:
        drawn.append(figure)
        return b""

    monkeypatch.setattr(plots, "to_png", catch)
    return drawn


def test_a_plot_shows_ratio_spread_and_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = _catch(monkeypatch)
    pairs = _one("step", "real input", PAIRED, 1.25, None, Against.LIMIT, **{"constant batch": 0.9})
    plots.ratios([_one("input", "cold", goal=1.5, tfds=0.5), pairs])
    (axis,) = drawn[0].axes
    assert axis.get_xscale() == "log"
    marks = [line for line in axis.lines if len(line.get_xdata()) == 1]
    points = [
        (line.get_marker(), round(float(line.get_xdata()[0]), 3), line.get_color())
        for line in marks
    ]
    assert points == [
        ("o", 0.5, "tab:red"),
        ("|", 1.5, "black"),
        ("o", 0.9, "tab:gray"),
        ("|", 0.8, "black"),  # at most 1.25 of the time
    ]
    assert axis.lines[0].get_xdata() == [1, 1], "no line at 1"


def test_growth_is_drawn_as_time_per_example(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = _catch(monkeypatch)
    plots.growth(_everything())
    rows, memory, first = drawn[0].axes
    (line,) = rows.lines  # one for all sizes, the one that the others are compared with included
    assert list(line.get_xdata()) == [10**3, 10**4, 10**5]
    np.testing.assert_allclose(line.get_ydata(), 1e3 * 1.02 * np.array([1, 0.5, 1]))
    np.testing.assert_allclose(memory.lines[0].get_ydata(), np.array([10**3, 10**4, 10**5]) / 2**20)
    np.testing.assert_allclose(first.lines[0].get_ydata(), [1020, 510])


def test_markdown_has_one_row_per_question_or_library() -> None:
    text = markdown.format_section(_result(_everything()), "x/run.json")
    lines = text.splitlines()
    assert lines[0] == "<!-- benchmarks: x/run.json -->" and lines[-1] == "<!-- end -->"
    rows = [line for line in lines if line.startswith("| set | ") and "question" not in line]
    table = dict.fromkeys(lines)
    assert "| set | cold | 980 | tfds: 392 | 2.50 |" in table
    assert "| set | first batch | 1,020 ms | tfds: 510 ms | **0.50** |" in table
    # Of libraries each has a row, each question a column.
    libraries = [
        "| system | set, cold |",
        "|---|---|",
        "| ours, examples/s | 980 |",
        "| DALI | 1.25 |",
    ]
    start = lines.index(libraries[0])
    assert lines[start : start + 5] == [*libraries, "| limit: copy | 80% |"]
    assert "Goals missed: set, cold: DALI ≥ 1.5." in table
    assert "| set | real input | 980 | 99.0% (constant batch) | time ≤ 1.02: met |" in table
    assert len(rows) == len(_everything()) - 2  # DALI and its limit stand there
    start = lines.index("## Input")
    assert lines[start : start + 3] == ["## Input", "", "Ours is faster in 1 of 2 comparisons."]
    assert "did not come to its end" not in text
    broken = _result(_everything(), complete=False)
    found = " ".join(markdown.format_section(broken, "x/run.json").split())
    assert "The run did not come to its end: later parts are missing." in found


def test_the_readme_has_few_rows_and_the_losses_first() -> None:
    found = [
        _one("input", "won by 2"),
        _one("input", "won by 3", tfds=3.0),
        _one("input", "won by 4", tfds=4.0),
        _one("input", "lost", tfds=0.8),
        _one("input", "lost by more", tfds=0.5),
        _beside("DALI", 0.25),
        _beside("limit: copy", 0.1, against=Against.LIMIT),
        _one("growth", "lost to itself", against=Against.OURSELVES, tfds=0.1),
        *(_one(f"suite {i}", "won") for i in range(12)),
    ]
    text = markdown.format_highlights(_result(found), "f")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 10
    assert rows[:4] == [
        "| Input, other libraries and limits | set | cold | 980 | DALI: 3,920 | **0.25** |",
        "| Input | set | lost by more | 980 | tfds: 1,960 | **0.50** |",
        "| Input | set | won by 3 | 980 | tfds: 327 | 3.00 |",
        "| suite 0 | set | won | 980 | tfds: 490 | 2.00 |",
    ]
    assert "faster in 15 of 18 comparisons" in " ".join(text.split())


def test_the_documents_are_rewritten_between_their_markers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [tmp_path / markdown.README, tmp_path / markdown.RESULTS_PAGE]
    file = tmp_path / "results" / "run.json"
    for folder in (file.parent, pages[1].parent):
        folder.mkdir()
    write_json(file, _result(_everything()).content)
    command = [str(file), "--write-docs", str(tmp_path)]
    old = "# Title\n<!-- benchmarks: old.json -->\nstale\n<!-- end -->\nThe end: \\1\n"
    pages[0].write_text(old)
    pages[1].write_text("# Title\n")
    assert report.main(command) == 1
    assert "expected one section between `<!-- benchmarks: FILE -->`" in capsys.readouterr().err
    assert pages[0].read_text() == old and pages[1].read_text() == "# Title\n"
    pages[1].write_text(old)
    assert report.main(command) == 0
    for page, name in zip(pages, ("results/run.json", "../results/run.json"), strict=True):
        text = page.read_text()
        assert text.startswith(f"# Title\n<!-- benchmarks: {name} -->\n")
        assert text.endswith("<!-- end -->\nThe end: \\1\n") and "stale" not in text
        assert [f.name for f in page.parent.glob("*.md")] == [page.name]
    written = [page.read_text() for page in pages]
    assert written[0] != written[1], "the README has all tables"
    assert report.main(command) == 0, "not the same again"
    assert [page.read_text() for page in pages] == written
    pages[1].write_text(written[1] * 2)
    assert report.main(command) == 1, "two sections"


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, with all that is on them; their pixels, which take seconds, are not."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(_PNG))


@pytest.mark.usefixtures("unrendered")
def test_the_command_writes_a_page_or_says_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    write_json(file, _result(_everything()).content)
    assert report.main([str(file)]) == 0
    assert (tmp_path / "run.html").read_text().startswith("<!doctype html>")
    assert report.main([str(file), "--output", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").exists()
    capsys.readouterr()
    assert report.main([str(file), "--markdown"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("<!-- end -->")
    assert report.main([str(tmp_path / "missing.json")]) == 1
    assert "missing.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("page", "make"),
    [
        (markdown.README, markdown.format_highlights),
        (markdown.RESULTS_PAGE, markdown.format_section),
    ],
)
def test_the_documents_show_what_the_command_makes(page: Path, make: Any) -> None:
    """Mend it with `python -m benchmarks.report FILE --write-docs`."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    (name,) = re.findall(r"<!-- benchmarks: (\S+) -->", text)
    section = make(read_result(REPOSITORY / page.parent / name), name)
    assert markdown.replace_section(text, section) == text


@pytest.mark.usefixtures("unrendered")
def test_committed_results_can_be_read() -> None:
    files = sorted((REPOSITORY / "benchmarks" / "results").glob("20*.json"))
    assert files
    for file in files:
        result = read_result(file)
        assert result.comparisons
        assert result.complete, f"{file.name}: not a whole run"
        for one, stored in zip(result.comparisons, result.content["comparisons"], strict=True):
            assert one.ratio == pytest.approx(stored["ratio"])
            assert one.reference == stored["reference"]
        assert re.search(r"<img alt=\"[^\"]+: ratios", report.format_page(result)), file.name


def test_a_noisy_answer_is_marked() -> None:
    calm = _one("input", "cold")
    wild = {n: [*s[:-1], Sample(1000, 9.0)] for n, s in calm.samples.items()}
    noisy = dataclasses.replace(calm, samples=wild)
    assert "2.00 ~ |" in markdown.format_section(_result([noisy]), "f")
    assert "noisy" in _Page(report.format_page(_result([noisy]))).text
