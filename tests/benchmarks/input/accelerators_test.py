from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import run
from benchmarks.input import accelerator_rates, accelerators, emulator
from benchmarks.input.feeding import Capacity, Host
from benchmarks.measuring import work as work_module
from benchmarks.measuring.comparison import OURS
from benchmarks.measuring.timing import Sample
from records.loading.load import Loader


class FakeClock:
    """Time that passes only where something waits; a sleep may last longer or be cut short."""

    def __init__(self, late: float = 0.0, part: float = 1.0):
        self.now, self._late, self._part = 100.0, late, part

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        # A millisecond at least, or cutting short would never come to an end.
        self.now += max(seconds * self._part, min(seconds, 1e-3)) + self._late

    def batches(self, *delays: float) -> Iterator[int]:
        """Batches, each of which takes its delay; the last one goes on for ever."""
        for number in itertools.count():
            self.now += delays[min(number, len(delays) - 1)]
            yield number


def _run(clock: FakeClock, delays: tuple[float, ...], steps: int, n: int = 1) -> Any:
    taken: list[int] = []
    used = emulator.run_steps(
        lambda: clock.batches(*delays), steps, 1.0, taken.append, n, clock=clock, sleep=clock.sleep
    )
    assert taken == list(range(steps * n)), "every accelerator has a batch in every step"
    assert used.compute_seconds == steps
    return used


def test_a_starved_accelerator_waits_for_every_batch() -> None:
    used = _run(FakeClock(), (2.0,), steps=5)
    assert (used.first_seconds, used.seconds) == (2.0, 5 * 2 + 1)
    assert used.au == pytest.approx(5 / 11)
    assert used.au_excluding_first == pytest.approx(1 / 2), "X / max(X, d)"


def test_a_fed_accelerator_waits_for_the_first_batch_alone() -> None:
    used = _run(FakeClock(), (0.75,), steps=5)
    assert (used.first_seconds, used.seconds) == (0.75, 5.75)
    assert used.au == pytest.approx(5 / 5.75)
    assert used.au_excluding_first == pytest.approx(1)


def test_the_first_step_is_included_or_excluded() -> None:
    used = _run(FakeClock(), (10.0, 0.5), steps=5)
    assert used.au == pytest.approx(5 / 15)
    assert used.au_excluding_first == pytest.approx(1)
    used = _run(FakeClock(), (0.5, 2.0), steps=5)
    assert used.seconds == 0.5 + 4 * 2 + 1
    assert used.au_excluding_first == pytest.approx(4 / (9.5 - 0.5 - 1))


def test_the_host_is_one_batch_ahead_and_no_more() -> None:
    # Step 1 at 0.5; batch 3 is begun when step 2 begins at 1.5 and is there at 4.5: 2 s too late.
    used = _run(FakeClock(), (0.5, 0.5, 3.0, 0.5), steps=5)
    assert used.seconds == 4.5 + 3
    assert used.au == pytest.approx(5 / 7.5)


def test_several_accelerators_step_together() -> None:
    used = _run(FakeClock(), (0.5,), steps=4, n=3)
    assert used.seconds == 4 * 1.5 + 1, "three batches take longer than a step"
    assert used.au == pytest.approx(4 / 7)
    used = _run(FakeClock(), (0.25,), steps=4, n=3)
    assert used.seconds == 0.75 + 4 and used.au_excluding_first == pytest.approx(1)


def test_waking_up_late_makes_no_step_longer() -> None:
    used = _run(FakeClock(late=0.125), (0.75,), steps=8)
    assert used.seconds == 8.75
    # Later than the slack between a batch and a step, it costs, as it would cost a training.
    assert _run(FakeClock(late=0.5), (0.75,), steps=8).seconds > 8.75


def test_a_sleep_cut_short_is_gone_on_with() -> None:
    # As above: a host that woke up early would begin with the slow batch early.
    used = _run(FakeClock(part=0.5), (0.5, 0.5, 3.0, 0.5), steps=5)
    assert used.seconds == pytest.approx(7.5, abs=0.01)


