"""What the trainer says of a service that does not answer."""

import queue
import socket
import threading

import pytest

from records.service.trainer import RemoteChunks, _Stream
from tests.support.runs import free_ports


def test_a_trainer_that_reaches_nobody_blames_its_own_network() -> None:
    gone, also_gone = (f"127.0.0.1:{port}" for port in free_ports(2))
    chunks = object.__new__(RemoteChunks)
    chunks._stream = _Stream(queue.Queue(), {0: gone}, 1, threading.Event())
    chunks._number, chunks._address = 0, also_gone
    both = (
        f"worker 0 at {gone} does not answer, nor does the dispatcher at {also_gone}: the network"
    )
    with pytest.raises(ConnectionError, match=both):
        chunks._check_alive(5)
    with socket.create_server(("127.0.0.1", 0)) as dispatcher:
        chunks._address = f"127.0.0.1:{dispatcher.getsockname()[1]}"
        with pytest.raises(
            ConnectionError, match=f"worker 0 at {gone} does not answer. Restart it"
        ):
            chunks._check_alive(5)
