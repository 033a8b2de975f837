"""The diagnosis is right: a delay put into a stage is found there, and its cost is predicted."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from records import diagnose, examples, pipeline
from records.data import InputConfig, open_data
from records.load import Loader, num_threads
from records.measure import Report, Stage, measure
from records.order import Order

PICTURES = "brain_tumor_mri/synthetic"
# Seconds per call of a stage: several times what it takes.
DELAY = {"read": 0.02, "parse": 0.02, "decode": 0.02, "order": 0.01, "gather": 0.01}


def _measure(data_dir: Path, cache: str, seconds: float) -> Report:
    data = open_data(PICTURES, str(data_dir), InputConfig(image_size=64, cache=cache))
    return measure(data, 64, seconds)


def _delayed(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        time.sleep(seconds)
        return function(*args)

    return call


def _inject(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Slows one stage down, where the pipeline does its work."""
    if stage == "order":
        monkeypatch.setattr(examples.Plan, "chunks", _delayed(examples.Plan.chunks, DELAY[stage]))
    elif stage == "gather":
        import tensorflow as tf

        take = pipeline.take

        def wait() -> int:
            time.sleep(DELAY[stage])
            return 0

        def slow(inputs: Any, labels: Any, numbers: Any) -> Any:
            waited = tf.numpy_function(wait, [], tf.int64, stateful=True)
            with tf.control_dependencies([waited]):
                return take(inputs, labels, tf.identity(numbers))

        monkeypatch.setattr(pipeline, "take", slow)
    elif stage == "decode":
        init = Loader.__init__

        def slow_decoder(self: Loader, schema: Any, index: Any, decode: Any) -> None:
            init(self, schema, index, decode)
            if not getattr(slow_decoder, "bare", False):
                self.decode_rows = _delayed(decode, DELAY[stage])

        monkeypatch.setattr(Loader, "__init__", slow_decoder)
    else:
        monkeypatch.setattr(Loader, stage, _delayed(getattr(Loader, stage), DELAY[stage]))


@pytest.mark.slow  # a figure within 20 % needs a machine that does nothing else
@pytest.mark.parametrize(
    ("cache", "stage"),
    [
        ("none", "read"),
        ("none", "parse"),
        ("none", "decode"),
        ("memory", "order"),
        ("memory", "gather"),
    ],
)
def test_a_delay_is_found_and_its_cost_predicted(
    synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch, cache: str, stage: str
) -> None:
    with monkeypatch.context() as patch:
        _inject(patch, stage)
        slow = _measure(synthetic_data_dir, cache, 2.5)
    assert slow.bottleneck.name == stage
    fast = _measure(synthetic_data_dir, cache, 1.0)
    normal = next(s for s in fast.stages if s.name == stage)
    # What the delayed pipeline would gain if the stage took what it takes without the delay.
    predicted = slow.predict({stage: normal.seconds}) / slow.rate
    measured = fast.rate / slow.rate
    print(stage, "predicted", predicted, "measured", measured, slow, fast)
    assert measured > 1.5, "the delay must matter"
    assert predicted == pytest.approx(measured, rel=0.2)


def _report(**seconds: float) -> Report:
    stages = tuple(Stage(name, s, 100.0, 1e-6, 2) for name, s in seconds.items())
    rate = num_threads() / sum(seconds.values())
    return Report("a set", "none", 64, rate, 1.0, stages)


def test_times_of_a_loader_add_up_and_those_of_a_cache_overlap() -> None:
    loader = _report(read=1e-3, parse=1e-3, decode=2e-3)
    assert loader.predict({}) == pytest.approx(loader.rate)
    assert loader.predict({"decode": 0.0}) == pytest.approx(2 * loader.rate)
    assert loader.bottleneck.name == "decode"


def test_advice_names_stage_flag_and_gain() -> None:
    report = _report(read=1e-3, parse=1e-3, decode=2e-3)
    advice = diagnose.advise(report, warm_rate=50_000.0)
    assert [a.cache for a in advice] == ["memory", None]
    text = diagnose.format_report(report, advice)
    assert "decode" in text and "<- bottleneck" in text
    assert f"predicted {50_000 / report.rate:5.2f} x" in text and "--cache memory" in text
    quick = _report(read=1e-6, parse=1e-6, decode=1e-6)
    assert "nothing to gain" in diagnose.format_report(quick, diagnose.advise(quick, None))


def test_command_line_prints_and_applies(synthetic_data_dir: Path, capsys: Any) -> None:
    flags = ["--dataset", PICTURES, "--data-dir", str(synthetic_data_dir), "--image-size", "64"]
    assert diagnose.main([*flags, "--seconds", "0.3", "--apply"]) == 0
    printed = capsys.readouterr().out
    assert "read" in printed and "applied --cache memory" in printed
    assert diagnose.main(["--dataset", "nothing", "--data-dir", str(synthetic_data_dir)]) == 1
    assert "no prepared set" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        diagnose.main([*flags, "--seconds", "-1"])


def test_order_alone_is_fast() -> None:
    order = Order(10_000, 64)
    start = time.perf_counter()
    for step in range(0, 128, 64):
        order.examples(0, step, 64)
    assert time.perf_counter() - start < 1
