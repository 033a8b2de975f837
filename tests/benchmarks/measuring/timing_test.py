from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.measuring import timing
from benchmarks.measuring.comparison import FIRST_BATCH, OURS, PAIRED, Against, Comparison
from benchmarks.measuring.timing import Sample
from benchmarks.reports import table
from benchmarks.run import parse_arguments
from records.system.json_file import write_json

_ENVIRONMENT = ("processor", "processors", "busy")
_VERSIONS = dict.fromkeys(("tensorflow", "keras", "tensorflow-datasets", "commit"), "1")


def _samples(seconds: np.ndarray, examples: int = 1000) -> list[Sample]:
    return [Sample(examples, float(s), float(s) / 10) for s in seconds]


@pytest.fixture
def seconds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    slowness = {OURS: 1.0, "slow": 3.0, "fast": 0.5}
    return {name: factor * rng.uniform(1.0, 1.2, 5) for name, factor in slowness.items()}


@pytest.fixture
def comparison(seconds: dict[str, np.ndarray]) -> Comparison:
    samples = {name: _samples(values) for name, values in seconds.items()}
    return Comparison("input", "set/config/1.0.0", "cold", samples)


def test_systems_take_turns() -> None:
    calls: list[str] = []

    def system(name: str, examples: int) -> Sample:
        calls.append(name)
        return Sample(examples + len(calls), 1.0)

    told: list[str] = []
    systems = {"a": lambda: system("a", 100), "b": lambda: system("b", 200)}
    samples = timing.alternate(systems, 3, told.append)
    assert calls == ["a", "b"] * 3
    assert [s.examples for s in samples["a"]] == [101, 103, 105]
    assert [s.examples for s in samples["b"]] == [202, 204, 206]
    assert told[0] == "a, repetition 1 of 3" and told[-1] == "b, repetition 3 of 3"
    with pytest.raises(ValueError, match="repetitions expected 1 or more, received 0"):
        timing.alternate(systems, 0)


def test_medians_and_spreads_are_numpys(
    comparison: Comparison, seconds: dict[str, np.ndarray]
) -> None:
    for name, values in seconds.items():
        rates = 1000 / values
        assert comparison.median(name) == pytest.approx(np.median(rates))
        assert comparison.spread(name) == pytest.approx(np.ptp(rates) / np.median(rates))


def test_ratio_is_the_median_of_the_rounds_against_the_best_peer(
    comparison: Comparison, seconds: dict[str, np.ndarray]
) -> None:
    assert comparison.reference == "fast"
    by_round = seconds["fast"] / seconds[OURS]
    np.testing.assert_allclose(comparison.ratios(), by_round)
    assert comparison.ratio == pytest.approx(np.median(by_round))
    assert comparison.ratio < 1


def test_less_time_to_the_first_batch_is_better(
    comparison: Comparison, seconds: dict[str, np.ndarray]
) -> None:
    first = dataclasses.replace(comparison, quantity=FIRST_BATCH)
    assert first.reference == "fast"
    assert first.median(OURS) == pytest.approx(np.median(seconds[OURS]) * 100)
    assert first.ratio == pytest.approx(np.median(seconds["fast"] / seconds[OURS]))


def test_interval_is_scipys_paired_one() -> None:
    rng = np.random.default_rng(0)
    drift = rng.uniform(1.0, 3.0, 15)  # of the machine, the same for both of a pair
    ours, constant = (drift * rng.lognormal(shift, 0.02, 15) for shift in (0.01, 0.0))
    samples = {OURS: _samples(ours), "constant": _samples(constant)}
    found = Comparison("step", "set", "real input", samples, PAIRED)
    reference = stats.ttest_rel(np.log(ours), np.log(constant)).confidence_interval(0.95)
    np.testing.assert_allclose(found.time_interval(), np.exp([reference.low, reference.high]))
    low, high = found.time_interval()
    assert 0.97 < low < 1.01 < high < 1.05, "drift must not widen it"


@pytest.mark.parametrize(
    ("slowdown", "met"), [(0.9, True), (1.0, True), (1.015, True), (1.05, False)]
)
def test_goal_of_pairs_is_met_where_the_interval_reaches_down_to_it(
    slowdown: float, met: bool
) -> None:
    noise = 1 + 0.01 * np.arange(-2, 3)  # the interval reaches 2 % to both sides
    samples = {OURS: _samples(slowdown * noise), "constant": _samples(np.ones(5))}
    found = Comparison("step", "set/x/1", "real input", samples, PAIRED, goal=1.02)
    assert found.goal_met is met
    line = table.format_tables([found]).splitlines()[2]
    low, high = found.time_interval()
    assert f"time x {low:.3f} - {high:.3f} (95 %)" in line
    assert f"goal at most 1.02: {'met' if met else 'MISSED'}" in line
    # One pair says nothing, so it cannot miss the goal.
    one = {name: s[:1] for name, s in samples.items()}
    assert dataclasses.replace(found, samples=one).time_interval() == (0.0, float("inf"))


def test_other_goals_are_about_the_median_ratio(comparison: Comparison) -> None:
    assert comparison.goal_met is None
    for goal, met in ((comparison.ratio - 0.01, True), (comparison.ratio + 0.01, False)):
        assert dataclasses.replace(comparison, goal=goal).goal_met is met


