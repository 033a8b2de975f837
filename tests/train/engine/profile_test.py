"""`--profile`: the share of input in a trace, and what TensorBoard shows of a run."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from records import open_data
from records.decoding.input_config import InputConfig
from tests.support.tiny_models import take_tiny_backbone
from train.engine.profile import Profile, find_traces, read_input_share
from train.run import main

REPOSITORY = Path(__file__).resolve().parents[3]
SIZE = 32

pytestmark = pytest.mark.pictures  # TensorBoard's are compared with the run's

# Runs up to four times in one process, the last time with a feed that sleeps: as soon as a quick
# feed was quick. Times every call itself.
SLOWED = """
import json, sys, time
from train.engine import whole_run
from train.settings.config import TrainConfig
from train.step.feed import DeviceFeed
from train.step.train_step import TrainStep

data_dir, run_dir, delay_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
take, run, calls = DeviceFeed.take, TrainStep.run, {}

def slow_take(self, limit):
    time.sleep(delay_s * slowed)
    return take(self, limit)

def timed_run(self, chunk, first_step):
    start = time.perf_counter()
    run(self, chunk, first_step)
    calls[first_step] = 1e3 * (time.perf_counter() - start)

DeviceFeed.take, TrainStep.run = slow_take, timed_run
quick = False
for n in range(4):
    slowed = quick or n == 3
    config = TrainConfig(dataset="fetal_health/synthetic", data_dir=data_dir, epochs=1, xla=False,
                         model="mlp_report", global_batch_size=128, profile="3,8",
                         run_dir=f"{run_dir}/{n}")
    whole_run.train_and_evaluate(config)
    profile = json.load(open(f"{run_dir}/{n}/profile.json"))
    traced = [calls[n] for n in range(3, 8)]
    print("RESULT", json.dumps(profile | {"run_ms": sum(traced) / len(traced)}))
    if slowed:
        break
    quick = profile["trace"]["input_share"] < 0.15
"""


def _train(*arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-m", "train.run", *arguments],
        cwd=REPOSITORY, env=environment, text=True, capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: Any, synthetic_data_dir: Path) -> tuple[Path, str]:
    """A run on pictures that are kept nowhere: (its folder, what it printed)."""
    run_dir, printed = tmp_path_factory.mktemp("runs") / "pictures", io.StringIO()
    flags = [
        "--dataset", "brain_tumor_mri/synthetic", "--data-dir", str(synthetic_data_dir),
        "--epochs", "2", "--image-size", str(SIZE), "--cache", "none", "--profile", "3,8",
        "--run-dir", str(run_dir), "--evaluate-test", "--strategy", "one_device",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        take_tiny_backbone(patch)
        assert main(flags) == 0
    return run_dir, printed.getvalue()


def test_a_slow_feed_is_seen_and_a_quick_one_not(
    run_python: Callable[..., str], synthetic_data_dir: Path, tmp_path: Path
) -> None:
    """30 ms of sleep before each input: the share is right within 8 points; else under 15 %.

    Five calls of 3 ms: what else the machine does can only add to the wait, so that of the runs
    with a quick feed the quietest counts.
    """
    printed = run_python(SLOWED, str(synthetic_data_dir), str(tmp_path), "0.03")
    results = [line.removeprefix("RESULT ") for line in printed.splitlines() if "RESULT" in line]
    *quick, slowed = map(json.loads, results)
    assert {found["trace"]["calls"] for found in (*quick, slowed)} == {5} and 1 <= len(quick) <= 3
    assert min(found["trace"]["input_share"] for found in quick) < 0.15
    expected = 30 / (30 + slowed["run_ms"])
    assert slowed["trace"]["input_share"] == pytest.approx(expected, abs=0.08)
    assert "HIGHLY input-bound" in slowed["trace_conclusion"]
    share = 100 * slowed["trace"]["input_share"]
    assert f"profile: {share:.1f} % of the traced steps waited for input" in printed


def test_share_is_that_of_the_markers_in_the_trace(profiled: tuple[Path, str]) -> None:
    """xprof's figures against our own reading of the trace file."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    run_dir, printed = profiled
    (path,) = find_traces(run_dir)
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    spans: dict[str, list[float]] = {"train": [], "IteratorGetNext": []}
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if name in spans:
                spans[name].append(event.duration_ps * 1e-9)
    stored = json.loads((run_dir / "profile.json").read_text())
    assert stored["trace"]["calls"] == len(spans["train"]) == 5
    assert stored["trace"]["call_ms"] == pytest.approx(np.mean(spans["train"]), rel=0.02)
    # An op of the input pipeline that runs inside the wait is not counted twice.
    assert stored["trace"]["input_ms"] == pytest.approx(sum(spans["IteratorGetNext"]) / 5, rel=0.05)
    assert f"{100 * stored['trace']['input_share']:.1f} % of the traced steps" in printed
    beside = [p.name for p in path.parent.iterdir()]
    assert beside == [path.name], "the analyzer's own files stay out of the run folder"


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "fetal_health --xla",
        "fetal_health --strategy mirrored --cpu-devices 2",
        "fetal_health --strategy mirrored --cpu-devices 2 --xla",
        "song_lyrics --sequence-length 16",
        "song_lyrics --sequence-length 16 --strategy mirrored --cpu-devices 2",
        "brain_tumor_mri --image-size 32 --strategy mirrored --cpu-devices 2",
    ],
)
def test_every_family_and_strategy_gives_a_share(
    flags: str, synthetic_data_dir: Path, tmp_path: Path
) -> None:
    name, *rest = flags.split()
    _train(
        "--dataset", f"{name}/synthetic", "--data-dir", str(synthetic_data_dir), "--epochs", "2",
        "--profile", "3,8", "--run-dir", str(tmp_path / "run"), *rest,
    )  # fmt: skip
    trace = json.loads((tmp_path / "run" / "profile.json").read_text())["trace"]
    assert trace["calls"] == 5
    assert 0 < trace["input_share"] < 0.5


