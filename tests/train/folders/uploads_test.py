"""A run in a store is whole or absent: after kills, after refusals, on other machines."""

from __future__ import annotations

import hashlib
import json
import random
import time
from pathlib import Path

import pytest

from records.stores import cache
from records.stores.address import Address, parse_address
from records.stores.client import StoreError, traffic
from records.system.writing import write_atomically
from tests.support.forks import fork
from tests.support.stores import Store, kill_in_mid_request
from train.folders.run_copy import fetch_run, read_manifest
from train.folders.run_folder import RunFolder
from train.folders.uploads import Uploads


def _address(store: Store) -> Address:
    return parse_address(f"{store.url}/runs/one", "test")


def _move(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """To a machine that has nothing in its cache."""
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / name))


def _fill(folder: Path, step: int, size: int = 1000) -> None:
    """What a run has written at a step; the newest two checkpoints are kept."""
    for name in ("checkpoints", "tensorboard"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # As a run writes: no file is ever changed in its place, but the logs.
    write_atomically(folder / "config.json", b'{"a": 1}')
    write_atomically(folder / f"checkpoints/step-{step:04d}.npz", _content(step, size))
    (folder / f"checkpoints/step-{step - 2:04d}.npz").unlink(missing_ok=True)
    write_atomically(folder / "history.csv", f"{step}\n".encode() * step)
    (folder / "tensorboard/events").write_text("x" * step)


def _content(step: int, size: int) -> bytes:
    return hashlib.sha256(str(step).encode()).digest() * (size // 32)


def _send(run: Uploads) -> None:
    run.send()
    run.wait()


def test_files_come_before_the_list_and_old_checkpoints_go_after_it(store: Store) -> None:
    run = Uploads(_address(store))
    for step in (1, 2, 3):
        _fill(run.folder, step)
        store.proxy.asked.clear()
        _send(run)
    run.release()
    assert run.failure is None
    written = [one for one in store.proxy.asked if one.startswith(("PUT", "POST"))]
    lists = [i for i, one in enumerate(written) if one.endswith("/run.json")]
    assert len(lists) == 2, "the list without the history that is about to change, then the new one"
    assert written[-1].startswith("POST") and lists[1] == len(written) - 2
    assert [one.rpartition("/")[2][:9] for one in written[: lists[0]]] == ["events"]
    between = {one.rpartition("/")[2][:9] for one in written[lists[0] + 1 : lists[1]]}
    assert between == {"history.c", "step-0003"}
    named = {name.rpartition("/")[2].partition("-")[0] for name in store.names()}
    assert named == {"step", "config", "history.csv", "run.json", "events"}
    steps = [name for name in store.names() if "/step-" in name]
    assert [name.split("step-")[1][:4] for name in steps] == ["0002", "0003"], "two are kept"
    assert store.get("runs/one/tensorboard/events") == b"xxx"


def test_another_machine_goes_on_and_the_first_one_follows(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Uploads(_address(store))
    with pytest.raises(ValueError, match="another process works in"):
        Uploads(_address(store))
    _fill(run.folder, 1)
    _send(run)
    _fill(run.folder, 2)  # never uploaded
    run.release()
    same = Uploads(_address(store))
    assert (same.folder / "checkpoints/step-0002.npz").exists(), "ahead of the store: kept"
    same.release()
    with monkeypatch.context() as elsewhere:
        _move(elsewhere, tmp_path, "elsewhere")
        other = Uploads(_address(store))
        assert (other.folder / "history.csv").read_text() == "1\n"
        names = sorted(p.name for p in other.folder.rglob("*") if p.is_file())
        assert names == ["config.json", "history.csv", "step-0001.npz"]
        _fill(other.folder, 7)
        _send(other)
        other.release()
    assert not capsys.readouterr().out
    again = Uploads(_address(store))
    assert "the run went on elsewhere" in capsys.readouterr().out
    assert (again.folder / "history.csv").read_text() == "7\n" * 7
    _fill(again.folder, 8)
    store.put("runs/one/run.json", b'{"files": {}}')  # by a third one, at this moment
    _send(again)
    assert "another process trains there" in str(again.failure)
    again.release()


def test_a_run_that_was_removed_begins_anew(store: Store) -> None:
    run = Uploads(_address(store))
    _fill(run.folder, 1)
    _send(run)
    run.release()
    for key in store.names():
        store.remove(key)
    run = Uploads(_address(store))
    assert not run.folder.exists() or not list(run.folder.iterdir())
    run.release()


def test_what_is_no_run_is_refused(store: Store) -> None:
    store.put("runs/one/dataset_info.json", b"{}")
    with pytest.raises(
        ValueError, match=r"or nothing, received other objects, such as dataset_inf"
    ):
        Uploads(_address(store))
    bad = {"../../x": {"key": "a", "bytes": 1, "sha256": "0"}}
    store.put("runs/one/run.json", json.dumps({"files": bad}).encode())
    with pytest.raises(ValueError, match=r"run.json expected the list of a run's files"):
        Uploads(_address(store))


@pytest.mark.parametrize("fault", [500, 503, 429, 403], ids=str)
def test_a_fault_that_passes_loses_nothing(
    fault: int, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Uploads(_address(store))
    _fill(run.folder, 1)
    _send(run)
    counts = {"asked": 0}

    def sometimes(path: str) -> int | None:
        counts["asked"] += path.startswith("PUT")
        return fault if path.startswith("PUT") and counts["asked"] == 3 else None

    store.proxy.fault, before = sometimes, traffic.retries
    _fill(run.folder, 2)
    _send(run)
    if fault == 403:  # of a part: what is listed then lacks the history, and nothing is mixed
        warned = capsys.readouterr().err
        assert "warning: s3://" in warned and "403" in warned and "the next checkpoint" in warned
        assert "OFTHETEST" not in warned, "no part of a key"
        found = read_manifest(_address(store))
        assert sorted(found) == ["checkpoints/step-0001.npz", "config.json"]
        _send(run)
    assert traffic.retries - before == (fault != 403)
    run.release()
    assert run.failure is None and len(read_manifest(_address(store))) == 4
    assert (fetch_run(_address(store)) / "history.csv").read_text() == "2\n2\n"


def test_a_run_whose_last_state_stays_here_ends_with_an_error(store: Store) -> None:
    known = {"seed": 1}
    with (
        pytest.raises(
            OSError, match=r"could not be uploaded: .*403.* It is whole in .*same command"
        ),
        RunFolder(str(_address(store)), known, "data") as folder,
    ):
        folder.claim()
        store.proxy.fault = lambda path: 403 if path.startswith("PUT") else None
        _fill(folder.path, 1)
        folder.upload()
    assert sorted(read_manifest(_address(store))) == ["config.json"]
    with pytest.raises(OSError, match="403"), RunFolder(f"{store.url}/new", known, "d") as folder:
        folder.claim()  # before the first step
    store.proxy.fault = lambda path: None
    place = f"{store.url}/runs/other"
    with pytest.raises(ZeroDivisionError), RunFolder(place, known, "d") as folder:
        folder.claim()
        _fill(folder.path, 3)
        raise ZeroDivisionError
    assert "checkpoints/step-0003.npz" in read_manifest(parse_address(place, "test"))


def test_a_damaged_object_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = Uploads(_address(store))
    _fill(run.folder, 2)
    _send(run)
    run.release()
    store.put("runs/one/history.csv", b"3\n3\n")
    with pytest.raises(StoreError, match=r"history.csv: expected SHA-256 \w{12}, received"):
        fetch_run(_address(store))
    store.put("runs/one/history.csv", b"2\n")
    _move(monkeypatch, tmp_path, "other")
    with pytest.raises(StoreError, match=r"history.csv"):
        Uploads(_address(store))


# Writes one state after the other, as a run on a fresh machine that goes on from the newest.
_WRITER = """
import os, sys
sys.path.insert(0, os.getcwd())
from pathlib import Path
from records.stores.address import parse_address
from records.system.writing import write_atomically
from tests.train.folders.uploads_test import _fill
from train.folders.uploads import Uploads
run = Uploads(parse_address(sys.argv[1], "test"))
step = max([int(p.stem[5:]) for p in run.folder.glob("checkpoints/*")], default=0)
print(step, flush=True)
run.folder.mkdir(exist_ok=True)
write_atomically(run.folder / "config.json", b'{"a": 1}')
run.finish()
while True:
    step += 1
    _fill(run.folder, step, 200_000)
    run.send()
    if step % 3:
        run.wait()
        assert run.failure is None, run.failure
"""


def test_ten_kills_in_mid_upload_leave_nothing_half_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seed = random.randrange(1000)
    chance, address, last = random.Random(seed), _address(store), 0
    for kill in range(10):
        _move(monkeypatch, tmp_path, f"machine-{kill}")
        child = fork("-c", _WRITER, address)
        while not child.printed().endswith("\n"):
            assert child.poll() is None, child.communicate()
            time.sleep(0.001)
        begun = int(child.printed())
        # What was under way at the last kill may have come since.
        assert begun >= last, "it went on from the newest whole state"
        kill_in_mid_request(child, store.proxy, chance)
        _move(monkeypatch, tmp_path, f"reader-{kill}")
        if not read_manifest(address):
            continue
        run = Uploads(address)  # every byte is compared with the list
        run.release()
        steps = sorted(int(p.stem[5:]) for p in run.folder.glob("checkpoints/*"))
        if not steps:
            assert last == 0
            continue
        assert steps[-1] >= last and len(steps) <= 2, f"seed {seed}"
        for step in steps:
            stored = run.folder / f"checkpoints/step-{step:04d}.npz"
            assert stored.read_bytes() == _content(step, 200_000)
        history = run.folder / "history.csv"
        assert not history.exists() or history.read_text() in {f"{s}\n" * s for s in steps}
        last = steps[-1]
    assert last > 0
    run = Uploads(address)
    _fill(run.folder, last + 1)
    run.finish()
    run.release()
    assert len([key for key in store.names() if "/step-" in key]) <= 2, "nothing is left behind"
