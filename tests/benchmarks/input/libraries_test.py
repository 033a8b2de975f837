"""The framework that compares with other libraries, with a peer of a few lines in their place."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.input import external, libraries, peer_files
from benchmarks.input.library_list import COLD, LOOPED, WARM, Library
from benchmarks.measuring import equal_work, work
from benchmarks.measuring.comparison import OURS, Comparison
from benchmarks.peers import protocol
from records.decoding.indexing import read_index
from records.shards.index import RecordReader

# Does the work, or does it wrong in the way that `fault` names.
_PEER = f"""
import os, sys, time
sys.path.insert(0, {str(external.PEERS)!r})
import numpy as np
from pillow_picture import decode
from protocol import serve
from source_files import pad, read_examples

def prepare(request):
    fault, size, shape = request["fault"], 64, request["input_shape"]
    if fault == "starts":
        raise OSError("no shards here")
    inputs, labels = zip(*read_examples(request))
    labels = np.array(labels)
    if request["modality"] == "image":
        inputs = [decode(data, shape) for data in inputs]
    stack = pad if request["modality"] == "tokens" else np.stack
    if fault == "inputs":
        inputs = [x[::-1].copy() for x in inputs]
    if fault == "labels":
        labels = np.zeros_like(labels)
    if fault == "swapped":
        labels = np.roll(labels, 1)
    if fault == "doubled":
        twin = next(i for i in range(1, len(labels)) if labels[i] == labels[0])
        inputs = [inputs[twin], *inputs[1:]]
    epochs = []

    def epoch():
        epochs.append(1)
        if fault == "hangs":
            time.sleep(60)
        if fault == "dies" and len(epochs) > 2:
            os._exit(1)
        end = len(labels) - 1 if fault == "lost" else len(labels)
        for start in np.random.permutation(range(0, end, size)).tolist():
            rows = slice(start, min(start + size, end))
            batch = stack(inputs[rows])
            yield batch.astype(np.float64) if fault == "dtype" else batch, labels[rows]

    return epoch

