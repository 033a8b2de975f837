from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import run as run_module
from benchmarks.input import engine
from benchmarks.input import readers as input_questions
from benchmarks.measuring import consume, result_file
from benchmarks.measuring import work as work_module
from benchmarks.measuring.comparison import OURS, Against, Comparison
from benchmarks.measuring.timing import Sample
from benchmarks.peers import tfds_reader
from tests.support.forks import fork

INPUT_QUESTIONS = [
    "cold epoch",
    "first batch",
    "warm, iterator",
    "warm, tf.data",
    "warm, step loop",
]


def _open(data_dir: Path, name: str) -> work_module.Work:
    return work_module.open_work(work_module.choose_set(f"{name}/synthetic", str(data_dir)))


@pytest.mark.parametrize("name", work_module.DATASETS)
def test_all_systems_deliver_the_same_work(synthetic_data_dir: Path, name: str) -> None:
    work = _open(synthetic_data_dir, name)
    equal = consume.check_same(work, input_questions.SYSTEMS)
    assert set(equal) == set(input_questions.SYSTEMS)
    if name == "fetal_health":
        assert set(equal.values()) == {1.0}, "vectors are the same to the last byte"
    if name == "brain_tumor_mri":
        assert equal[OURS] == np.inf and min(equal.values()) > consume.LEAST_PSNR