def test_an_epoch_that_is_one_call_has_the_wait_for_its_own_input(tmp_path: Path) -> None:
    """From the host a call may hold an epoch: the wait comes before it, not after."""
    tf.zeros([]).numpy()  # the first op of a process takes its time
    with Profile((3, 8), tmp_path) as profile:
        for number in (0, 12):
            profile.begin_step(number, 12)
            with profile.wait():
                time.sleep(0.05)
            profile.begin_step(number, 12)
            tf.zeros([]).numpy()
            time.sleep(0.05)
            profile.end_step()
    trace = read_input_share(tmp_path)
    assert trace is not None and trace["calls"] == 1, "steps 12 to 24 were not asked for"
    assert trace["input_share"] == pytest.approx(0.5, abs=0.15)


def test_nothing_is_traced_where_no_step_asked_for_is_run(tmp_path: Path) -> None:
    with Profile((50, 60), tmp_path) as profile:
        profile.begin_step(0, 8)
        profile.end_step()
    assert read_input_share(tmp_path) is None


@contextlib.contextmanager
def _tensorboard(logdir: Path) -> Iterator[Callable[..., Any]]:
    """Serves a folder on loopback; gives `get(path, body)`, which returns JSON or bytes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("tensorboard")), "--logdir", str(logdir)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def get(path: str, body: Any = None, **query: Any) -> Any:
        url = f"http://127.0.0.1:{port}/data/{path}"
        url += f"?{urllib.parse.urlencode(query)}" if query else ""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, data=data, headers=headers)
        # No proxy: it would look for our loopback elsewhere.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            content = answer.read()
            if answer.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            is_json = "json" in answer.headers.get("Content-Type", "")
            return json.loads(content) if is_json else content

    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                tags = get("plugin/images/tags")  # the last pages that a run writes
                if any("inputs" in found for found in tags.values()):
                    break
            time.sleep(0.2)
        yield get
    finally:
        server.terminate()
        server.wait(timeout=30)


def _rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    names = [column["id"] for column in table["cols"]]
    return [dict(zip(names, (c.get("v") for c in r["c"]), strict=True)) for r in table["rows"]]


def test_scalars_in_the_files(profiled: tuple[Path, str]) -> None:
    run_dir, _ = profiled

    def get(_: str, run: str, tag: str) -> list[tuple[float, int, float]]:
        events = EventAccumulator(str(run_dir.parent / run)).Reload().Tensors(tag)
        return [(e.wall_time, e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events]

    _check_scalars(get, run_dir)


@pytest.mark.slow
def test_tensorboard_shows_the_run(profiled: tuple[Path, str], synthetic_data_dir: Path) -> None:
    """Quick, of the files it shows: the tests above and `tensorboard_files_test.py`."""
    run_dir, _ = profiled
    with _tensorboard(run_dir.parent) as get:
        _check_profile_pages(get, run_dir)
        _check_scalars(get, run_dir)
        _check_hparams(get, run_dir)
        _check_images(get, run_dir, synthetic_data_dir)


def _check_profile_pages(get: Callable[..., Any], run_dir: Path) -> None:
    stored = json.loads((run_dir / "profile.json").read_text())["trace"]
    (run,) = get("plugin/profile/runs")
    assert run.startswith("pictures/tensorboard/")
    (host,) = get("plugin/profile/hosts", run=run, tag="overview_page")
    pages = {
        tag: get("plugin/profile/data", run=run, tag=tag, host=host["hostname"])
        for tag in ("overview_page", "input_pipeline_analyzer")
    }
    for page in pages.values():
        steps = _rows(page[1])
        assert [step["stepnum"] for step in steps] == [f"train {n}" for n in range(3, 8)]
        waited = sum(s["infeedTimeMs"] for s in steps) / sum(s["stepTimeMs"] for s in steps)
        assert waited == pytest.approx(stored["input_share"], rel=1e-6)
        assert page[1]["p"]["input_conclusion"] == stored["conclusion"]
        assert "No step marker" not in json.dumps(page)
    assert "input-bound" in json.dumps(pages["overview_page"])


def _check_scalars(get: Callable[..., Any], run_dir: Path) -> None:
    """Under the names of Keras's callback, and one name for training and validation."""
    with open(run_dir / "history.csv") as file:
        history = list(csv.DictReader(file))
    assert len(history) == 2
    names = {f"epoch_{name}": name for name in ("loss", "accuracy", "weighted_f1")}
    train = names | {"epoch_learning_rate": "learning_rate", "examples_per_s": "examples_per_s"}
    train |= {name: name for name in ("flops_per_example", "flops_per_s")}
    validation = {tag: f"val_{name}" for tag, name in names.items()}
    for part, columns in (("train", train), ("validation", validation)):
        for tag, column in columns.items():
            points = get("plugin/scalars/scalars", run=f"pictures/tensorboard/{part}", tag=tag)
            assert [step for _, step, _ in points] == [0, 1], "as Keras counts epochs"
            expected = [float(row[column]) for row in history]
            assert [value for *_, value in points] == pytest.approx(expected, rel=1e-5), tag
    stored = json.loads((run_dir / "metrics.json").read_text())["test"]
    ((_, step, value),) = get(
        "plugin/scalars/scalars", run="pictures/tensorboard/test", tag="epoch_loss"
    )
    assert step == 1 and value == pytest.approx(stored["loss"], rel=1e-5)


