"""Workers meet before TensorFlow starts between them.

TensorFlow waits for its peers inside C++ without a limit. It holds Python's lock meanwhile and
ignores signals, so nothing in the process can end the wait. The workers therefore wait for each
other here, on plain sockets at the first one's address, and start TensorFlow when all are there.
"""

import contextlib
import hashlib
import select
import socket
import time

_GO = b"go\n"


class NotAllCame(RuntimeError):
    """Some workers did not come in time."""


def meet(addresses: tuple[str, ...], index: int, seconds: float) -> None:
    """Returns when all workers are there.

    `addresses` are `host:port` of each; the first listens, and all wait for at most `seconds`.

    Raises:
      NotAllCame: says who, where that is known.
      OSError: the first worker's port is taken.
    """
    # Monotonic: a clock that is set while workers wait must neither end the wait nor prolong it.
    deadline = time.monotonic() + seconds
    # Of another run's worker, or of one with another list, nothing is taken.
    name = hashlib.sha256(",".join(addresses).encode()).hexdigest()[:16]
    host, _, port = addresses[0].rpartition(":")
    if index == 0:
        missing = _listen(host, int(port), name, set(range(1, len(addresses))), deadline)
    else:
        missing = _report(host, int(port), f"{name} {index}\n".encode(), deadline)
    if missing:
        who = ", ".join(f"{i} ({addresses[i]})" for i in sorted(missing))
        raise NotAllCame(
            f"worker {index} waited for {seconds:.0f} s, and worker {who} did not come or not all "
            "others did. Start all workers with the same command"
        )


def make_server(host: str, port: int) -> socket.socket:
    """Listens where `host` says: on this machine alone for `localhost` and 127.*, else everywhere.

    Not on the address that a name stands for here: some systems map their own to 127.0.1.1.
    """
    if host == "localhost" or host.startswith("127."):
        return socket.create_server(("127.0.0.1" if host == "localhost" else host, port))
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    return socket.create_server(("", port), family=family, dualstack_ipv6=dual)


def _listen(host: str, port: int, name: str, expected: set[int], deadline: float) -> set[int]:
    """Tells all workers to go once all have come; returns those that have not."""
    came: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack, make_server(host, port) as server:
        # So that the deadline and workers that ended are looked at five times a second.
        server.settimeout(0.2)
        while came.keys() != expected:
            if time.monotonic() > deadline:
                return expected - came.keys()
            for index in [i for i, connection in came.items() if _has_ended(connection)]:
                del came[index]  # it may come again
            with contextlib.suppress(OSError, ValueError):
                connection = stack.enter_context(server.accept()[0])
                # Something that connects and says nothing, such as a port scan, must not hold up
                # the others.
                connection.settimeout(5)
                said, number = connection.recv(64).decode().split()
                if said == name and int(number) in expected:
                    came[int(number)] = connection
        for connection in came.values():
            connection.sendall(_GO)
    return set()


def _has_ended(connection: socket.socket) -> bool:
    """A worker says nothing more after its name: what can be read is its end."""
    return bool(select.select([connection], [], [], 0)[0])


def _report(host: str, port: int, hello: bytes, deadline: float) -> set[int]:
    """Waits until the first worker says go; returns it if it does not."""
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host, port), timeout=5) as connection,
        ):
            connection.sendall(hello)
            # The first worker says go only when all have come: this wait may take until the
            # deadline.
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            if connection.recv(64) == _GO:
                return set()
        # Not there yet, or still the server of a run that is about to end.
        time.sleep(0.2)
    return {0}
