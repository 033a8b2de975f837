"""A trainer's side of the data service: the chunks of `make_chunks`, made on other machines.

Of N service workers, worker i makes the chunks whose number is i modulo N. TensorFlow's own static
sharding works only for workers inside the trainer's process, so each worker knows its index, and
the trainer reads N datasets, one per worker, in turn: the order needs no buffer to be restored,
and where a chunk does not come it is known whose it is.

TensorFlow's client waits for ever for a worker that died. Here the consumer looks, every few
seconds that it waits, whether the worker can be reached.
"""

import contextlib
import dataclasses
import itertools
import queue
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from records.examples import AnyOrder, Examples
from records.roles import Data
from records.service.worker import CHUNK, COUNT, HELLO, Request

# A worker that cannot be reached is noticed after one look and one attempt, 10 s at most. One more
# attempt asks whether the dispatcher can.
_LOOK_SECONDS = 5.0
_CONNECT_SECONDS = 5.0
# Starting a worker takes some seconds for TensorFlow's import alone.
FIND_SECONDS = 60.0
# A worker that can be reached may be busy with decoding a whole split first.
SILENT_SECONDS = 600.0
_AHEAD = 2  # chunks that wait here, besides those that TensorFlow's client holds
_EXIT_SECONDS = 2.0
_HINT = "Restart it; the same command goes on from the last checkpoint"


def can_connect(address: str) -> bool:
    """Whether something listens at `HOST:PORT`.

    Raises:
      ValueError: that is no address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"data service: an address expected as HOST:PORT, received {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class RemoteSource:
    """`make_chunks` of a data service."""

    address: str  # HOST:PORT of the dispatcher
    data: Data  # the trainer's copy of the set
    fingerprint: str  # its content; the workers' copies must be the same
    length_buckets: int  # as the order was made with

    def __post_init__(self) -> None:
        if not can_connect(self.address):
            raise ConnectionError(
                f"data service: a data service's dispatcher expected at {self.address}, received "
                "no answer. Start it: python -m records.service dispatcher --port "
                f"{self.address.rpartition(':')[2]} --expose, and its workers "
                "(docs/howto/data_service.md)"
            )

    def __call__(
        self,
        examples: Examples,
        order: AnyOrder,
        start: tuple[int, int],
        chunk_steps: int,
        rows: slice,
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """As `make_chunks`, for the role `train`.

        Raises:
          ConnectionError: a worker is gone; names it.
          ValueError: a worker refuses the request or met a damaged record; names it.
        """
        inputs = dataclasses.asdict(self.data.config)
        # Where a worker keeps decoded examples is its own choice, and changes no byte.
        del inputs["cache"]
        request = Request(
            dataset=self.data.schema.name,
            fingerprint=self.fingerprint,
            role="train",
            inputs=inputs,
            seed=self.data.seed,
            length_buckets=self.length_buckets,
            order=order.state,
            start=start,
            chunk_steps=chunk_steps,
            rows=(rows.start or 0, order.global_batch_size if rows.stop is None else rows.stop),
            dtype=examples.spec.dtype.name,
            label_dtype=examples.split_labels.dtype.name,
        )
        return RemoteChunks(self.address, request)


@dataclasses.dataclass
class _Stream:
    """What the reading thread and the consumer share."""

    waiting: queue.Queue[Any]  # chunks, or the error that ended the reading
    workers: dict[int, str]  # addresses of the workers that answered, by their index
    of: int  # how many workers there are; 0 while none has answered
    stop: threading.Event  # nobody wants more

    def put(self, item: Any) -> None:
        # In short waits: a full queue must not keep the thread from seeing that nobody wants more.
        while not self.stop.is_set():
            with contextlib.suppress(queue.Full):
                return self.waiting.put(item, timeout=0.2)


class RemoteChunks:
    """An endless iterator of the chunks of one request; a thread reads a little ahead."""

    def __init__(self, address: str, request: Request):
        """Begins to read; `address` is the dispatcher's."""
        self._number, self._address = 0, address
        self._stream = _Stream(queue.Queue(_AHEAD), {}, 0, threading.Event())
        # A daemon: TensorFlow's call may never come back where a worker died.
        arguments = self._stream, f"grpc://{address}", request
        thread = threading.Thread(target=_read, args=arguments, name="records-remote", daemon=True)
        thread.start()
        # The thread holds the stream alone, not this object: else it would never be collected.
        self.close = weakref.finalize(self, _end, self._stream, thread)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        return self

    def __next__(self) -> tuple[np.ndarray, ...]:
        began = time.monotonic()
        while True:
            try:
                item = self._stream.waiting.get(timeout=_LOOK_SECONDS)
                break
            except queue.Empty:
                self._check_alive(time.monotonic() - began)
        if isinstance(item, BaseException):
            raise item
        error, number, *chunk = item
        worker = self._owner()
        if error:
            raise ValueError(f"data service: {worker} refuses: {error.decode()}")
        # A restarted worker counts from its first chunk again. Its chunks are right, but not the
        # next.
        if number != self._number:
            raise ConnectionError(
                f"data service: {worker}: chunk {self._number} expected, received {number}: it "
                "was restarted. The same command goes on from the last checkpoint"
            )
        self._number += 1
        return tuple(chunk)

    def _owner(self) -> str:
        """The worker that owes the next chunk."""
        index = self._number % self._stream.of
        return f"data service worker {index} at {self._stream.workers[index]}"

    def _check_alive(self, waited: float) -> None:
        """Raises ConnectionError where what is waited for will not come."""
        stream = self._stream
        if len(stream.workers) < (stream.of or 1):
            if waited > FIND_SECONDS:
                there = ", ".join(f"{i} at {a}" for i, a in sorted(stream.workers.items()))
                raise ConnectionError(
                    f"data service: data service at {self._address}: "
                    f"{stream.of or 'some'} workers expected, received {there or 'none'} within "
                    f"{FIND_SECONDS:.0f} s. Start the others: python -m records.service worker "
                    f"--dispatcher {self._address} --index I --of {stream.of or 'N'} --expose"
                )
            return
        address = stream.workers[self._number % stream.of]
        if not can_connect(address):
            said = f"data service: {self._owner()} does not answer"
            if can_connect(self._address):
                raise ConnectionError(f"{said}. {_HINT}")
            raise ConnectionError(
                f"{said}, nor does the dispatcher at {self._address}: the network of this host "
                "may be cut. Mend it, or restart both; the same command goes on from the last "
                "checkpoint"
            )
        if waited > SILENT_SECONDS:
            raise ConnectionError(
                f"data service: {self._owner()} answers, but sent nothing for "
                f"{SILENT_SECONDS:.0f} s. {_HINT}"
            )