@pytest.mark.parametrize(("step", "delay"), [(0.01, 0.02), (0.02, 0.01)])
def test_known_delays_in_real_time(step: float, delay: float) -> None:
    expected = emulator.known_delay(step, delay, 10)
    assert expected == pytest.approx(0.21)
    found, processor = [], []
    for _ in range(5):  # the machine may be busy: what counts is what can be reached
        before = time.thread_time()
        found.append(emulator.run_known_delay(step, delay, 10).seconds)
        processor.append(time.thread_time() - before)
        assert found[-1] >= 0.999 * expected
        if found[-1] < 1.05 * expected:
            break
    assert min(found) < 1.05 * expected
    assert min(processor) < 0.2 * expected, "who waits leaves the processor to others"


def test_an_accelerator_that_is_too_fast_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator.Accelerator, "_wait", lambda self: None)
    monkeypatch.setattr(emulator, "known_delay", lambda *args: 10.0)
    with pytest.raises(ValueError, match=r"10 steps of 0\.001 s.* expected 10\.0000 s at least"):
        emulator.run_known_delay(0.001, 0.001, 10)


@pytest.mark.parametrize("start", [1, 3, 64])
def test_the_most_accelerators_are_found(start: int) -> None:
    for true in range(1, 40):
        tried: list[float] = []

        def passes(n: float, tried: list[float] = tried, true: int = true) -> bool:
            tried.append(n)
            return n <= true

        found = emulator.largest_passing(passes, start, 0.0, whole=True)
        assert found == true and all(n == int(n) >= 1 for n in tried)
        assert len(tried) <= 16
        assert true / 1.1 - 1 < emulator.largest_passing(passes, start, 0.1, whole=True) <= true


@pytest.mark.parametrize("true", [0.003, 0.7, 1.0, 900.0])
def test_the_fastest_accelerator_is_found(true: float) -> None:
    found = emulator.largest_passing(lambda rate: rate <= true, 1.0, 0.05)
    assert true / 1.05 <= found <= true


def test_a_failed_trial_is_repeated_once() -> None:
    answers = iter([0.5, 0.95, 0.5, 0.6])
    tried: dict[float, list[float]] = {}
    assert emulator.passing(lambda n: next(answers), 0.9, tried)(2)
    assert not emulator.passing(lambda n: next(answers), 0.9, tried)(3)
    assert tried == {2: [0.5, 0.95], 3: [0.5, 0.6]} and next(answers, None) is None
    assert emulator.passing(lambda n: 0.0, 0.6, tried)(3), "what is known is not measured again"


def test_rates_and_step_times() -> None:
    rates = {(k.accelerator, k.model): k.rate for k in accelerator_rates.KINDS}
    assert len(rates) == 6
    for model in ("EfficientNet-B0", "ResNet-50"):
        assert rates["V100", model] < rates["A100", model]
        assert rates["H100", model] == pytest.approx(1.8 * rates["A100", model], rel=0.01)
    (asked,) = accelerator_rates.asked_kinds([12.8])
    assert asked.step_seconds == pytest.approx(0.0128) and asked.rate == pytest.approx(20000)
    assert 1000 * accelerator_rates.H100_B0.step_seconds == pytest.approx(41.29, abs=0.01)


def test_step_ms_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.parse_arguments(["--step-ms", "5", "0.5"]).step_ms == [5.0, 0.5]
    assert run.parse_arguments([]).step_ms == []
    for wrong in ("0", "-1", "nan", "inf"):
        with pytest.raises(SystemExit):
            run.parse_arguments([f"--step-ms={wrong}"])
    assert "--step-ms expected milliseconds above 0" in capsys.readouterr().err


def _open(data_dir: Path, name: str) -> work_module.Work:
    return work_module.open_work(work_module.choose_set(f"{name}/synthetic", str(data_dir)))


def _quick(**changes: Any) -> work_module.Effort:
    return dataclasses.replace(work_module.QUICK, repetitions=1, **changes)