def _check_hparams(get: Callable[..., Any], run_dir: Path) -> None:
    experiment = get("plugin/hparams/experiment", {"experimentName": ""})
    columns = {info["name"]: info["type"] for info in experiment["hparamInfos"]}
    # The page shows the first five of each.
    assert list(columns)[:2] == ["Learning rate", "Model"]
    assert columns["Learning rate"] == "DATA_TYPE_FLOAT64"
    assert not {"data_dir", "units", "fold"} & set(columns), "only what the run used"
    metrics = [(info["name"]["tag"], info["name"]["group"]) for info in experiment["metricInfos"]]
    figures = ("accuracy", "loss", "weighted_f1")
    assert metrics == [(f"validation_{name}", "") for name in figures]
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"]
    asked = {"experimentName": "", "allowedStatuses": statuses, "startIndex": 0, "sliceSize": 9}
    (group,) = get("plugin/hparams/session_groups", asked | {"colParams": []})["sessionGroups"]
    values = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
    stored = json.loads((run_dir / "metrics.json").read_text())
    for name in figures:
        expected = stored["validation"][name]
        assert values[f"validation_{name}"] == pytest.approx(expected, rel=1e-5)
    assert group["hparams"]["Model"] == "efficientnet_lite0"


def _check_images(get: Callable[..., Any], run_dir: Path, data_dir: Path) -> None:
    run = "pictures/tensorboard"
    tags = get("plugin/images/tags")[run]

    def pixels(tag: str, sample: int = 0) -> np.ndarray:
        (found,) = get("plugin/images/images", run=run, tag=tag, sample=sample)
        png = get(f"plugin/images/individualImage?{found['query']}")
        return tf.io.decode_png(png).numpy()

    confusion = tf.io.decode_png((run_dir / "confusion_matrix.png").read_bytes()).numpy()
    assert np.array_equal(pixels("confusion_matrix"), confusion)
    data = open_data("brain_tumor_mri/synthetic", str(data_dir), InputConfig(image_size=SIZE))
    train = data.examples("train")
    assert train.inputs is not None
    assert tags["inputs"]["samples"] == 8
    for sample in (0, 7):
        expected = train.inputs[train.numbers[sample]]
        assert np.array_equal(pixels("inputs", sample), expected)
    layers = [tag for tag in tags if tag.startswith("activations/")]
    assert len(layers) == 2, "maps of 16 and 8 pixels; in smaller ones nothing is to be seen"
    for tag in layers:
        grid = pixels(tag)
        assert grid.shape[0] >= 4 * 64 and grid.std() > 10, f"{tag} shows something"
