"""What the builders' base adds to TFDS: refusals, kept copies, shard counts, cleaning."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tensorflow_datasets as tfds

from builders import sources, storage
from builders.fetal_health import fetal_health_dataset_builder, table
from builders.song_lyrics import song_lyrics_dataset_builder
from records.sets import fingerprint
from tests.support.forks import fork
from tests.support.runs import finish

REPOSITORY = Path(__file__).resolve().parents[2]
DUMMY = REPOSITORY / "builders" / "fetal_health" / "dummy_data"
LYRICS = REPOSITORY / "builders" / "song_lyrics" / "dummy_data"
REBUILD = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS  # what --overwrite asks for


def _builder(data_dir: Path, config: str = "kaggle", **kwargs: Any) -> Any:
    return fetal_health_dataset_builder.Builder(data_dir=data_dir, config=config, **kwargs)


def _build(data_dir: Path, manual_dir: Path | None = DUMMY, **request: Any) -> Any:
    builder = _builder(data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, **request)
    )
    return builder


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    return _build(tmp_path / "data")


def _content(builder: Any) -> str:
    return fingerprint.check_shards(builder.data_dir).content


def test_set_opens_by_directory_with_its_metadata_and_index(prepared: Any) -> None:
    opened = tfds.builder_from_directory(prepared.data_dir)
    assert opened.info.metadata["class_counts"] == {"normal": 21, "suspect": 10, "pathological": 10}
    for key in ("input_feature", "label_feature", "id_feature", "group_feature", "dropped"):
        assert key in opened.info.metadata
    names = {p.name for p in Path(prepared.data_dir).iterdir()}
    assert {"fingerprint.json", "train.index.npz", "test.index.npz"} <= names


def test_what_stands_in_the_place_of_a_source_is_named(tmp_path: Path) -> None:
    """A file for the folder, and what is no file for the file: a pipe would be read for ever."""
    with pytest.raises(FileNotFoundError, match="a file, not a directory: name the one that holds"):
        _build(tmp_path / "data", DUMMY / table.FILE_NAME)
    source = tmp_path / "source"
    source.mkdir()
    link = source / table.FILE_NAME
    link.symlink_to("/nowhere/table.csv")
    expected = r"missing:  fetal_health.csv \(a link to nothing \(/nowhere/table.csv\) stands there"
    with pytest.raises(FileNotFoundError, match=expected):
        _build(tmp_path / "data", source)
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(FileNotFoundError, match="a pipe or a device stands there"):
        _build(tmp_path / "data", source)
    link.unlink()
    link.mkdir()
    with pytest.raises(FileNotFoundError, match="a folder stands there"):
        _build(tmp_path / "data", source)


def test_no_more_shards_than_examples(tmp_path: Path) -> None:
    builder = _build(tmp_path, num_shards=100_000)
    assert {n: s.num_shards for n, s in builder.info.splits.items()} == {"train": 33, "test": 8}
    assert sum(1 for _ in builder.as_dataset(split="train")) == 33


@pytest.mark.parametrize(
    "request_",
    [{"max_shard_size": 1 << 20}, {"min_shard_size": 1}, {"num_shards": -1}],
)
def test_refused_request_leaves_the_old_copy(prepared: Any, request_: dict[str, Any]) -> None:
    content, data_dir = _content(prepared), prepared.data_dir_root
    # The order of `tfds build --overwrite`: delete, make a builder, prepare.
    prepared.data_path.rmtree()
    assert not prepared.is_prepared()
    with pytest.raises(ValueError, match=r"builders/fetal_health: .*num_shards"):
        _build(data_dir, download_mode=REBUILD, **request_)
    assert _content(prepared) == content


def test_other_file_formats_are_refused_before_anything_is_done(prepared: Any) -> None:
    for name in ("parquet", "array_record", "riegeli"):
        with pytest.raises(ValueError, match=f"expected tfrecord, received {name}"):
            _builder(prepared.data_dir_root, file_format=name)
        with pytest.raises(ValueError, match=f"expected tfrecord, received {name}"):
            prepared.download_and_prepare(file_format=name)
    assert _content(prepared)
    assert _builder(prepared.data_dir_root, file_format="tfrecord").is_prepared()


def test_failed_overwrite_keeps_the_old_copy(prepared: Any, tmp_path: Path) -> None:
    content, source = _content(prepared), tmp_path / "source"
    source.mkdir()
    (source / table.FILE_NAME).write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="columns expected"):
        _build(prepared.data_dir_root, source, download_mode=REBUILD)
    assert _content(prepared) == content
    assert [p.name for p in Path(prepared.data_dir).parent.iterdir()] == ["1.0.0"]


def test_overwrite_replaces_the_set(prepared: Any) -> None:
    rebuilt = _build(prepared.data_dir_root, download_mode=REBUILD, num_shards=2)
    assert rebuilt.info.splits["train"].num_shards == 2
    assert [p.name for p in Path(prepared.data_dir).parent.iterdir()] == ["1.0.0"]


def test_overwrite_that_was_killed_is_undone_by_the_next_build(prepared: Any) -> None:
    content = _content(prepared)
    storage.set_aside(Path(prepared.data_dir))
    (Path(prepared.data_dir).parent / "incomplete.ABC123_1.0.0").mkdir()
    rebuilt = _build(prepared.data_dir_root, manual_dir=None)  # no source is needed
    assert _content(rebuilt) == content
    assert rebuilt.info.splits["train"].num_examples == 33
    assert [p.name for p in Path(prepared.data_dir).parent.iterdir()] == ["1.0.0"]


def test_leftovers_of_killed_builds_are_removed(prepared: Any) -> None:
    parent = Path(prepared.data_dir).parent
    (parent / "incomplete.ABC123_1.0.0").mkdir()
    (parent / "incomplete.ABC123_2.0.0").mkdir()  # another version may be under construction
    _build(prepared.data_dir_root, download_mode=REBUILD)
    assert sorted(p.name for p in parent.iterdir()) == ["1.0.0", "incomplete.ABC123_2.0.0"]


def test_two_builds_of_one_set_keep_apart(tmp_path: Path) -> None:
    directory = tmp_path / "fetal_health" / "kaggle"
    directory.mkdir(parents=True)
    hold = (
        "import sys; from pathlib import Path; from builders import storage\n"
        "with storage.lock(Path(sys.argv[1]), 'other'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(directory)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match="another build writes to"):
            _build(tmp_path)
        other.stdin.close()
    assert _build(tmp_path).is_prepared()


def test_prepared_set_says_what_it_cannot_do(prepared: Any) -> None:
    with pytest.raises(ValueError, match="already prepared; --num_shards expected 3 shards"):
        _build(prepared.data_dir_root, num_shards=3)
    with pytest.raises(ValueError, match="already prepared; --max_examples_per_split"):
        _build(prepared.data_dir_root, max_examples_per_split=3)
    with mock.patch.object(fetal_health_dataset_builder.Builder, "report") as report:
        _build(prepared.data_dir_root, num_shards=4)
    assert "already prepared" in report.call_args.args[0]
    # The whole command, from here: with the path of the builder, and of its files.
    command = report.call_args.args[0].partition("To build it anew: ")[2]
    assert shlex.split(command) == [
        *("tfds", "build", "builders/fetal_health", "--config", "kaggle"),
        *("--manual_dir", str(DUMMY), "--data_dir", str(prepared.data_dir_root), "--overwrite"),
    ]


def test_damaged_metadata_name_the_folder_to_remove(tmp_path: Path) -> None:
    version = fetal_health_dataset_builder.Builder.VERSION
    folder = tmp_path / "fetal_health" / "kaggle" / str(version)
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=f"{folder}/dataset_info.json .* Remove that folder"):
        fetal_health_dataset_builder.Builder(config="kaggle", data_dir=tmp_path)


def test_an_edited_builder_is_not_used_without_a_word(prepared: Any) -> None:
    with mock.patch("builders.base.logging.warning") as warning:
        _build(prepared.data_dir_root)
        warning.assert_not_called()
        (Path(prepared.data_dir) / "builder.sha256").write_text("of another source")
        _build(prepared.data_dir_root)
    assert "builders/fetal_health was edited after" in warning.call_args.args[2]
    assert "--overwrite, or give the builder a new VERSION" in warning.call_args.args[2]


def test_prepared_set_is_used_without_writing(prepared: Any) -> None:
    with (
        mock.patch.object(storage, "check_writable", side_effect=OSError("read-only")),
        mock.patch.object(storage, "lock", side_effect=OSError("read-only")),
    ):
        loaded = tfds.load("fetal_health/kaggle", data_dir=prepared.data_dir_root, split="train")
        _build(prepared.data_dir_root)
    assert len(loaded) == 33


def test_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"builders/fetal_health: expected a data directory .* --data_dir"
    ):
        _build(tmp_path / "file" / "data")


def test_missing_files_give_one_error_that_names_every_way(tmp_path: Path) -> None:
    with (
        mock.patch.object(sources, "_kaggle_obstacle", return_value="no command"),
        pytest.raises(FileNotFoundError) as error,
    ):
        _build(tmp_path, manual_dir=None)
    for word in (table.FILE_NAME, "kaggle.com/datasets/", "--manual_dir", "token", "no command"):
        assert word in str(error.value)


def test_wrong_folder_points_at_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"they are in .*dummy_data"):
        _build(tmp_path, manual_dir=DUMMY.parent)


def test_kaggle_is_asked_only_without_a_manual_directory(tmp_path: Path) -> None:
    manager = "tensorflow_datasets.core.download.DownloadManager.download_kaggle_data"
    with (
        mock.patch.object(sources, "_kaggle_obstacle", return_value=None),
        mock.patch(manager, return_value=DUMMY) as download,
    ):
        with pytest.raises(FileNotFoundError, match="not asked"):
            _build(tmp_path, manual_dir=tmp_path)
        download.assert_not_called()
        assert _build(tmp_path, manual_dir=None).is_prepared()
        download.assert_called_once_with("andrewmvd/fetal-health-classification")


def test_failed_kaggle_download_is_explained(tmp_path: Path) -> None:
    manager = "tensorflow_datasets.core.download.DownloadManager.download_kaggle_data"
    with (
        mock.patch.object(sources, "_kaggle_obstacle", return_value=None),
        mock.patch(manager, side_effect=RuntimeError("no network")),
        pytest.raises(FileNotFoundError, match=r"could not download .*no network"),
    ):
        _build(tmp_path, manual_dir=None)


def test_builds_of_two_processes_are_byte_identical(tmp_path: Path) -> None:
    # Two processes, because hash seeds and address layouts differ between processes only. The other
    # is forked, but not from this one: its seed is that of an interpreter that began by itself.
    hashed = fork("-c", "print(hash('seed'))")
    assert int(finish(hashed)[0]) != hash("seed")
    command = ["-m", "tensorflow_datasets.scripts.cli.main", "build"]
    command += ["builders/song_lyrics", "--config=kaggle", f"--manual_dir={LYRICS}"]
    finish(fork(*command, f"--data_dir={tmp_path / 'other'}"))
    builder = song_lyrics_dataset_builder.Builder(data_dir=tmp_path / "this", config="kaggle")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=LYRICS))
    folder = Path(builder.data_dir)
    other = tmp_path / "other" / folder.relative_to(tmp_path / "this")
    kept = [*folder.glob("*.tfrecord*"), *folder.glob("*.txt"), *folder.glob("*.npz")]
    assert len(kept) > 10
    for path in kept:
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name
