"""The diagnosis is right: a delay put into a stage is found there, and its cost is predicted."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from records import chunks, examples
from records.decoding import decode
from records.decoding.input_config import InputConfig
from records.diagnose import __main__ as diagnose
from records.diagnose.measure import Report, Stage, measure
from records.loading.load import Loader
from records.ordering.order import Order
from records.roles import open_data
from records.shards.index import RecordReader
from records.system.threads import num_threads
from train.settings.prepare import prepare

PICTURES = "brain_tumor_mri/synthetic"
# Of the time that the pipeline takes for as many examples as a call has, on all its threads.
DELAY = 1.2


@pytest.fixture(scope="module")
def pictures(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The real pictures, prepared: the generated ones are so small that Python's lock counts."""
    data_dir = str(tmp_path_factory.mktemp("data"))
    return prepare("brain_tumor_mri/kaggle", data_dir, str(shared_data / "brain_tumor_mri"))


def _measure(directory: str, cache: str, seconds: float) -> Report:
    return measure(open_data(directory, config=InputConfig(cache=cache)), 64, seconds)


def _decode() -> Callable[[], Any]:
    noise = np.random.default_rng(0).integers(0, 64, (4, 256, 256), np.uint8)
    encoded = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in noise]
    return functools.partial(decode.decode_pictures, encoded, 224, 1)


def _copy() -> Callable[[], Any]:
    source = np.ones(2**26, np.uint8)
    return functools.partial(np.copyto, np.empty(2**18, np.uint8), source[: 2**18])


def _plan() -> Callable[[], Any]:
    return functools.partial(Order(5000, 64).examples, 0, 0, 64)


def _delayed(
    function: Callable[..., Any], seconds: float, work: Callable[[], Any]
) -> Callable[..., Any]:
    """The function after work that takes some seconds.

    The work is of the stage's own kind, and so leaves or holds Python's lock and crowds the other
    core as that does. Beside a mere sleep the other stages would become faster.
    """

    def call(*args: Any, **options: Any) -> Any:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            work()
        return function(*args, **options)

    return call


def _inject(monkeypatch: pytest.MonkeyPatch, stage: str, seconds: float) -> None:
    """Slows one stage down by `seconds` a call, where the pipeline does its work."""
    work = {"order": _plan, "gather": _copy}.get(stage, _decode)()
    delay = functools.partial(_delayed, seconds=seconds, work=work)
    if stage == "order":
        monkeypatch.setattr(examples.Plan, "chunks", delay(examples.Plan.chunks))
    elif stage == "gather":
        monkeypatch.setattr(chunks, "take", delay(chunks.take))
    elif stage == "decode":
        monkeypatch.setattr(decode, "decode_pictures", delay(decode.decode_pictures))
    else:  # inside what the loader times as `read` and as `parse`
        owner, name = (RecordReader, "read") if stage == "read" else (Loader, "rows")
        monkeypatch.setattr(owner, name, delay(getattr(owner, name)))


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
    pictures: str, monkeypatch: pytest.MonkeyPatch, cache: str, stage: str
) -> None:
    fast = _measure(pictures, cache, 1.0)
    normal = next(s for s in fast.stages if s.name == stage)
    # An epoch is planned in one call, the other stages are called once a batch.
    called = open_data(pictures).examples("train").num_examples if stage == "order" else 64
    with monkeypatch.context() as patch:
        _inject(patch, stage, DELAY * called / fast.rate * normal.threads)
        slow = _measure(pictures, cache, 2.5)
    assert slow.bottleneck.name == stage
    # What the delayed pipeline would gain if the stage took what it takes without the delay.
    predicted = slow.predict({stage: normal.seconds}) / slow.rate
    measured = fast.rate / slow.rate
    print(stage, "predicted", predicted, "measured", measured, slow, fast)
    assert measured > 1.3, "the delay must matter"
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
