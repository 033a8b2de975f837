"""Builds that are killed, crowded out or fed with doubles: the old set or the new, no litter."""

from __future__ import annotations

import csv
import fcntl
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from builders.fetal_health import fetal_health_dataset_builder as fetal_health
from builders.song_lyrics import song_lyrics_dataset_builder as song_lyrics
from builders.song_lyrics import songs, tables
from builders.writing import SourcedKey
from records.sets import fingerprint
from tests.support.faults import record_fault
from tests.support.forks import fork

REPOSITORY = Path(__file__).resolve().parents[2]
DUMMY = REPOSITORY / "builders" / "fetal_health" / "dummy_data"
REBUILD = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS  # what --overwrite asks for


def _build(data_dir: Path, manual_dir: Path | None = DUMMY, **request: Any) -> Any:
    builder = fetal_health.Builder(data_dir=data_dir, config="kaggle")
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, **request)
    builder.download_and_prepare(download_config=config)
    return builder


def _content(builder: Any) -> str:
    return fingerprint.check_shards(builder.data_dir, in_full=True).content


def _folders(data_dir: Path) -> list[str]:
    return sorted(p.name for p in (data_dir / "fetal_health" / "kaggle").iterdir())


# Builds one set over and over, as `tfds build --overwrite` does, with one, two or three shards.
_FOR_EVER = """
import itertools, sys
from pathlib import Path
import tensorflow as tf
import tensorflow_datasets as tfds
from builders.fetal_health import fetal_health_dataset_builder as module

data_dir, manual_dir = sys.argv[1:]
for number in itertools.count():
    builder = module.Builder(data_dir=data_dir, config="kaggle")
    if builder.data_path.exists():
        builder.data_path.rmtree()
    builder = module.Builder(data_dir=data_dir, config="kaggle")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
        manual_dir=manual_dir, num_shards=1 + number % 3,
        download_mode=tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS))
    print("built", number, flush=True)
"""


def _kill_builds(data_dir: Path, kills: int, seed: int) -> Iterator[tuple[str, str]]:
    """Kills builds at random instants; (what lay there, what the next build made of it)."""
    instants = random.Random(seed)
    contents = {_content(_build(data_dir.parent / str(n), num_shards=n)) for n in (1, 2, 3)}
    assert len(contents) == 3
    for _ in range(kills):
        child = fork("-c", _FOR_EVER, data_dir, DUMMY)  # killed, it ends as another does
        while "built 0\n" not in child.printed():
            assert child.poll() is None, child.communicate()
            time.sleep(0.01)
        time.sleep(instants.uniform(0, 1.0))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        lying = _folders(data_dir)
        final, aside = ((data_dir / "fetal_health/kaggle" / n) for n in ("1.0.0", "replaced.1.0.0"))
        stood = fingerprint.check_shards(final if final.exists() else aside, in_full=True).content
        assert stood in contents, "a whole set, whatever the instant"
        rebuilt = _build(data_dir, manual_dir=None)  # no source is needed: it is not built anew
        assert _content(rebuilt) == stood
        assert sum(1 for _ in rebuilt.as_dataset(split="train")) == 33
        assert _folders(data_dir) == ["1.0.0"]
        shown = ["incomplete.*" if n.startswith("incomplete.") else n for n in lying]
        kept = "used as it is" if final.exists() and lying == ["1.0.0"] else "brought back, cleaned"
        yield " + ".join(sorted(shown)), kept


def test_killed_builds_leave_a_whole_set(tmp_path: Path) -> None:
    assert len(list(_kill_builds(tmp_path / "data", 1, seed=1))) == 1
    record_fault(
        "a build --overwrite, kill -9 at any instant",
        "killed builds leave the set itself or replaced.VERSION beside incomplete.XXXXXX_VERSION",
        "the old or the new set is whole; the next build brings it back and removes the rest",
    )


@pytest.mark.slow
def test_twenty_killed_builds(tmp_path: Path) -> None:
    outcomes: dict[tuple[str, str], int] = {}
    for outcome in _kill_builds(tmp_path / "data", 20, seed=2):
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    for (lying, kept), count in sorted(outcomes.items()):
        print(f"{count:3d} x {lying}: {kept}")
    assert sum(outcomes.values()) == 20