def test_cold_iterators_decode_every_epoch_and_warm_ones_nothing(
    synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    finish: Callable[..., Any] = Loader.finish

    def spy(self: Loader, numbers: np.ndarray, *args: Any, **options: Any) -> Any:
        decoded.append(len(numbers))
        return finish(self, numbers, *args, **options)

    monkeypatch.setattr(Loader, "finish", spy)
    with work_module.view(_open(synthetic_data_dir, "brain_tumor_mri")) as work:
        host = Host(dataclasses.replace(work, global_batch_size=32), _quick())
        steps = host.work.steps_per_epoch
        assert sum(decoded) == work.num_examples, "the cache is filled"
        for cache, least in (("warm", 0), ("cold", 2 * work.num_examples)):
            decoded.clear()
            batches = host.make(cache)
            labels = np.concatenate([next(batches)[1] for _ in range(2 * steps)])
            del batches  # ends its threads
            assert len(labels) == 2 * steps * 32
            assert (sum(decoded) >= least) if least else not decoded


def _host_of(monkeypatch: pytest.MonkeyPatch, images: float) -> None:
    """Trials of a host that gives so many examples/s, whatever this one does."""

    def trial(self: Capacity, step_seconds: float, accelerators: int = 1) -> float:
        return min(1.0, images / (accelerators * 256 / step_seconds))

    monkeypatch.setattr(Capacity, "_trial", trial)


def _used(au_excluding_first: float) -> list[emulator.Utilisation]:
    # Two steps of a second, the first without delay.
    return [emulator.Utilisation(2, 1.0, 1 + 1 / au_excluding_first, 0.0)]


def test_whole_accelerators_and_parts_of_one(
    synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _open(synthetic_data_dir, "brain_tumor_mri")
    effort = dataclasses.replace(work_module.FULL, repetitions=1)
    host = Host(dataclasses.replace(work, global_batch_size=256), effort)
    v100, a100, h100 = accelerator_rates.KINDS[:3]

    def fed(images: float, kind: accelerator_rates.Kind) -> dict[float, float]:
        _host_of(monkeypatch, images)
        capacity = Capacity(host, "warm", {"any": [Sample(1000, 1.0)]}, lambda text: None)
        return capacity.fed(kind, _used(min(1.0, images / kind.rate)))

    assert fed(20_000, a100) == {0.99: 5, 0.9: 6}
    assert fed(7_000, h100) == {0.99: 1, 0.9: 1}
    part = fed(1_500, a100)
    assert part[0.99] == pytest.approx(1500 / 0.99 / 3454, rel=0.05)
    assert part[0.9] == pytest.approx(1500 / 0.9 / 3454, rel=0.05)
    both = fed(0.95 * v100.rate, v100)
    assert both[0.9] == 1 and both[0.99] == pytest.approx(0.95 / 0.99, rel=0.05)


@pytest.mark.slow
def test_answers_for_pictures(synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick tests above hold each figure of it by itself."""
    _host_of(monkeypatch, 2000)
    with work_module.view(_open(synthetic_data_dir, "brain_tumor_mri")) as work:
        found = accelerators.measure_accelerators(work, _quick(step_ms=(4.0,)), lambda text: None)
    questions = [c.title for c in found]
    assert questions[:2] == [
        "emulator, 10 ms a step, a batch every 20 ms",
        "emulator, 20 ms a step, a batch every 10 ms",
    ]
    assert "warm, H100, EfficientNet-B0: tfds tuned" in questions
    rows = {c.title: c for c in found if "accelerator alone" in c.samples}
    assert {r.details["cache"] for r in rows.values()} == {"warm", "cold"}
    for row in rows.values():
        d = row.details
        assert row.ratio == pytest.approx(d["au"]) and 0 < d["au"] <= 1
        assert 0 < d["au_excluding_first"] <= 1 + 1e-9
        assert 0 < d["accelerators_at_99"] <= d["accelerators_at_90"]
        (sample,), (alone,) = row.samples[OURS], row.samples["accelerator alone"]
        assert alone.seconds == pytest.approx(d["steps"] * d["step_ms"] / 1000)
        assert sample.examples == alone.examples and sample.first_batch_seconds
        assert d["rate"] == pytest.approx(256 / d["step_ms"] * 1000)
    cold = rows["cold, A100, EfficientNet-B0"]
    per_core = cold.details["accelerators_at_90"] / cold.details["processors"]
    assert cold.details["accelerators_at_90_per_core"] == per_core
    assert "at AU >= 90 %" in cold.note
    json.dumps([c.to_dict() for c in found], allow_nan=False)


def test_other_sets_need_step_ms(synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _host_of(monkeypatch, 40_000)
    work = _open(synthetic_data_dir, "fetal_health")
    assert accelerators.measure_accelerators(work, _quick(), lambda text: None) == []
    found = accelerators.measure_accelerators(work, _quick(step_ms=(10.0,)), lambda text: None)
    assert [c.question for c in found[2:]] == ["warm, 10 ms a step", "cold, 10 ms a step"]
    assert "tfds" not in str([c.samples.keys() for c in found])