def test_other_pictures_are_told_apart() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 1)).astype(np.uint8)
    assert consume.least_psnr(pictures[::-1], pictures) == np.inf
    assert consume.least_psnr(pictures // 2, pictures) < 20
    assert 45 < consume.least_psnr(pictures ^ 1, pictures) < 50


def test_a_system_that_loses_examples_is_caught(synthetic_data_dir: Path) -> None:
    work = _open(synthetic_data_dir, "fetal_health")
    lazy = {"lazy": lambda *args: tfds_reader.make_plain(*args).take(2)}
    with pytest.raises(ValueError, match=r"lazy expected \d+ examples with label counts"):
        consume.check_same(work, input_questions.SYSTEMS | lazy)
    narrow = {"narrow": lambda *args: tfds_reader.make_plain(*args).map(lambda x, y: (x[:, 1:], y))}
    with pytest.raises(ValueError, match="narrow expected batches of float32"):
        consume.check_same(work, input_questions.SYSTEMS | narrow)


def test_a_question_sees_nothing_that_was_decoded_before(synthetic_data_dir: Path) -> None:
    work = _open(synthetic_data_dir, "brain_tumor_mri")
    before = sorted(Path(work.schema.directory).glob("decoded/*"))  # of tests in other files
    with work_module.view(work) as fresh:
        assert not Path(fresh.schema.directory, "decoded").exists()
        input_questions.open_examples(fresh, cache="disk")
        assert list(Path(fresh.schema.directory).glob("decoded/*.npy"))
        assert sorted(Path(work.schema.directory).glob("decoded/*")) == before
        with work_module.view(fresh) as again:
            assert not Path(again.schema.directory, "decoded").exists()
            assert again.fingerprint == work.fingerprint


def _engine_answers(data_dir: Path, name: str, monkeypatch: Any) -> dict[str, Comparison]:
    """By question, of one repetition each."""
    monkeypatch.setattr(engine, "_ROWS", 5000)
    monkeypatch.setattr(engine, "_STREAMED_BYTES", 10**8)
    monkeypatch.setattr(engine, "_BUDGET_BYTES", 4 * 2**20)
    effort = dataclasses.replace(work_module.FULL, repetitions=1)
    with work_module.view(_open(data_dir, name)) as work:
        found = {c.title: c for c in engine.measure_engine(work, effort, lambda text: None)}
    assert len(found) == 6
    for comparison in found.values():
        assert comparison.ratio > 0 and comparison.goal is not None
        for samples in comparison.samples.values():
            assert all(s.examples > 0 and s.seconds > 0 for s in samples)
    return found


def test_questions_about_the_engine(synthetic_data_dir: Path, monkeypatch: Any) -> None:
    found = _engine_answers(synthetic_data_dir, "fetal_health", monkeypatch)
    assert found["resume at 90 %"].details["state_bytes"] < 1024
    rows = found["cold, 10^6 rows: bare"].samples
    assert {s.examples for samples in rows.values() for s in samples} == {rows[OURS][0].examples}
    verify = found["verify, 10^6 rows: limit: read, CRC32C"]
    assert (verify.goal, verify.against) == (0.8, Against.LIMIT)
    assert [s.examples for samples in verify.samples.values() for s in samples] == [5000, 5000]


@pytest.mark.slow
def test_questions_about_the_engine_and_pictures(
    synthetic_data_dir: Path, monkeypatch: Any
) -> None:
    found = _engine_answers(synthetic_data_dir, "brain_tumor_mri", monkeypatch)
    prepared = {n for n in found if n.startswith("prepared: ")}
    others = ("cold epoch", "tf.data, cold", "limit: read the file")
    assert prepared == {f"prepared: {other}" for other in others}
    details = found["streaming, 0.1 GB"].details
    streamed, whole = details["processes"]
    assert streamed["shuffle_block"] < details["examples"] and whole["shuffle_block"] is None
    # All rows of all batches after the first one; the last one is padded.
    left = details["examples"] - 64
    assert left <= streamed["examples"] == whole["examples"] < left + 64
    assert 0 < streamed["peak_bytes"] < whole["peak_bytes"]


def test_peers_have_one_epoch_or_no_end(synthetic_data_dir: Path) -> None:
    work = _open(synthetic_data_dir, "fetal_health")
    for make in input_questions.SYSTEMS.values():
        assert sum(1 for _ in make(work)) == work.steps_per_epoch
        steps = work.steps_per_epoch + 2
        assert sum(1 for _ in itertools.islice(make(work, endless=True), steps)) == steps


@pytest.mark.parametrize(
    ("shape", "dtype"), [((5, 8, 8, 1), "uint8"), ((4, 21), "float32"), ((3, 6), "int32")]
)
def test_every_byte_is_read(shape: tuple[int, ...], dtype: str) -> None:
    inputs = (np.arange(np.prod(shape)) % 100).reshape(shape).astype(dtype)
    labels = np.arange(shape[0])
    read: list[Any] = [
        lambda x: consume.read_on_host(tf.constant(x), tf.constant(labels)),
        lambda x: int(consume.read_on_device(tf.constant(x), tf.constant(labels))),
    ]
    for reader in read:
        before = reader(inputs)
        for position in range(inputs.size):
            changed = inputs.copy()
            changed.flat[position] += 1
            assert reader(changed) != before


def test_plain_text_is_refused(synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = work_module.choose_set("song_lyrics/synthetic", str(synthetic_data_dir))
    opened = work_module.open_set(directory)
    text = dataclasses.replace(opened.schema, modality="text", input_name="text")
    as_text = dataclasses.replace(opened, schema=text)
    monkeypatch.setattr(work_module, "open_set", lambda _: as_text)
    with pytest.raises(ValueError, match="input expected a picture, a vector or ids"):
        work_module.open_work(directory)


@pytest.mark.slow
def test_quick_run_end_to_end(synthetic_data_dir: Path, tmp_path: Path) -> None:
    """Quick: what it measures in the tests above, what becomes of it in those below."""
    file = tmp_path / "result.json"
    flags = ["--quick", "--repeats=2", "--suite=readers", f"--data_dir={synthetic_data_dir}"]
    flags += ["--dataset=fetal_health/synthetic", f"--output={file}"]
    process = fork("-m", "benchmarks.run", *flags)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-4000:]
    for text in ("Input: examples/s", "ratio", "Generated data", str(file)):
        assert text in out
    assert "arning" not in err and "1 of 1] fetal_health" in err
    assert sorted(f.name for f in tmp_path.iterdir()) == ["result.html", "result.json"]
    result = json.loads(file.read_text())
    assert result["environment"]["versions"]["tensorflow"] == tf.__version__
    assert result["complete"] and not result["failures"] and not result["skipped"]
    (part,) = result["parts"]
    assert part["part"] == "readers" and 0 < part["seconds"] <= result["seconds"]
    assert [c["question"] for c in result["comparisons"]] == INPUT_QUESTIONS
    for comparison in result["comparisons"]:
        assert OURS in comparison["systems"] and len(comparison["systems"]) >= 2
        for system in comparison["systems"].values():
            assert len(system["repetitions"]) == 2
            assert all(r["examples"] > 0 and r["seconds"] > 0 for r in system["repetitions"])


class _Parts:
    """Parts that need no time, under the name of a module."""

    def __init__(self) -> None:
        self.efforts: list[work_module.Effort] = []

    def good(self, work: Any, effort: Any, progress: Any) -> list[Comparison]:
        self.efforts.append(effort)
        samples = {OURS: [Sample(1, 2.0)] * 2, "quick peer": [Sample(1, 1.0)] * 2}
        return [Comparison("input", work.schema.name, "good", samples)]

    def bad(self, work: Any, effort: Any, progress: Any) -> list[Comparison]:
        raise ValueError("no such tokens")

    def unreadable(self, work: Any, effort: Any, progress: Any) -> list[Comparison]:
        return [Comparison("input", work.schema.name, "nothing beside ours", {OURS: []})]

    def skipping(self, work: Any, effort: Any, progress: Any) -> list[Comparison]:
        effort.skipped.append("grain: not installed (make peers)")
        return []

    def stopped(self, work: Any, effort: Any, progress: Any) -> list[Comparison]:
        raise KeyboardInterrupt


@pytest.fixture
def run_parts(
    synthetic_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, _Parts]]:
    """`run_parts("good bad", *flags)` runs those parts on one set and returns the exit code."""

    def run(names: str, *flags: str) -> tuple[int, _Parts]:
        parts = _Parts()
        monkeypatch.setitem(sys.modules, "fake_parts", cast(Any, parts))
        monkeypatch.setattr(run_module, "PARTS", {n: ("fake_parts", n) for n in names.split()})
        monkeypatch.setattr(run_module, "SUITES", {"input": tuple(names.split())})
        dataset = ["--dataset", "fetal_health/synthetic", "--data-dir", str(synthetic_data_dir)]
        return run_module.main([*dataset, "--output", str(tmp_path / "r.json"), *flags]), parts

    return run