def _against(against: Against, name: str, slower: float = 2.0, **more: Any) -> Comparison:
    samples = {OURS: _samples(np.ones(3)), name: _samples(slower * np.ones(3))}
    return Comparison("input", "set/x/1", "cold", samples, against=against, **more)


def test_a_question_to_one_system_ends_with_its_name() -> None:
    for against in Against:
        assert _against(against, "x").title == "cold"
        alone = _against(against, "x", beside="x")
        assert (alone.title, alone.reference, alone.question) == ("cold: x", "x", "cold")


def test_limits_and_ourselves_are_told_from_peers() -> None:
    # Names say nothing: the field does.
    peer, limit, own = (_against(against, "limit: copy", 0.5) for against in Against)
    assert [found.peer_is_faster for found in (peer, limit, own)] == [True, False, False]
    shown = table.format_tables([peer, limit, own]).splitlines()[2:5]
    assert shown[0].endswith("limit: copy is faster (2.00 x)")
    assert shown[1].endswith("50.0% of limit: copy") and "faster" not in shown[1]
    assert "faster" not in shown[2] and "%" not in shown[2]
    content = {"environment": dict.fromkeys(_ENVIRONMENT, "") | {"versions": _VERSIONS, "gpus": []}}
    notes = table.format_notes([peer, limit, own], content)
    assert notes[-2:] == [
        "Another system is faster than ours in 1 rows:",
        "  set/x, cold: limit: copy is faster (2.00 x)",
    ]


def test_a_table_of_many_systems_shows_the_best_one() -> None:
    many = {f"library {i}": _samples((2 + i) * np.ones(2)) for i in range(6)}
    found = Comparison("peers", "set/x/1", "cold", {OURS: _samples(np.ones(2))} | many)
    head, row = table.format_tables([found]).splitlines()[1:3]
    assert head.split() == ["set", "question", "ours", "best", "other", "ratio"]
    assert "library 0 500" in row and "library 1" not in row


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567, "1,230,000"), (999.6, "1,000"), (54.321, "54.3"), (1.0, "1"), (0.04567, "0.0457")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert table.format_number(value) == text


def test_a_slow_minute_leaves_the_ratio_alone() -> None:
    drift = np.array([1.0, 4.0, 1.0, 2.0, 1.0])  # hits both systems of a round
    samples = {OURS: _samples(drift), "peer": _samples(2 * drift)}
    found = Comparison("input", "set", "cold", samples)
    np.testing.assert_allclose(found.ratios(), 2.0)
    assert found.noisy


def test_only_far_repetitions_are_noisy() -> None:
    calm = {OURS: _samples(np.array([1.0, 1.1])), "peer": _samples(np.array([1.0, 1.05]))}
    assert not Comparison("input", "set", "cold", calm).noisy


@pytest.mark.parametrize(
    ("each", "wanted", "count"), [(0.3, 1.0, 4), (5.0, 1.0, 1), (0.0, 1.0, 10**6)]
)
def test_fitting_count(each: float, wanted: float, count: int) -> None:
    assert timing.fitting_count(each, wanted) == count


def test_json_holds_every_repetition(
    comparison: Comparison, seconds: dict[str, np.ndarray], tmp_path: Path
) -> None:
    file = tmp_path / "new" / "result.json"
    write_json(file, comparison.to_dict())
    read = json.loads(file.read_text())
    for name, values in seconds.items():
        repetitions = read["systems"][name]["repetitions"]
        assert [r["seconds"] for r in repetitions] == values.tolist()
        assert [r["examples"] for r in repetitions] == [1000] * 5
        rates = [r["examples"] / r["seconds"] for r in repetitions]
        assert read["systems"][name]["median"] == pytest.approx(np.median(rates))
    assert read["ratio"] == comparison.ratio
    assert list(file.parent.iterdir()) == [file], "a temporary file was left"


def test_table_shows_a_faster_peer_plainly(comparison: Comparison) -> None:
    first = dataclasses.replace(comparison, question="first batch", quantity=FIRST_BATCH)
    only = dataclasses.replace(comparison, question="loop", samples=dict(comparison.samples))
    del only.samples["slow"]
    text = table.format_tables([comparison, first, only])
    heading, cold, wait, loop = text.splitlines()[1:5]
    assert heading.split() == ["set", "question", OURS, "slow", "fast", "ratio"]
    assert cold.split()[:2] == ["set/config", "cold"]
    assert f"{comparison.median(OURS):,.0f}" in cold and f"  {comparison.ratio:.2f}  " in cold
    assert f"{first.median(OURS):,.0f} ms" in wait
    assert loop.split()[2] == "-"
    assert cold.index(f"{comparison.ratio:.2f}  ") == heading.index("ratio") + 1, "not aligned"
    assert table.format_tables([]) == ""


def test_flags() -> None:
    options = parse_arguments(["--dataset", "a,b", "c/d", "--data_dir=/x", "--repeats", "2"])
    assert options.dataset == ["a", "b", "c/d"]
    assert (options.data_dir, options.repeats, options.suite) == ("/x", 2, "all")
    assert len(parse_arguments([]).dataset) == 3


@pytest.mark.parametrize("flags", [["--suite", "speed"], ["--repeats", "0"], ["--dataset", ","]])
def test_wrong_flags_say_what_was_received(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        parse_arguments(flags)
    assert raised.value.code == 2
    assert flags[0] in capsys.readouterr().err
