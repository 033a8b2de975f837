"""Batches against TFDS's own reader: same examples, each once, in an order that is a promise."""

import collections
import dataclasses
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

import records
from records.decoding.decode import decode_pictures
from records.decoding.input_config import InputConfig
from records.examples import Examples
from records.loading.cache import Filling
from records.ordering.order import Order
from records.pipeline import make_chunks
from records.roles import Data, open_data

SIZES = InputConfig(image_size=64, sequence_length=40, vocab_size=500)
SETS = ["fetal_health/synthetic", "brain_tumor_mri/synthetic", "song_lyrics/synthetic"]


@pytest.fixture(scope="module", params=SETS)
def data(request: Any, synthetic_data_dir: Path) -> Data:
    return open_data(request.param, str(synthetic_data_dir), SIZES)


def _inputs(examples: Examples) -> np.ndarray:
    assert examples.inputs is not None
    return examples.inputs


def _rows(dataset: tf.data.Dataset) -> list[tuple[bytes, int]]:
    """(input bytes, label) of every row, those that pad a batch left out."""
    return [
        (x.tobytes(), int(y))
        for xs, ys, *weights in dataset.as_numpy_iterator()
        for x, y, w in zip(xs, ys, weights[0] if weights else np.ones(len(ys)), strict=True)
        if w
    ]


def _equal(left: Any, right: Any) -> bool:
    """Two sequences of batches hold the same arrays."""
    return all(
        np.array_equal(x, y)
        for a, b in zip(left, right, strict=True)
        for x, y in zip(a, b, strict=True)
    )


def test_every_example_of_a_split_exactly_once_per_epoch(data: Data) -> None:
    for role in data.roles():
        examples = data.examples(role)
        expected = collections.Counter(
            (_inputs(examples)[n].tobytes(), int(examples.split_labels[n]))
            for n in examples.numbers
        )
        for pad in (False, True):
            batches = records.make_dataset(data, role, global_batch_size=24, pad=pad)
            for epoch in range(2):
                assert collections.Counter(_rows(batches)) == expected, (role, pad, epoch)


