"""Hosts with names and addresses of their own on this machine: network namespaces.

Each host is a namespace; a namespace between them holds a bridge, the switch, and a pair of veth
interfaces is the cable. A process on a host sees its loopback and that cable alone, and knows the
hosts by name from a file of theirs, as DNS would tell. Cables can be cut, addresses changed.
Making namespaces needs root; `Hosts.missing()` says in a sentence why there are none.

A kernel without `netem` cannot delay a cable. With `delay_s` the cables are TUN devices instead,
and a thread here carries the packets: each arrives so much later, or, by `loss`, not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.forks import REPOSITORY, Forked, fork

_COUNT = itertools.count()
_SET_TUN = 0x400454CA  # TUNSETIFF of linux/if_tun.h, as are the next two
_TUN, _NO_HEADER = 0x0001, 0x1000
# Enters the host: its network, and its names in place of /etc/hosts, for this process alone.
ENTER = """
import ctypes, os, runpy, sys
namespace, names, *sys.argv = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def do(result):
    if result:
        raise OSError(ctypes.get_errno(), "the host cannot be entered")
handle = os.open(namespace, os.O_RDONLY)
do(libc.setns(handle, 0x40000000))  # CLONE_NEWNET
os.close(handle)
do(libc.unshare(0x00020000))  # CLONE_NEWNS
do(libc.mount(None, b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
do(libc.mount(names.encode(), b"/etc/hosts", None, 0x1000, None))  # MS_BIND
sys.path.insert(0, os.getcwd())
sys.modules.pop(sys.argv[0], None)  # loaded already, it would be run with a warning
if "HEARTBEAT_SECONDS" in os.environ:
    from train.devices import workers
    workers._HEARTBEAT_SECONDS = int(os.environ["HEARTBEAT_SECONDS"])
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def _ip(*arguments: object, check: bool = True) -> str:
    done = subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True)
    if check and done.returncode:
        raise OSError(f"ip {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


class Hosts:
    """Hosts `host0`, `host1`, ... with the addresses 10.77.0.1, 10.77.0.2, ...; a context."""

    def __init__(self, count: int, folder: Path, *, delay_s: float = 0.0, loss: float = 0.0):
        """Makes them. `folder` holds the file of names.

        Raises:
          OSError: they cannot be made here.
        """
        self._stack, self._running = contextlib.ExitStack(), list[Forked]()
        self._names = folder / "hosts.txt"
        self._prefix = f"rtm{os.getpid()}-{next(_COUNT)}"
        self.addresses = [f"10.77.0.{i + 1}" for i in range(count)]
        try:
            for i in range(count):
                self._add_namespace(f"{self._prefix}-{i}")
            if delay_s or loss:
                self._lay_slow_cables(delay_s, loss)
            else:
                self._lay_cables()
        except OSError:
            self._stack.close()
            raise
        self._write_names()

    @staticmethod
    def missing(folder: Path) -> str:
        """Why there can be no hosts here; "" where there can."""
        try:
            with Hosts(1, folder):
                return ""
        except OSError as error:
            return f"hosts are network namespaces, which cannot be made here: {error}"

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
        self._stack.close()

    def start(self, host: int, *arguments: Any, variables: dict[str, str] | None = None) -> Forked:
        """Starts `python -m MODULE ...` on a host; it has TensorFlow imported."""
        place = f"/run/netns/{self._prefix}-{host}", str(self._names)
        process = fork("-c", ENTER, *place, *arguments, variables=variables, folder=REPOSITORY)
        self._running.append(process)
        return process

    def start_worker(
        self, hosts: Sequence[int], index: int, *arguments: Any, heartbeat_s: int | None = None
    ) -> Forked:
        """Starts one worker of a `train.run` on these hosts; `heartbeat_s` in place of its own."""
        cluster = {"worker": [f"host{i}:2222" for i in hosts]}
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        variables = {"TF_CONFIG": config}
        if heartbeat_s is not None:
            variables["HEARTBEAT_SECONDS"] = str(heartbeat_s)
        return self.start(hosts[index], "train.run", *arguments, variables=variables)

    def cut(self, host: int) -> None:
        """Cuts the cable of a host at the switch: neither side is told."""
        self._at_switch("link", "set", f"port{host}", "nomaster")

    def heal(self, host: int) -> None:
        """Joins it again."""
        self._at_switch("link", "set", f"port{host}", "master", "switch")

    def move(self, host: int, address: str) -> None:
        """Gives a host another address, and its name with it."""
        self._on(host, "address", "flush", "dev", "cable")
        self._on(host, "address", "add", f"{address}/24", "dev", "cable")
        self.addresses[host] = address
        self._write_names()

    def _write_names(self) -> None:
        lines = [f"{address} host{i}\n" for i, address in enumerate(self.addresses)]
        # In place: processes have this file mounted.
        self._names.write_text("127.0.0.1 localhost\n" + "".join(lines))

    def _add_namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._stack.callback(_ip, "netns", "del", name, check=False)
        _ip("-n", name, "link", "set", "lo", "up")

    def _on(self, host: int, *arguments: object) -> None:
        _ip("-n", f"{self._prefix}-{host}", *arguments)

    def _at_switch(self, *arguments: object) -> None:
        _ip("-n", f"{self._prefix}-s", *arguments)

    def _lay_cables(self) -> None:
        switch = f"{self._prefix}-s"
        self._add_namespace(switch)
        self._at_switch("link", "add", "switch", "type", "bridge")
        self._at_switch("link", "set", "switch", "up")
        for i, address in enumerate(self.addresses):
            there = "peer", "name", f"port{i}", "netns", switch
            self._on(i, "link", "add", "cable", "type", "veth", *there)
            self._on(i, "address", "add", f"{address}/24", "dev", "cable")
            self._on(i, "link", "set", "cable", "up")
            self._at_switch("link", "set", f"port{i}", "up")
            self.heal(i)

    def _lay_slow_cables(self, delay_s: float, loss: float) -> None:
        tuns: dict[bytes, int] = {}
        for i, address in enumerate(self.addresses):
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            self._stack.callback(os.close, tun)
            # Made here and moved: an interface goes on to belong to who holds the file.
            name = f"rtm{os.getpid() % 10**6}.{i}"
            fcntl.ioctl(tun, _SET_TUN, struct.pack("16sH22x", name.encode(), _TUN | _NO_HEADER))
            _ip("link", "set", name, "netns", f"{self._prefix}-{i}")
            self._on(i, "link", "set", name, "name", "cable")
            self._on(i, "address", "add", f"{address}/24", "dev", "cable")
            self._on(i, "link", "set", "cable", "up")
            tuns[bytes(map(int, address.split(".")))] = tun
        stop = threading.Event()
        thread = threading.Thread(target=_carry, args=(tuns, delay_s, loss, stop), daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(stop.set)


def _carry(tuns: dict[bytes, int], delay_s: float, loss: float, stop: threading.Event) -> None:
    """Carries packets between hosts by the address in their header."""
    rng, under_way = random.Random(0), list[tuple[float, int, int, bytes]]()
    numbers = itertools.count()  # two packets of one moment keep their order
    while not stop.is_set():
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 0.1
        for tun in select.select(list(tuns.values()), [], [], min(wait, 0.1))[0]:
            packet = os.read(tun, 1 << 16)
            to = tuns.get(packet[16:20]) if packet[0] >> 4 == 4 else None
            if to is not None and rng.random() >= loss:
                due = time.monotonic() + delay_s
                heapq.heappush(under_way, (due, next(numbers), to, packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, to, packet = heapq.heappop(under_way)
            with contextlib.suppress(BlockingIOError):  # its queue is full: the packet is lost
                os.write(to, packet)
