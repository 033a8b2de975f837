"""Comparing runs: noise passes, a real slowdown does not, and foreign files are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks import compare
from benchmarks.measuring.comparison import DURATION, FIRST_BATCH, OURS, RATE, Against, Comparison
from benchmarks.measuring.result_file import Result, read_result
from benchmarks.measuring.timing import Sample
from records.system.json_file import write_json

QUESTIONS, ROUNDS = 100, 5
_HARDWARE = {"processor": "P", "processors": 2, "gpus": [], "memory_bytes": 8 * 2**30}


def _samples(seconds: np.ndarray) -> list[Sample]:
    return [Sample(1000, float(s), float(s)) for s in seconds]


def _result(comparisons: list[Comparison], **hardware: Any) -> Result:
    return Result(Path("run.json"), comparisons, {"environment": _HARDWARE | hardware})


def _run(
    seed: int,
    noise: float | np.ndarray = 0.02,
    questions: int = QUESTIONS,
    factors: dict[str, float] | None = None,
    slow: dict[int, float] | None = None,
    quantity: str = RATE,
    **hardware: Any,
) -> Result:
    """Ours and two peers; minutes in which the machine is slow hit all systems of a round."""
    rng = np.random.default_rng(seed)
    found = []
    noises = np.broadcast_to(noise, questions)
    for number in range(questions):
        drift = rng.lognormal(0, 0.2, ROUNDS)
        samples = {}
        for name, seconds in ({OURS: 1.0, "a": 2.0, "b": 3.0} | (factors or {})).items():
            own = (slow or {}).get(number, 1.0) if name == OURS else 1.0
            samples[name] = _samples(
                own * seconds * drift * rng.lognormal(0, noises[number], ROUNDS)
            )
        found.append(Comparison("input", "set/x/1", f"question {number}", samples, quantity))
    return _result(found, **hardware)


def _regressions(old: Result, new: Result, tolerance: float = 0.05) -> list[str]:
    found = compare.compare(old, new).changes
    return [change.new.question for change in found if change.is_regression(tolerance)]


def test_noise_alone_passes() -> None:
    """Without a tolerance, quiet and noisy questions mixed: the intervals alone have to hold."""
    runs = 100
    mixed = np.tile([0.02, 0.3], QUESTIONS // 2)
    pairs = ((_run(2 * i, mixed), _run(2 * i + 1, mixed)) for i in range(runs))
    assert sum(bool(_regressions(old, new, 0.0)) for old, new in pairs) <= 0.01 * runs


@pytest.mark.parametrize("quantity", [RATE, FIRST_BATCH, DURATION])
def test_a_real_slowdown_is_found_and_named(quantity: str) -> None:
    old = _run(0, 0.01, quantity=quantity)
    new = _run(1, 0.01, slow={17: 1.25}, quantity=quantity)  # 20 % fewer examples/s
    found = compare.compare(old, new).changes
    assert [c.new.question for c in found if c.is_regression(0.05)] == ["question 17"]
    change = found[17]
    assert change.ratio == pytest.approx(0.8, abs=0.03)
    assert change.ratio_interval[0] < 0.8 < change.ratio_interval[1] < 0.95
    text = compare.format_changes(compare.compare(old, new), 0.05)
    (line,) = [line for line in text.splitlines() if "REGRESSION" in line]
    assert "question 17 " in line
    assert "1 regression" in text
    # The other way round it is a gain, and a tolerance of 30 % lets it pass.
    assert not _regressions(new, old) and compare.compare(new, old).changes[17].is_gain(0.05)
    assert not _regressions(old, new, 0.3)


def test_another_machine_is_no_regression() -> None:
    slower = {OURS: 1.5, "a": 3.0, "b": 4.5}
    old, new = _run(0), _run(1, factors=slower)
    assert not _regressions(old, new)
    found = compare.compare(old, new)
    assert found.same_hardware
    speeds = [change.speed for change in found.changes]
    assert np.median(speeds) == pytest.approx(1 / 1.5, rel=0.05)
    assert "speed new / old" in compare.format_changes(found, 0.05)
    other = compare.compare(old, _run(1, factors=slower, processor="Q"))
    assert not other.same_hardware
    assert "speed new / old" not in compare.format_changes(other, 0.05)


def test_a_promise_is_judged_on_the_same_hardware_only() -> None:
    def run(seconds: float, **hardware: Any) -> Result:
        noise = 1 + 0.01 * np.arange(-2, 3)
        samples = {OURS: _samples(seconds * noise), "promise: 1 s": _samples(np.ones(5))}
        promised = Comparison("engine", "set", "order", samples, is_fixed=True)
        return _result([promised], **hardware)

    assert _regressions(run(1.0), run(1.5)) == ["order"]
    assert not _regressions(run(1.0), run(1.5, processor="Q"))
    text = compare.format_changes(compare.compare(run(1.0), run(1.5, processor="Q")), 0.05)
    assert "not judged: other hardware" in text


def test_runs_with_other_best_peers_are_compared_through_the_same_one() -> None:
    # The new run's best peer, c, is unknown to the old one; the old one's best, b, is gone.
    old = _run(0, questions=1, factors={"b": 0.5})
    new = _run(1, questions=1, factors={"c": 0.4})
    del new.comparisons[0].samples["b"]
    (change,) = compare.compare(old, new).changes
    assert (old.comparisons[0].reference, new.comparisons[0].reference) == ("b", "c")
    assert change.reference == "a" and change.ratio == pytest.approx(1, abs=0.1)
    del new.comparisons[0].samples["a"]
    found = compare.compare(old, new)
    assert not found.changes and len(found.without_reference) == 1
    assert "without a system that both runs measured: input" in compare.format_changes(found, 0.05)


def test_intervals_are_scipys_welch() -> None:
    rng = np.random.default_rng(3)
    old, new = rng.lognormal(0, 0.1, 5), rng.lognormal(0.2, 0.3, 9)
    change, interval = compare.ratio_interval(old, new, 0.99)
    test = stats.ttest_ind(np.log(new), np.log(old), equal_var=False).confidence_interval(0.99)
    np.testing.assert_allclose(interval, np.exp([test.low, test.high]))
    assert change == pytest.approx(np.exp(np.log(new).mean() - np.log(old).mean()))
    assert compare.ratio_interval(old[:1], new, 0.99)[1] == (0.0, float("inf"))
    assert compare.ratio_interval(np.ones(3), 2 * np.ones(3), 0.99) == (2.0, (2.0, 2.0))


def _write(file: Path, result: Result, **more: Any) -> Path:
    write_json(
        file,
        {"format": 2, "comparisons": [c.to_dict() for c in result.comparisons]}
        | result.content
        | more,
    )
    return file


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = _write(tmp_path / "old.json", _run(0, 0.01, 10))
    slow = _run(1, 0.01, 9, slow={3: 1.4})
    extra = dataclasses.replace(slow.comparisons[0], question="a new one")
    slow.comparisons.append(extra)
    failure = {"part": "peers", "dataset": "set", "error": "x"}
    new = _write(tmp_path / "new.json", slow, complete=False, failures=[failure])
    assert compare.main([str(old), str(old)]) == 0
    assert "No regression" in capsys.readouterr().out
    assert compare.main([str(old), str(new)]) == 1
    printed = capsys.readouterr().out
    assert "only in OLD: input: set/x/1: question 9 (examples/s)" in printed
    assert "only in NEW: input: set/x/1: a new one (examples/s)" in printed
    assert "NEW did not come to its end" in printed and "NEW: failed: peers, set" in printed
    assert compare.main([str(old), str(new), "--tolerance", "60"]) == 0


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    run = _run(0, questions=3)
    one = run.comparisons[0]
    more = [
        dataclasses.replace(one, against=against, beside="b", is_fixed=against is Against.LIMIT)
        for against in Against
    ]
    run.comparisons.extend(more)
    read = read_result(_write(tmp_path / "run.json", run))
    assert read.comparisons == run.comparisons and read.complete


def _broken(change: Any) -> str:
    content = {
        "format": 2,
        "environment": _HARDWARE,
        "comparisons": [c.to_dict() for c in _run(0, questions=1).comparisons],
    }
    change(content)
    return json.dumps(content)


def _one_round_less(content: Any) -> None:
    content["comparisons"][0]["systems"]["a"]["repetitions"].pop()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "expected JSON of benchmarks.run"),
        ("[1]", "format 2, received 'list'"),
        ('{"loss": 1}', "format 2, received None"),
        (_broken(lambda c: c.update(format=1)), "format 2, received 1"),
        (_broken(lambda c: c.update(format=3)), "format 2, received 3"),
        (_broken(lambda c: c["comparisons"][0].update(against="names")), "'names' is not a valid"),
        (_broken(lambda c: c.pop("comparisons")), "KeyError: 'comparisons'"),
        (_broken(lambda c: c.update(environment={})), "KeyError: 'memory_bytes'"),
        (_broken(lambda c: c["comparisons"][0]["systems"].pop(OURS)), "question 0"),
        (_broken(_one_round_less), "question 0: repetitions of"),
        (_broken(lambda c: c.update(comparisons=[])), "expected questions in common"),
        (_broken(lambda c: c["comparisons"].append(c["comparisons"][0])), "holds twice: input"),
    ],
)
def test_files_that_cannot_be_compared(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, file = _write(tmp_path / "good.json", _run(0, questions=1)), tmp_path / "bad.json"
    if text is not None:
        file.write_text(text)
    for files in ([good, file], [file, good]):
        assert compare.main([str(f) for f in files]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: benchmark: ") and message in error and str(file) in error


def test_a_tolerance_that_makes_no_sense() -> None:
    with pytest.raises(SystemExit) as raised:
        compare.parse_arguments(["a", "b", "--tolerance", "100"])
    assert raised.value.code == 2