def test_a_pass_is_one_epoch_in_an_order_of_its_own(data: Data) -> None:
    count = data.examples("train").num_examples
    batches = records.make_dataset(data, "train", global_batch_size=24, seed=3)
    passes = [list(batches.as_numpy_iterator()) for _ in range(3)]
    for number, found in enumerate(passes):
        assert [len(labels) for _, labels in found] == [24] * (count // 24) + [count % 24]
        arrays = records.make_arrays(
            data, "train", global_batch_size=24, seed=3, start=(number, 0), epochs=number + 1
        )
        assert _equal(found, arrays)
    assert not _equal(passes[0], passes[1]) and not _equal(passes[1], passes[2])
    assert len(batches) == len(passes[0]) == -(-count // 24)
    later = records.make_dataset(data, "train", global_batch_size=24, seed=3, first_epoch=2)
    assert _equal(later.as_numpy_iterator(), passes[2])
    test = records.make_dataset(data, "test", global_batch_size=24)
    assert _equal(test.as_numpy_iterator(), test.as_numpy_iterator()), "evaluation keeps its order"


def test_damaged_records_are_left_out_or_have_weight_0(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = data.examples("test")
    damaged = np.zeros(len(examples.split_labels), bool)
    damaged[[0, 30, 31]] = True
    index = dataclasses.replace(examples.index, damaged=damaged)
    marked = dataclasses.replace(examples, index=index)
    monkeypatch.setattr(Data, "examples", lambda *_: marked)
    labels = np.concatenate([y for _, y in records.make_dataset(data, "test")])
    assert np.array_equal(labels, np.delete(examples.split_labels, [0, 30, 31]))
    _, whole, weights = map(np.concatenate, zip(*records.make_dataset(data, "test", pad=True)))
    assert np.array_equal(whole[: len(damaged)], examples.split_labels)
    assert np.array_equal(weights[: len(damaged)] == 0, damaged)


def test_only_the_pass_that_decodes_calls_python_for_each_batch(
    synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Calls that found nothing missing made pictures of 224 pixels read at 0.6 of the speed.
    ensure = mock.Mock(side_effect=Filling.ensure, autospec=True)
    monkeypatch.setattr(Filling, "ensure", lambda self, numbers: ensure(self, numbers))
    options: dict[str, Any] = {"global_batch_size": 16, "seed": 3}
    for pad in False, True:
        data = open_data("brain_tumor_mri/synthetic", str(synthetic_data_dir), SIZES)
        batches = records.make_dataset(data, **options, pad=pad)
        ensure.reset_mock()
        passes = [list(batches.as_numpy_iterator()) for _ in range(3)]
        # What validation takes from the same split stays undecoded, and does not count.
        assert ensure.call_count == len(passes[0])
        arrays = records.make_arrays(data, **options, epochs=3, pad=pad)
        assert _equal(itertools.chain(*passes), arrays)


def test_passes_side_by_side_are_two_epochs(data: Data) -> None:
    options: dict[str, Any] = {"global_batch_size": 16, "seed": 3}
    batches = records.make_dataset(data, **options)
    pairs = list(tf.data.Dataset.zip((batches, batches)))
    both = [pair[i] for i in range(2) for pair in pairs]
    assert _equal(both, records.make_arrays(data, **options, epochs=2))


def test_no_pass_waits_for_the_thread_that_tunes(data: Data) -> None:
    # With it the end of 11 of 60 short passes came 5 to 90 ms late.
    batches = records.make_dataset(data)
    assert not batches.options().autotune.enabled
    # What a user adds still works, and may be tuned.
    tuned = tf.data.Options()
    tuned.autotune.enabled = True
    added = batches.map(lambda x, y: y, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    assert sum(map(len, added)) == data.examples("train").num_examples
    assert added.with_options(tuned).options().autotune.enabled


def test_labels_and_counts_are_those_of_tfds(data: Data, synthetic_data_dir: Path) -> None:
    name = "/".join(data.schema.name.split("/")[:2])
    for split in data.schema.split_counts:
        reference = [
            int(e["label"])
            for e in tfds.as_numpy(tfds.load(name, split=split, data_dir=str(synthetic_data_dir)))
        ]
        roles = ["train", "validation"] if split == "train" else [split]
        if "validation" in data.schema.split_counts:
            roles = [split]
        ours = [label for role in roles for _, label in _rows(records.make_dataset(data, role))]
        assert sorted(ours) == sorted(reference)


def test_tables_are_bitwise_those_of_tfds(synthetic_data_dir: Path) -> None:
    ours = records.make_dataset("fetal_health/synthetic", "test", data_dir=str(synthetic_data_dir))
    reference = tfds.load("fetal_health/synthetic", split="test", data_dir=str(synthetic_data_dir))
    expected = [(e["features"].tobytes(), int(e["label"])) for e in tfds.as_numpy(reference)]
    assert sorted(_rows(ours)) == sorted(expected)


def test_pictures_are_those_of_tf_image_and_close_to_pillow(synthetic_data_dir: Path) -> None:
    data = open_data("brain_tumor_mri/synthetic", str(synthetic_data_dir), SIZES)
    assert data.channels == 1, "every picture of the set is grey"
    examples = data.examples("test")
    builder = tfds.builder_from_directory(data.schema.directory)
    # The split's own order is the index's order.
    plain = builder.as_dataset(
        "test",
        read_config=tfds.ReadConfig(interleave_cycle_length=1),
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    for number, example in enumerate(plain.take(12).as_numpy_iterator()):
        options: dict[str, Any] = {"channels": 3, "dct_method": "INTEGER_ACCURATE"}
        pixels = tf.io.decode_jpeg(example["image"], **options)
        resized = tf.image.resize(pixels, [64, 64])
        reference = tf.cast(tf.round(resized), tf.uint8)[..., :1].numpy()
        ours = _inputs(examples)[number]
        assert np.abs(ours.astype(int) - reference).max() <= 1  # fixed point against float
        picture = Image.fromarray(pixels.numpy()).convert("L")
        assert _psnr(ours[..., 0], _pillow_bilinear(picture)) > 40
        _check_exact(pixels.numpy())


def _check_exact(pixels: np.ndarray) -> None:
    """Decoding itself is exact, in one channel and in three: a square needs no resizing."""
    size = min(pixels.shape[:2])
    file = io.BytesIO()
    Image.fromarray(pixels[:size, :size]).save(file, "JPEG", quality=90)
    options: dict[str, Any] = {"dct_method": "INTEGER_ACCURATE"}
    for channels in (1, 3):
        expected = tf.io.decode_jpeg(file.getvalue(), channels=channels, **options)
        found = decode_pictures([file.getvalue()], size, channels)
        assert np.array_equal(found[0], expected.numpy())


def _pillow_bilinear(picture: Image.Image) -> np.ndarray:
    """Bilinear without antialiasing: an affine transform, which does not filter."""
    width, height = picture.size
    # Pillow's transform reads at pixel centres, as tf.image.resize does.
    matrix = (width / 64, 0, 0, 0, height / 64, 0)
    box = picture.transform((64, 64), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(box)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    inner = (slice(2, -2), slice(2, -2))  # Pillow leaves the border empty where it extrapolates
    error = np.mean((a[inner].astype(float) - b[inner].astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_tokens_are_ranked_by_the_training_examples_and_padded(synthetic_data_dir: Path) -> None:
    data = open_data("song_lyrics/synthetic", str(synthetic_data_dir), SIZES)
    builder = tfds.builder_from_directory(data.schema.directory)
    train = [e["token_ids"] for e in tfds.as_numpy(builder.as_dataset("train"))]
    counts = collections.Counter(int(i) for ids in train for i in ids if i > 1)
    by_rank = sorted(counts, key=lambda i: (-counts[i], i))
    rank = {i: r for r, i in enumerate(by_rank, 2)}
    expected: collections.Counter[tuple[bytes, int]] = collections.Counter()
    for example in tfds.as_numpy(builder.as_dataset("test")):
        ids = [rank.get(int(i), 1) for i in example["token_ids"]][:40]
        row = np.zeros(40, np.int32)
        row[: len(ids)] = [i if i < 500 else 1 for i in ids]
        expected[(row.tobytes(), int(example["label"]))] += 1
    assert collections.Counter(_rows(records.make_dataset(data, "test"))) == expected


@pytest.mark.parametrize("feature", ["token_ids", "text"])
def test_texts_are_padded_to_the_longest_not_further(
    feature: str, synthetic_data_dir: Path
) -> None:
    """A length of 10^6 would take terabytes."""
    name, directory = "song_lyrics/synthetic", str(synthetic_data_dir)
    config = InputConfig(sequence_length=10**6, feature=feature)
    data = open_data(name, directory, config)
    longest = int(data.spec.shape[0])
    train = _inputs(data.examples("train"))
    assert train.shape[1] == longest < 1000 and train[:, -1].any(), "the longest is whole"
    assert _inputs(data.examples("test")).shape[1] == longest
    lengths = data.examples("test").lengths
    assert lengths is not None and lengths.max() <= longest
    shorter = open_data(name, directory, dataclasses.replace(config, sequence_length=7))
    assert shorter.spec.shape == (7,)


def test_vocabulary_and_statistics_ignore_validation_and_test(synthetic_data_dir: Path) -> None:
    data = open_data("fetal_health/synthetic", str(synthetic_data_dir))
    examples = data.examples("train")
    assert len(examples.numbers) < len(_inputs(examples)), "a validation part was cut"
    mean, variance = data.statistics()
    rows = _inputs(examples)[examples.numbers].astype(np.float64)
    assert mean == pytest.approx(rows.mean(0), rel=1e-6)
    assert variance == pytest.approx(rows.var(0), rel=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_reading_without_a_cache_gives_the_same_batches(
    name: str, synthetic_data_dir: Path
) -> None:
    cached = open_data(name, str(synthetic_data_dir), SIZES)
    streamed = open_data(name, str(synthetic_data_dir), dataclasses.replace(SIZES, cache="none"))
    a, b = (records.make_dataset(d, "train", seed=4) for d in (cached, streamed))
    for left, right in zip(a.take(5), b.take(5), strict=True):
        for x, y in zip(left, right, strict=True):
            assert np.array_equal(x, y)


def test_continuing_anywhere_gives_the_batches_of_an_uninterrupted_run(data: Data) -> None:
    options: dict[str, Any] = {"global_batch_size": 16, "seed": 7, "epochs": 3}
    whole = list(records.make_arrays(data, "train", **options))
    steps = len(whole) // 3
    for start in [(0, 5), (1, 0), (2, steps - 1)]:
        rest = list(records.make_arrays(data, "train", start=start, **options))
        expected = whole[start[0] * steps + start[1] :]
        assert len(rest) == len(expected)
        for left, right in zip(rest, expected, strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(left, right, strict=True))


@pytest.mark.parametrize("cache", ["memory", "none"])
@pytest.mark.parametrize("name", SETS)
def test_arrays_are_the_batches_of_the_dataset(
    name: str, cache: str, synthetic_data_dir: Path
) -> None:
    data = open_data(name, str(synthetic_data_dir), dataclasses.replace(SIZES, cache=cache))
    for pad in (False, True):
        options: dict[str, Any] = {"global_batch_size": 12, "seed": 2, "pad": pad}
        options["length_buckets"] = 3
        batches = records.make_dataset(data, "train", **options)
        both = itertools.chain(*(batches.as_numpy_iterator() for _ in range(2)))
        assert _equal(records.make_arrays(data, "train", epochs=2, **options), both)


@pytest.mark.parametrize("make", [records.make_dataset, records.make_arrays])
def test_what_a_first_epoch_left_out_is_decoded_for_the_second(
    synthetic_data_dir: Path, make: Callable[..., Any]
) -> None:
    """Pictures are decoded while the first epoch goes by, which here begins near its end, or is
    left near its beginning.
    """
    found = []
    for cache in ("memory", "none"):
        sizes = dataclasses.replace(SIZES, cache=cache)
        data = open_data("brain_tumor_mri/synthetic", str(synthetic_data_dir), sizes)
        if make is records.make_dataset:
            dataset = make(data, global_batch_size=16)
            batches = [*itertools.islice(dataset, 2), *dataset]
        else:
            last = len(records.make_dataset(data, global_batch_size=16)) - 1
            batches = make(data, global_batch_size=16, epochs=2, start=(0, last))
        found.append([tuple(map(np.asarray, batch)) for batch in batches])
    assert _equal(*found)


def test_reading_without_end_takes_no_more_memory(
    synthetic_data_dir: Path, run_python: Callable[..., str]
) -> None:
    printed = run_python(
        """
import sys, psutil, records
from records.ordering.order import Order
from records.pipeline import make_chunks
config = records.InputConfig(cache="none")
data = records.open_data("fetal_health/synthetic", sys.argv[1], config)
examples = data.examples("train")
order = Order(examples.num_examples, 256)
chunks = make_chunks(examples, order, (0, 0), 1, slice(None))
used = []
for _ in range(3):
    for _ in range(700):
        next(chunks)
    used.append(psutil.Process().memory_info().rss)
print(used[-1] - used[0])
""",
        str(synthetic_data_dir),
    )
    # What is kept of a row took 27 bytes: 9.7 MB for the last 1,400 batches.
    assert int(printed.split()[-1]) < 4 * 2**20


def test_a_batch_is_not_overwritten_while_it_is_held(synthetic_data_dir: Path) -> None:
    data = open_data("brain_tumor_mri/synthetic", str(synthetic_data_dir), InputConfig())
    held = list(records.make_arrays(data, "train", global_batch_size=16, epochs=3))
    copies = [x.copy() for x, *_ in records.make_arrays(data, "train", global_batch_size=16)]
    assert held[0][0].nbytes > 2**17, "large enough to be recycled"
    for (x, *_), copy in zip(held, copies):
        assert np.array_equal(x, copy)


def test_a_process_may_end_with_datasets_half_read(
    synthetic_data_dir: Path, run_python: Callable[..., str]
) -> None:
    printed = run_python(
        """
import os, sys, records
os.dup2(1, 2)
kept = []
for cache in ("memory", "none"):
    for block in (None, 64):
        for make in (records.make_dataset, records.make_arrays):
            options = {"data_dir": sys.argv[1], "shuffle_block": block}
            config = records.InputConfig(cache=cache)
            batches = iter(make("brain_tumor_mri/synthetic", config=config, **options))
            next(batches), next(batches)
            kept.append(batches)
""",
        str(synthetic_data_dir),
    )
    assert "Exception ignored" not in printed


def test_replicas_share_the_batches_of_one(data: Data) -> None:
    examples = data.examples("train")
    order = Order(examples.num_examples, 24, seed=1)

    def chunks(rows: slice, k: int) -> Any:
        chunked = itertools.islice(make_chunks(examples, order, (1, 2), k, rows), 60)
        for chunk in chunked:
            inputs, labels, weights, keys, steps, _lengths = map(np.asarray, chunk)
            width = weights.shape[1]
            for i in range(steps):
                part = slice(i * width, (i + 1) * width)
                yield inputs[part], labels[part], weights[i], keys[i]

    one = list(chunks(slice(0, 24), 1))[:40]
    two = list(zip(chunks(slice(0, 12), 4), chunks(slice(12, 24), 4), strict=True))[:40]
    for whole, halves in zip(one, two, strict=True):
        for column, array in enumerate(whole):
            assert np.array_equal(array, np.concatenate([h[column] for h in halves]))
