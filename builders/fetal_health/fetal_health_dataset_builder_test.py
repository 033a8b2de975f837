"""Builds the fetal health set from dummy, generated, damaged and real files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds

from builders.fetal_health import fetal_health_dataset_builder, synthetic, table
from records.sets import fingerprint

DUMMY_CSV = Path(__file__).parent / "dummy_data" / table.FILE_NAME


class FetalHealthTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = fetal_health_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["kaggle"]
    SPLITS = {"train": 33, "test": 8}


def _build(data_dir: Path, manual_dir: Path | None, config: str = "kaggle", **request: Any) -> Any:
    builder = fetal_health_dataset_builder.Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, **request)
    )
    return builder


def _rows(builder: Any) -> list[dict[str, Any]]:
    return [
        row
        for split in builder.info.splits
        for row in tfds.as_numpy(builder.as_dataset(split=split))
    ]


def test_stored_rows_equal_the_file(tmp_path: Path) -> None:
    frame = pd.read_csv(DUMMY_CSV)
    expected = {
        f"row-{i + 1:06d}": (row[:21].astype(np.float32), int(row[21]) - 1)
        for i, row in enumerate(frame.to_numpy(np.float64))
    }
    received = _rows(_build(tmp_path, DUMMY_CSV.parent))
    assert len(received) == len(expected)
    for row in received:
        features, label = expected[row["id"].decode()]
        np.testing.assert_array_equal(row["features"], features)
        assert row["label"] == label


def test_split_is_stratified_and_keeps_equal_rows_together() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(0, 12, (600, 2)).astype(np.float32)  # many equal rows
    labels = (features[:, 0] % 3).astype(np.int64)
    is_test = table.split_rows(features, labels)
    assert not set(map(bytes, features[is_test])) & set(map(bytes, features[~is_test]))
    for label in range(3):
        assert abs(is_test[labels == label].mean() - 0.2) < 0.02


def test_split_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(1)
    features, labels = rng.random((200, 3), np.float32), rng.integers(0, 3, 200)
    order = rng.permutation(200)
    expected = table.split_rows(features, labels)[order]
    np.testing.assert_array_equal(table.split_rows(features[order], labels[order]), expected)


def test_two_builds_are_byte_identical(tmp_path: Path) -> None:
    shards = [
        fingerprint.read_fingerprint(_build(tmp_path / d, None, "synthetic").data_dir)
        for d in ("a", "b")
    ]
    assert shards[0] is not None and shards[1] is not None
    assert shards[0]["content"] == shards[1]["content"]


def test_synthetic_has_the_shape_of_the_real_file(tmp_path: Path) -> None:
    builder = _build(tmp_path, None, "synthetic")
    metadata = builder.info.metadata
    assert metadata["generated"] is True
    assert metadata["class_counts"] == {"normal": 1655, "suspect": 295, "pathological": 176}
    assert metadata["feature_names"] == list(table.FEATURE_NAMES)
    assert {n: s.num_examples for n, s in builder.info.splits.items()} == {
        "train": 1701,
        "test": 425,
    }
    assert all(s.num_shards == 4 for s in builder.info.splits.values())
    synthetic.write_csv(tmp_path)
    text = (tmp_path / table.FILE_NAME).read_text(encoding="utf-8").splitlines()
    assert len(text) - 1 - len(set(text[1:])) == synthetic.REPEATS
    assert text[1].endswith((".0", ".000"))


@pytest.mark.real_data
def test_real_file(shared_data: Path, tmp_path: Path) -> None:
    builder = _build(tmp_path, shared_data / "fetal_health")
    sizes = {n: s.num_examples for n, s in builder.info.splits.items()}
    assert sizes in ({"train": 1701, "test": 425}, {"train": 1700, "test": 426})
    counts = np.array([builder.info.metadata["class_counts"][n] for n in table.LABEL_NAMES])
    np.testing.assert_allclose(
        counts.sum() / (3 * counts), [0.4282, 2.4023, 4.0265], rtol=0, atol=5e-5
    )


def _edit(line: int, column: str, value: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[line - 2, column] = value
        return frame

    return edit


BAD_TABLES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], list[str]]] = {
    "missing column": (
        lambda f: f.drop(columns="histogram_mode"),
        ["line 1", "missing: ['histogram_mode']"],
    ),
    "unexpected column": (
        lambda f: f.assign(extra="1"),
        ["line 1", "unexpected: ['extra']"],
    ),
    "empty value": (
        _edit(9, "accelerations", ""),
        ["line 9", "'accelerations'", "a finite number", "received ''"],
    ),
    "NaN": (_edit(3, "histogram_max", "NaN"), ["line 3", "'histogram_max'", "received 'NaN'"]),
    "infinity": (_edit(4, "histogram_max", "inf"), ["line 4", "received 'inf'"]),
    "text": (
        _edit(5, "baseline value", "high"),
        ["line 5", "'baseline value'", "received 'high'"],
    ),
    "label 4": (
        _edit(7, "fetal_health", "4.0"),
        ["line 7", "'fetal_health'", "1 (normal), 2 (suspect) or 3", "received '4.0'"],
    ),
    "label 1.5": (_edit(7, "fetal_health", "1.5"), ["line 7", "received '1.5'"]),
    "no rows": (lambda f: f.head(0), ["line 2", "received none"]),
}


def _assert_nothing_written(data_dir: Path) -> None:
    left = [p for p in data_dir.rglob("*") if p.is_file() and p.parent.name != ".config"]
    assert not left, f"expected no files in {data_dir}, received {left}"


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_table_is_refused_and_nothing_written(name: str, tmp_path: Path) -> None:
    edit, words = BAD_TABLES[name]
    source, data_dir = tmp_path / "source", tmp_path / "data"
    source.mkdir()
    frame = pd.read_csv(DUMMY_CSV, dtype=str)
    edit(frame).to_csv(source / table.FILE_NAME, index=False)
    with pytest.raises(ValueError, match="builders/fetal_health: ") as error:
        _build(data_dir, source)
    for word in [table.FILE_NAME, "expected", "received", *words]:
        assert word in str(error.value)
    _assert_nothing_written(data_dir)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["line 1", "an empty file"]),
        (b"a,b\n1,2\n1,2,3\n", ["cannot be read", "line 3"]),
        (b"a,b\n1,2,3\n", ["line 2", "received more"]),
        (b"\xff\xfe\x00,\x80\n1,2\n", ["line 1", "expected text in UTF-8"]),
    ],
)
def test_file_that_is_no_table_is_refused(content: bytes, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / table.FILE_NAME
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        table.read_table(path)
    assert all(word in str(error.value) for word in [str(path), *words])


def test_blank_lines_keep_line_numbers_right(tmp_path: Path) -> None:
    lines = DUMMY_CSV.read_text(encoding="utf-8").splitlines()
    path = tmp_path / table.FILE_NAME
    path.write_text("\n".join([*lines[:3], "", *lines[3:], "", ""]), encoding="utf-8")
    assert len(table.read_table(path).labels) == len(lines) - 1
    bad = lines[3].split(",")
    path.write_text("\n".join([*lines[:3], "", ",".join(["x", *bad[1:]])]), encoding="utf-8")
    with pytest.raises(ValueError, match="line 5, column 'baseline value'"):
        table.read_table(path)


@pytest.mark.parametrize(
    ("before", "separator"), [("", ";"), ("", "\t"), ("", "|"), ("sep=;\n", ";")]
)
def test_other_separators_give_the_same_table(before: str, separator: str, tmp_path: Path) -> None:
    text, path = DUMMY_CSV.read_text(encoding="utf-8"), tmp_path / table.FILE_NAME
    first, _, rest = text.partition("\n")
    header = first.replace("fetal_movement", " fetal_movement ")
    path.write_text(f"\ufeff{before}{header}\n{rest}".replace(",", separator), encoding="utf-8")
    found, expected = table.read_table(path), table.read_table(DUMMY_CSV)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.lines, expected.lines + bool(before))


def test_decimal_commas_are_named(tmp_path: Path) -> None:
    path = tmp_path / table.FILE_NAME
    german = DUMMY_CSV.read_text(encoding="utf-8").replace(",", ";").replace(".", ",")
    path.write_text(german, encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2, .*'\d+,\d+' \(write decimals with a point"):
        table.read_table(path)