serve(prepare)
"""
# What is said of each; "" for what depends on the inputs.
_FAULTS = {
    "starts": "no shards here",
    "lost": "expected {n} examples with label counts .*, received {less} with",
    "labels": r"received {n} with \[{n}\]",
    "dtype": "expected {dtype} .*, received float64",
    "dies": "ended, no message",
    "doubled": "",
    "inputs": "",
    "swapped": "",
}
_EQUAL = {
    "image": "within 40 dB of ours of the same label, received one of",
    "tabular": "expected all {n} examples with their labels, received",
    "tokens": "expected all {n} examples with their labels, received",
}
_SHORT = dataclasses.replace(work.QUICK, seconds=0.05, thorough=True)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Library]:
    """Installs the fake peer; makes the library with a fault."""
    python = tmp_path / "environments" / "fake" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "fake.py").write_text(_PEER)
    monkeypatch.setattr(external, "PEERS", tmp_path)
    monkeypatch.setattr(external, "ENVIRONMENTS", tmp_path / "environments")

    def make(fault: str, **more: Any) -> Library:
        settings: dict[str, Any] = {"goals": {COLD: 0.001, WARM: None}, "file": "fake"} | more
        kinds = ("image", "tabular", "tokens")
        return Library(fault, modalities=kinds, changes={"fault": fault}, **settings)

    return make


def _open(data_dir: Path, name: str) -> work.Work:
    return work.open_work(work.choose_set(f"{name}/synthetic", str(data_dir)))


def _measure(one: work.Work, effort: Any = _SHORT) -> list[Comparison]:
    effort.skipped.clear()
    with work.view(one) as fresh:
        return libraries.measure_libraries(fresh, effort, lambda text: None)


@pytest.mark.parametrize(
    "name",
    [n if n == "fetal_health" else pytest.param(n, marks=pytest.mark.slow) for n in work.DATASETS],
)
def test_a_peer_that_does_other_work_is_named_and_spoils_nothing(
    synthetic_data_dir: Path, name: str, fake: Any, monkeypatch: Any
) -> None:
    """Quick, of pictures: the comparison alone, below; texts are compared as rows are."""
    one = _open(synthetic_data_dir, name)
    # Pictures and texts differ in the comparison of inputs alone.
    faults = _FAULTS if name == "fetal_health" else {"inputs": "", "swapped": ""}
    right = fake("right", goals={COLD: 0.001, WARM: None, LOOPED: 0.5})
    absent = fake("absent", file="absent")
    monkeypatch.setattr(libraries, "LIBRARIES", (*map(fake, faults), right, absent))
    found = _measure(one)
    count = min(_SHORT.most_examples.get(one.schema.modality, one.num_examples), one.num_examples)
    said = "\n".join(_SHORT.skipped)
    assert "absent: not installed (make peers)" in _SHORT.skipped
    for fault, words in faults.items():
        words = words or _EQUAL[one.schema.modality]
        pattern = words.format(n=count, less=count - 1, dtype=one.input_dtype)
        assert re.search(rf"{fault}: failed: .*{pattern}", said), (fault, said)
    assert [c.title for c in found] == ["cold: right", "warm: right", "step loop: right"]
    for comparison in found:
        _check_comparison(comparison, count)
    assert [c.goal for c in found] == [0.001, None, 0.5]
    assert "keeps nothing" in found[1].note and "keeps nothing" not in found[0].note


def _check_comparison(comparison: Comparison, count: int) -> None:
    assert set(comparison.samples) == {OURS, comparison.beside}
    for samples in comparison.samples.values():
        assert len(samples) == 2
        assert all(s.examples % count == 0 and s.seconds > 0 for s in samples)
    other = comparison.samples[comparison.beside][0]
    assert other.examples == comparison.details["epochs_per_repetition"] * count
    check = comparison.details["check"]
    assert check.get("share_equal") == 1 or check["least_psnr"] > 40
    json.dumps(comparison.to_dict(), allow_nan=False)


def test_one_that_does_not_answer_is_ended(
    synthetic_data_dir: Path, fake: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(external, "_EPOCHS_SECONDS", 1.0)
    monkeypatch.setattr(libraries, "LIBRARIES", (fake("hangs"),))
    assert _measure(_open(synthetic_data_dir, "fetal_health")) == []
    assert "hangs: failed: benchmarks/peers/fake: no answer in 1 s" in _SHORT.skipped[0]


def test_only_the_peers_asked_for_run(
    synthetic_data_dir: Path, fake: Any, monkeypatch: Any
) -> None:
    other = fake("starts", file="other")
    monkeypatch.setattr(libraries, "LIBRARIES", (other, fake("right")))
    asked = dataclasses.replace(_SHORT, peers=("fake",), skipped=[])
    found = _measure(_open(synthetic_data_dir, "fetal_health"), asked)
    assert [c.title for c in found] == ["cold: right", "warm: right"]
    assert not asked.skipped


def test_quick_runs_take_one_way_of_each_library(
    synthetic_data_dir: Path, fake: Any, monkeypatch: Any
) -> None:
    ways = (fake("right"), fake("doubled"), fake("absent", file="absent"))
    monkeypatch.setattr(libraries, "LIBRARIES", ways)
    quick = dataclasses.replace(_SHORT, thorough=False, skipped=[])
    found = _measure(_open(synthetic_data_dir, "fetal_health"), quick)
    assert [c.title for c in found] == ["cold: right", "warm: right"]
    assert quick.skipped == ["absent: not installed (make peers)"]


def test_pictures_are_looked_for_in_both_directions() -> None:
    ours = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1)).astype(np.uint8)
    labels = np.repeat([0, 1], 6)
    mixed = np.random.default_rng(1).permutation(12)
    same = equal_work.check_equal("x", ours[mixed], labels[mixed], (ours, labels), 40)
    assert same == {"least_psnr": "equal"}
    colour = np.repeat(ours, 3, -1)
    assert equal_work.check_equal("x", colour, labels, (ours, labels), 40)["least_psnr"] == "equal"
    with pytest.raises(ValueError, match="x expected pictures within 40 dB"):
        equal_work.check_equal("x", ours, np.roll(labels, 1), (ours, labels), 40)
    doubled = ours[[0, 0, *range(2, 12)]]
    with pytest.raises(ValueError, match="x expected pictures within 40 dB"):
        equal_work.check_equal("x", doubled, labels, (ours, labels), 40)
    assert equal_work.check_equal("x", doubled, labels, (ours, labels), 0)["least_psnr"] < 20


def test_rows_are_compared_with_their_labels() -> None:
    ours = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1])
    mixed = np.array([5, 2, 1, 0, 3, 4])
    same = equal_work.check_equal("x", ours[mixed], labels[mixed], (ours, labels))
    assert same == {"share_equal": 1.0}
    for rows, classes in (
        (ours, labels[::-1]),
        (ours[[0, 0, 2, 3, 4, 5]], labels),
        (-ours, labels),
    ):
        with pytest.raises(ValueError, match="x expected all 6 examples with their labels"):
            equal_work.check_equal("x", rows, classes, (ours, labels))


def test_what_was_read_ahead_is_dropped_over_several_epochs() -> None:
    batch = (np.zeros(2), np.zeros(2))
    stream = iter([batch] * 10)
    protocol._drop(lambda: itertools.islice(stream, 3), 8)
    assert len(list(stream)) == 2
    with pytest.raises(ValueError, match="at least one batch, received none"):
        protocol._drop(lambda: iter(()), 1)


def test_a_short_set_holds_the_first_records(synthetic_data_dir: Path, tmp_path: Path) -> None:
    whole = _open(synthetic_data_dir, "fetal_health")
    half = whole.num_examples // 2
    short = dataclasses.replace(_SHORT, most_examples={"tabular": half})
    with work.shortened(whole, short) as part:
        assert part.num_examples == half
        for one in (whole, part):
            folder = tmp_path / str(one.num_examples)
            folder.mkdir()
            request = peer_files.write_files(one, folder)
            found = list(tf.data.TFRecordDataset(request["shards"]).as_numpy_iterator())
            assert len(found) == request["count"] == one.num_examples
            assert len(np.load(folder / "labels.npy")) == len(np.load(folder / "features.npy"))
            cut = []
            for shard, index in zip(request["shards"], request["indexes"], strict=True):
                data = Path(shard).read_bytes()
                for line in Path(index).read_text().splitlines():
                    offset, size = map(int, line.split())
                    cut.append(data[offset + 12 : offset + size - 4])
            assert cut == found
        assert cut == _read_records(whole)[:half]
    with work.shortened(whole, _SHORT) as same:
        assert same is whole


def _read_records(one: work.Work) -> list[bytes]:
    index = read_index(one.schema, one.split)
    return RecordReader(index).read(np.arange(index.num_records)).tolist()