def test_a_part_that_fails_does_not_lose_the_others(
    run_parts: Callable[..., tuple[int, _Parts]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _ = run_parts("bad unreadable skipping good")
    assert code == 1
    printed = capsys.readouterr()
    assert "FAILED: bad, fetal_health/synthetic/1.0.0: ValueError: no such tokens" in printed.out
    assert "skipped: grain: not installed (make peers)" in printed.out
    assert "good: quick peer is faster (2.00 x)" in printed.out
    assert "4 of 4] fetal_health" in printed.err
    result = json.loads((tmp_path / "r.json").read_text())
    assert [f["part"] for f in result["failures"]] == ["bad", "unreadable"]
    assert result["skipped"][0]["part"] == "skipping" and result["complete"]
    assert [c["question"] for c in result["comparisons"]] == ["good"]
    assert [p["part"] for p in result["parts"]] == ["bad", "unreadable", "skipping", "good"]
    assert "no such tokens" in (tmp_path / "r.html").read_text()
    assert not list(tmp_path.glob("*.partial"))


def test_an_interrupted_run_keeps_its_parts_under_another_name(
    run_parts: Callable[..., tuple[int, _Parts]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "r.json").write_text("of an earlier run")
    assert run_parts("good stopped")[0] == 130
    assert "r.json.partial" in capsys.readouterr().err
    assert (tmp_path / "r.json").read_text() == "of an earlier run"
    kept = result_file.read_result(tmp_path / "r.json.partial")
    assert not kept.complete and [c.question for c in kept.comparisons] == ["good"]
    assert run_parts("stopped")[0] == 130
    assert "nothing was written" in capsys.readouterr().err, "a partial file of an earlier run"
    assert run_parts("good")[0] == 0
    assert sorted(f.name for f in tmp_path.iterdir()) == ["r.html", "r.json"]


@pytest.mark.parametrize(
    ("flags", "peers"),
    [
        ([], None),
        (["--peers", "all"], None),
        (["--peers", "none"], ()),
        (["--peers=libjpeg_limit"], ("libjpeg_limit",)),
    ],
)
def test_peers_reach_the_parts(
    run_parts: Callable[..., tuple[int, _Parts]], flags: list[str], peers: Any
) -> None:
    code, parts = run_parts("good", *flags)
    assert code == 0
    assert [effort.peers for effort in parts.efforts] == [peers]


@pytest.mark.parametrize("wrong", ["no_such_library", "all,none", ","])
def test_unknown_peers_are_an_error_that_names_the_known(
    wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        run_module.parse_arguments(["--peers", wrong])
    assert raised.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "libjpeg_limit" in error and "all, none, or some of" in error


def test_a_missing_set_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset=no_such_set", "--quick", f"--data-dir={tmp_path}"]
    assert run_module.main([*flags, f"--output={tmp_path / 'result.json'}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: data set: no prepared set 'no_such_set'")
    assert not (tmp_path / "result.json").exists()
