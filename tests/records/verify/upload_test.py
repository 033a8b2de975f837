"""Sets built into a bucket, or uploaded: checked, whole or absent, never replaced unasked."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from builders.convert import __main__ as convert
from builders.fetal_health import fetal_health_dataset_builder as fetal_health
from records.sets.find import find_directory
from records.stores import cache, mirror
from records.stores.address import parse_address
from records.stores.client import traffic
from records.stores.upload import replace_all
from records.verify import __main__ as verify
from tests.support.stores import Store, kill_in_mid_request

NAME = "fetal_health/synthetic"


def _brought(store: Store, name: str = NAME) -> Path:
    """The whole set, as another machine reads it."""
    folder = Path(find_directory(name, f"{store.url}/data"))
    mirror.fetch_all(folder / shard for shard in mirror.remote_shards(folder))
    return folder


def _same(left: Path, right: Path) -> bool:
    names = sorted(p.name for p in left.iterdir() if "-of-" in p.name or p.name == "features.json")
    return len(names) > 2 and all(
        (left / n).read_bytes() == (right / n).read_bytes() for n in names
    )


def test_a_sound_set_is_uploaded_and_replaced_only_when_asked_to(
    store: Store, synthetic_data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(find_directory(NAME, str(synthetic_data_dir)))
    flags = [str(source), "--no-content", f"--upload={store.url}/data"]
    faults = iter([500, None, 503])
    store.proxy.fault = lambda path: next(faults, None) if path.startswith("PUT") else None
    before = traffic.retries
    assert verify.main(flags) == 0
    assert traffic.retries - before == 2
    written = [one.rpartition("/")[2] for one in store.proxy.asked if one.startswith("PUT")]
    assert written[-2:] == ["dataset_info.json", "metadata.json"], "then TFDS's default config"
    assert f"uploaded: {store.url}/data/{NAME}/{source.name}, " in capsys.readouterr().out
    assert _same(source, _brought(store))
    default = "fetal_health/.config/metadata.json"
    assert store.get(f"data/{default}") == (synthetic_data_dir / default).read_bytes()
    assert verify.main(flags) == 1
    assert "expected no set, received one. --overwrite replaces it" in capsys.readouterr().out
    store.put(f"data/{NAME}/{source.name}/fetal_health-new.tfrecord-00000-of-00001", b"left")
    assert verify.main([*flags, "--overwrite"]) == 0
    assert not [name for name in store.names() if "fetal_health-new" in name]


def test_a_damaged_set_and_a_refusal_leave_no_set(
    store: Store, synthetic_data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(find_directory(NAME, str(synthetic_data_dir)))
    flags = [str(source), "--no-content", f"--upload={store.url}/data"]
    store.proxy.fault = lambda path: 403 if "train" in path and "PUT" in path else None
    assert verify.main(flags) == 1
    printed = capsys.readouterr().out
    assert f"bucket {store.bucket!r}" in printed and "403" in printed
    store.proxy.fault = lambda path: None
    with pytest.raises(FileNotFoundError):
        find_directory(NAME, f"{store.url}/data")
    copy = tmp_path / source.name
    copy.mkdir()
    for path in source.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    shard = next(copy.glob("*train*-00000-of-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert verify.main([str(copy), "--no-content", f"--upload={store.url}/data"]) == 1
    assert "Nothing was uploaded" in capsys.readouterr().out
    assert not [name for name in store.names() if name.endswith("dataset_info.json")]


def test_a_build_into_a_bucket_is_the_local_build(
    store: Store, synthetic_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = fetal_health.Builder(data_dir=f"{store.url}/data", config="synthetic")
    store.proxy.fault = lambda path: 403 if path.endswith("dataset_info.json") else None
    with pytest.raises(OSError, match=r"dataset_info.json.*403"):
        builder.download_and_prepare()
    assert Path(builder.data_dir).is_dir(), "what was built is not lost"
    store.proxy.fault = lambda path: None
    monkeypatch.setattr(builder, "_generate_splits", None)  # it is not built again
    builder.download_and_prepare()
    assert not Path(builder.data_dir).exists()
    assert _same(Path(find_directory(NAME, str(synthetic_data_dir))), _brought(store))
    with pytest.raises(ValueError, match="--overwrite replaces it"):
        builder.download_and_prepare()


def test_a_table_is_converted_into_a_bucket(store: Store, tmp_path: Path) -> None:
    rows = [f"{i % 7},{i * i % 11},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["x,y,label", *rows]))
    flags = [str(tmp_path / "rows.csv"), f"--data_dir={store.url}/data"]
    assert convert.main(flags) == 0
    assert convert.main([str(tmp_path / "rows.csv"), f"--data_dir={tmp_path}/data"]) == 0
    assert _same(tmp_path / "data/rows/1.0.0", _brought(store, "rows"))
    assert convert.main(flags) == 1
    assert convert.main([*flags, "--overwrite"]) == 0


_WRITER = """
import itertools, sys
from pathlib import Path
from records.stores.address import parse_address
from records.stores.upload import replace_all
print(flush=True)
for folder in itertools.cycle(sys.argv[2:]):
    files = {path.name: path for path in Path(folder).iterdir()}
    replace_all(parse_address(sys.argv[1], "test"), files, "dataset_info.json", "test")
"""


def test_a_killed_upload_leaves_no_mixed_set(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("a", 3), ("b", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset_info.json").write_text(f'"{name}"')
        for i in range(count):
            shard = tmp_path / name / f"x-train.tfrecord-{i:05d}-of-{count:05d}"
            shard.write_bytes(name.encode() * 200_000)
    address, found = parse_address(f"{store.url}/data/x/1.0.0", "test"), []
    seed = random.randrange(1000)
    chance = random.Random(seed)
    command = [sys.executable, "-c", _WRITER, str(address), f"{tmp_path}/a", f"{tmp_path}/b"]
    for kill in range(10):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)
        assert child.stdout is not None
        child.stdout.readline()
        kill_in_mid_request(child, store.proxy, chance)
        monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / f"reader-{kill}"))
        there = mirror.list_sets(address)
        if not there:
            continue
        folder = Path(mirror.mirror(address, there[""]))
        source = tmp_path / (folder / "dataset_info.json").read_text().strip('"')
        names = sorted(path.name for path in source.iterdir())
        assert sorted(there[""]) == names, f"seed {seed}"
        mirror.fetch_all(folder / name for name in names if "-of-" in name)
        assert all((folder / n).read_bytes() == (source / n).read_bytes() for n in names)
        found.append(source.name)
    replace_all(address, {p.name: p for p in (tmp_path / "a").iterdir()}, "dataset_info.json", "x")
    assert sorted(mirror.list_sets(address)[""]) == sorted(os.listdir(tmp_path / "a"))
