"""Parts of shards that are not in the cache yet, or have no room there: read by ranges.

Parts that stand close together become one request; many requests are under way at once, and what
was read ahead is bounded. Meanwhile the whole shards come, where the cache has room for all of
them: then nothing is asked of the store again.
"""

import collections
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from records.stores import client, mirror

_GAP_BYTES = 128 * 1024  # read along: it takes less time than a request of its own
_MOST_BYTES = 8 * 2**20  # of one request
_AT_ONCE = 32
_AHEAD_BYTES = 64 * 2**20

# (path, first byte, byte behind the last one)
Part = tuple[str, int, int]


class Background:
    """Fetches the shards of one reader, in their order, while it reads by ranges."""

    def __init__(self, paths: Sequence[str]):
        """Starts nothing yet."""
        self._paths = list(dict.fromkeys(paths))
        self._lock = threading.Lock()
        self._started = False
        self._error: Exception | None = None

    def start(self) -> None:
        """Begins, at the first call, where the cache has room for all shards.

        Raises:
          StoreError, FileNotFoundError: what a shard that was fetched before has ended with.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._started:
                return
            self._started = True
        if not mirror.fits(self._paths):
            return
        waiting = collections.deque(self._paths)

        def work() -> None:
            while waiting and self._error is None:
                try:
                    if not mirror.fetch(waiting.popleft()):
                        return  # others hold what is in the cache: ranges it is
                except IndexError:
                    return
                except Exception as error:  # raised where the reader is
                    self._error = error

        # The interpreter does not wait for them: what is unfinished then is begun again.
        for number in range(mirror.SHARDS_AT_ONCE):
            threading.Thread(target=work, name=f"records-store-{number}", daemon=True).start()


def read_parts(parts: Sequence[Part]) -> Iterator[bytes]:
    """The bytes of parts of a mirror's shards, in order; neighbours in a file stand side by side.

    Raises:
      StoreError, FileNotFoundError: as `records.stores.client.read`.
    """
    is_finalizing = sys.is_finalizing  # when the interpreter goes, so do its modules' names
    pool = ThreadPoolExecutor(min(_AT_ONCE, max(1, len(parts))), "records-ranges")
    under_way: collections.deque[tuple[list[Part], Future[bytes]]] = collections.deque()
    groups = collections.deque(_groups(parts))
    held = 0
    try:
        while groups or under_way:
            while groups and (not under_way or held + _extent(groups[0]) <= _AHEAD_BYTES):
                group = groups.popleft()
                held += _extent(group)
                under_way.append((group, pool.submit(_read_group, group)))
            group, future = under_way.popleft()
            data, first = future.result(), group[0][1]
            held -= _extent(group)
            for _, start, end in group:
                yield data[start - first : end - first]
    finally:
        if not is_finalizing():
            pool.shutdown(wait=True, cancel_futures=True)


def _groups(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Lists of parts that one request brings."""
    group: list[Part] = []
    for part in parts:
        if group:
            path, first, last = group[0][0], group[0][1], group[-1][2]
            is_near = path == part[0] and 0 <= part[1] - last <= _GAP_BYTES
            if not (is_near and part[2] - first <= _MOST_BYTES):
                yield group
                group = []
        group.append(part)
    if group:
        yield group


def _extent(group: Sequence[Part]) -> int:
    return group[-1][2] - group[0][1]


def _read_group(group: Sequence[Part]) -> bytes:
    path = group[0][0]
    found = mirror.object_of(path)
    assert found is not None  # of a mirror, or it would not be read here
    address, expected = found
    end = min(group[-1][2], expected.size)  # an index may be of another shard: the CRCs tell
    return client.read(address, expected, min(group[0][1], end), end)