def _end(stream: _Stream, thread: threading.Thread) -> None:
    """Stops the reading, and waits a little for it."""
    stream.stop.set()
    thread.join(_EXIT_SECONDS)


def _read(stream: _Stream, service: str, request: Request) -> None:
    """Reads chunks in their order until nobody wants more."""
    try:
        _find_workers(stream, service)
        # One per worker, read in turn, so chunks come in their order with no buffer to restore.
        iterators = [iter(_dataset(service, request, i)) for i in range(stream.of)]
        for number in itertools.count():
            if stream.stop.is_set():
                return
            element = next(iterators[number % stream.of], None)
            if element is None:
                raise ConnectionError(
                    f"data service: data service worker {number % stream.of} at "
                    f"{stream.workers[number % stream.of]} is gone. {_HINT}"
                )
            stream.put(tuple(part.numpy() for part in element))
    except tf.errors.OpError as error:
        stream.put(
            ConnectionError(f"data service: {service}: {error.message.splitlines()[0]}. {_HINT}")
        )
    except Exception as error:  # whatever it is, the trainer must hear of it
        stream.put(error)


def _find_workers(stream: _Stream, service: str) -> None:
    """Asks for all workers until each has answered; a dispatcher tells who is there by then."""
    # The element comes once from every worker that the dispatcher knows.
    asked = tf.data.Dataset.range(1).map(
        lambda _: tf.raw_ops.PyFunc(input=[], token=HELLO, Tout=[tf.int64, tf.int64, tf.string])
    )
    while not stream.stop.is_set():
        for parts in _distributed(asked, service):
            index, of, address = (part.numpy() for part in parts)
            found = stream.workers.setdefault(int(index), address.decode())
            stream.of = stream.of or int(of)
            if found != address.decode() or stream.of != of:
                raise ValueError(
                    f"data service: {service}: every worker expected with --of {stream.of} and "
                    f"an --index of its own, received --index {index} --of {of} at "
                    f"{address.decode()}, beside {found}. A worker that comes back keeps its "
                    "address: start it with the --host and --port that it had, or start the "
                    "dispatcher anew, too"
                )
            if len(stream.workers) == stream.of:
                return
        stream.stop.wait(0.5)


def _dataset(service: str, request: Request, index: int) -> tf.data.Dataset:
    """The chunks of one worker: every worker runs this graph, the others count to nothing."""

    def numbers(_: tf.Tensor) -> tf.data.Dataset:
        (count,) = tf.raw_ops.PyFunc(
            input=[tf.constant(index, tf.int64)], token=COUNT, Tout=[tf.int64]
        )
        return tf.data.Dataset.range(tf.ensure_shape(count, []))

    def chunk(mine: tf.Tensor) -> list[tf.Tensor]:
        types = [tf.string, tf.int64, tf.as_dtype(request.dtype)]
        types += [tf.as_dtype(request.label_dtype), tf.float32, *([tf.int64] * 3)]
        return tf.raw_ops.PyFunc(input=[request.to_json(), mine], token=CHUNK, Tout=types)

    own = tf.data.Dataset.range(1).flat_map(numbers)
    # The worker's cores are not known here.
    made = own.map(chunk, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _distributed(made, service)


def _distributed(dataset: tf.data.Dataset, service: str) -> tf.data.Dataset:
    """The dataset as every worker makes it, whole and uncompressed."""
    options = tf.data.Options()
    # What a graph's function reads is on the worker: nothing of it is to be sent.
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    return dataset.with_options(options).apply(
        tf.data.experimental.service.distribute(
            tf.data.experimental.service.ShardingPolicy.OFF,
            service,
            # Chunks are large; more would only wait in memory.
            max_outstanding_requests=2,
            # Packing would take the workers' cores, which read and decode.
            compression=None,
            target_workers="ANY",
        )
    )
