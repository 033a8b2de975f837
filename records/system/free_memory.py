"""How much memory this process may still take: the host's, or a container's."""

from __future__ import annotations

from pathlib import Path

import psutil

# By the version of Linux's control groups: where they lie, and their files of limit, usage and
# statistics. Of the usage the file cache that nobody reads is given back when memory is asked for.
_ROOTS = (
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that are free: of the host, or of the control group that limits this process.

    `root` is the folder in which `sys` and `proc` lie.
    """
    free = int(psutil.virtual_memory().available)
    for top, limit, usage, unread in _ROOTS:
        for folder in _groups(root, root / top):
            try:
                # "max" where nothing limits.
                most = int((folder / limit).read_text())
                used = int((folder / usage).read_text())
                lines = (folder / "memory.stat").read_text().splitlines()
            except (OSError, ValueError):
                continue
            cached = sum(int(line.split()[1]) for line in lines if line.split()[0] == unread)
            free = min(free, max(0, most - used + cached))
    return free


def _groups(root: Path, top: Path) -> list[Path]:
    """The folders of this process's own group and those around it; inside a container `top`."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return [top]
    found = [top]
    for line in lines:
        # `0::/a/b` of version 2, `4:memory:/a/b` of version 1.
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory"):
            own = top / path.strip("/")
            found += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return found


def show_bytes(count: float) -> str:
    """`12.3 GiB`."""
    return f"{count / 2**30:,.1f} GiB"