def test_an_overwrite_waits_its_turn_before_it_moves_the_set(tmp_path: Path) -> None:
    """Another build holds the lock: even the removal, which TFDS asks for first, is refused."""
    prepared = _build(tmp_path)
    content = _content(prepared)
    handle = os.open(Path(prepared.data_dir).parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match="another build writes to") as error:
            prepared.data_path.rmtree()
        with pytest.raises(RuntimeError, match="another build writes to"):
            _build(tmp_path, download_mode=REBUILD)
    finally:
        os.close(handle)
    assert _content(prepared) == content and _folders(tmp_path) == ["1.0.0"]
    record_fault(
        "two builds of one set at once", str(error.value), "the second changes nothing", tmp_path
    )
    assert _build(tmp_path, download_mode=REBUILD).is_prepared()


@pytest.mark.parametrize("limit", [1000, 2500], ids=["shards", "metadata"])
def test_a_full_disk_leaves_the_old_set_and_nothing_else(limit: int, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: TensorFlow and Python both meet it."""
    prepared = _build(tmp_path)
    content = _content(prepared)
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        with pytest.raises(OSError, match="builders/fetal_health: expected room for") as error:
            _build(tmp_path, download_mode=REBUILD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert _content(prepared) == content and _folders(tmp_path) == ["1.0.0"]
    message = str(error.value)
    assert "File too large" in message and "--data_dir" in message
    outcome = "the old set stands, nothing half-written is left"
    record_fault("a build, disk full (or file size limited)", message, outcome, tmp_path)


def test_doubled_rows_of_a_table_are_named_with_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row numbers cannot repeat, so the keys are made to: as a builder by ids of a column would."""
    prepared = _build(tmp_path / "data")
    content = _content(prepared)
    generate: Any = fetal_health.Builder._generate_examples

    def doubled(self: Any, table: Any, rows: np.ndarray) -> Iterator[Any]:
        for n, (key, example) in enumerate(generate(self, table, rows)):
            yield SourcedKey("patient 7" if n in (2, 5) else key, key.source), example

    monkeypatch.setattr(fetal_health.Builder, "_generate_examples", doubled)
    with pytest.raises(ValueError, match="expected to be unique") as error:
        _build(tmp_path / "data", download_mode=REBUILD)
    lines = [int(part.split()[0].rstrip(".")) for part in str(error.value).split(", line ")[1:]]
    file = DUMMY / "fetal_health.csv"
    assert str(error.value).count(f"{file}, line ") == 2 and lines == sorted(set(lines))
    assert "'patient 7'" in str(error.value)
    assert _content(prepared) == content and _folders(tmp_path / "data") == ["1.0.0"]
    outcome = "the build ends, the old set stands"
    record_fault("a key twice in a build", str(error.value), outcome, DUMMY)


def test_doubled_keys_of_songs_are_named_with_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal links are one song, so a key repeats only where it is made to."""
    source = tmp_path / "source"
    source.mkdir()
    song_lyrics.synthetic.write_tables(source, songs=300, artists=60)
    with open(source / tables.LYRICS_FILE, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    read = songs.read

    def doubled(*arguments: Any, **options: Any) -> songs.SongTable:
        table = read(*arguments, **options)
        train = [i for i, s in enumerate(table.songs) if songs.split_of(s, "song") == "train"]
        for i in train[3], train[9]:
            object.__setattr__(table.songs[i], "id", "/twice/")
        return table

    monkeypatch.setattr(songs, "read", doubled)
    builder = song_lyrics.Builder(data_dir=tmp_path / "data", config="kaggle")
    with pytest.raises(ValueError, match="received '/twice/' for") as error:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=source)
        )
    numbers = [int(p.split()[0].rstrip(".")) for p in str(error.value).split(", row ")[1:]]
    assert len(numbers) == 2 and numbers[0] < numbers[1] <= len(rows)
    assert str(error.value).count(str(source / tables.LYRICS_FILE)) == 2
