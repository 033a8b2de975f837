"""Free memory is a container's where one limits it, in both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from records.system.memory import free_memory

GIB = 2**30


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture(autouse=True)
def _a_large_host(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = type("Memory", (), {"available": 1000 * GIB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def test_without_groups_it_is_the_hosts(tmp_path: Path) -> None:
    assert free_memory(tmp_path) == 1000 * GIB


def test_inside_a_container_it_is_that_of_the_group(tmp_path: Path) -> None:
    """Version 2; what the system keeps of files is given back."""
    used = {"memory__current": f"{6 * GIB}", "memory__stat": f"anon 5\ninactive_file {GIB}\n"}
    _write(tmp_path / "sys/fs/cgroup", memory__max=f"{8 * GIB}\n", **used)
    _write(tmp_path / "proc/self", cgroup="0::/\n")
    assert free_memory(tmp_path) == 3 * GIB
    _write(tmp_path / "sys/fs/cgroup", memory__max="max\n", **used)
    assert free_memory(tmp_path) == 1000 * GIB


def test_the_narrowest_group_around_counts(tmp_path: Path) -> None:
    """Version 1, as a scheduler on the host itself sets it."""
    top = tmp_path / "sys/fs/cgroup/memory"
    for folder, limit in ((top, 100), (top / "job", 4), (top / "job/step", 50)):
        _write(
            folder,
            memory__limit_in_bytes=f"{limit * GIB}",
            memory__usage_in_bytes=f"{GIB}",
            memory__stat="total_inactive_file 0\n",
        )
    _write(tmp_path / "proc/self", cgroup="4:memory:/job/step\n3:cpuset:/\n")
    assert free_memory(tmp_path) == 3 * GIB
