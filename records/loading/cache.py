"""Where decoded examples are kept between epochs.

| level | where | a batch is |
|---|---|---|
| `device` | each replica's memory | gathered by permuted index inside the compiled step |
| `memory` | host memory, one array a split | gathered by permuted index, then sent |
| `disk` | a file beside the shards, mapped into memory | gathered likewise |
| `none` | nowhere | read and decoded again; in blocks where the records exceed the budget |

The level never changes which examples a batch holds.
"""

import shutil
import subprocess
import threading

import numpy as np

from records.decoding.input_config import LEVELS
from records.loading.disk_cache import has_space
from records.loading.load import Loader
from records.system.memory import free_memory
from records.system.progress import show_progress
from records.system.threads import ordered_map

# Half of what is free: the other half stays for the model, the framework and the page cache.
MEMORY_SHARE = 0.5
# Where a GPU's free memory cannot be asked for: small beside any current GPU.
_ACCELERATOR_BYTES = 2 * 2**30
# Of the budget for each of two blocks; a tenth is left for what is being read and decoded.
_BLOCK_SHARE = 0.45
# A record held in memory: its payload, the Python object around it and its place in a dict.
_OBJECT_BYTES = 200


def choose_level(
    wanted: str,
    decoded_bytes: int,
    local_replicas: int,
    accelerator: bool,
    *,
    directory: str,
    memory_budget: int | None = None,
) -> tuple[str, str]:
    """(the highest cache level that fits, why: a sentence for the user).

    Args:
      wanted: `auto` or one of `LEVELS`, which is kept.
      decoded_bytes: bytes of all decoded splits; the `device` level takes them for each replica.
      accelerator: replicas have memory of their own (a GPU).
      directory: the set's, beside whose shards the `disk` level writes.
      memory_budget: bytes of host memory for examples; default: `host_budget`.
    """
    if wanted not in ("auto", *LEVELS):
        raise ValueError(
            f"input: cache expected one of auto, {', '.join(LEVELS)}, received {wanted!r}"
        )
    size = _mebibytes(decoded_bytes)
    if wanted != "auto":
        return wanted, f"cache {wanted}: as asked ({size} decoded)"
    host = host_budget(memory_budget)
    # Without an accelerator the copies lie in host memory, beside the one they are made from.
    device = accelerator_budget() if accelerator else host
    needed = decoded_bytes if accelerator else decoded_bytes * local_replicas
    if needed <= device and decoded_bytes <= host:
        copies = f" x {local_replicas} replicas" if local_replicas > 1 and not accelerator else ""
        return "device", f"cache device: {size} decoded{copies} fit {_mebibytes(device)}"
    if decoded_bytes <= host:
        return "memory", f"cache memory: {size} decoded fit {_mebibytes(host)} of host memory"
    if has_space(directory, decoded_bytes):
        return "disk", (
            f"cache disk: {size} decoded exceed {_mebibytes(host)} of host memory, and fit beside "
            "the shards"
        )
    return "none", (
        f"cache none: {size} decoded exceed {_mebibytes(host)} of host memory and what is free "
        "beside the shards; records are read and decoded in every epoch"
    )


class Filling:
    """Decodes pictures into an array, each record once, in whatever order they are asked for.

    Attributes:
      inputs: [N, ...], final where a record was loaded.
      done: all of it is final.
    """

    def __init__(self, loader: Loader, inputs: np.ndarray, label: str):
        """Decodes nothing yet; `label` names the progress line of `finish`."""
        self.inputs, self.done = inputs, False
        self._loader, self._label = loader, label
        self._final = np.zeros(len(inputs), bool)
        self._finishing = threading.Lock()

    def ensure(self, numbers: np.ndarray) -> np.ndarray:
        """Decodes what is missing of the records `numbers` int [n]; any thread may call it.

        Returns:
          `numbers`.

        Raises:
          ValueError: a record is damaged; names shard, record and byte offset.
        """
        # A chunk may hold a record twice, where its tail is padded.
        missing = np.unique(numbers[~self._final[numbers]])
        if len(missing):
            # Each picture is decoded to where it stands: no copy.
            places = [self.inputs[number] for number in missing]
            self._loader.finish(missing, self._loader.read(missing), out=places)
            # Two threads may decode the same record at once: both write the same bytes.
            self._final[missing] = True  # after the inputs: another thread may look now
        return numbers

    def holds(self, numbers: np.ndarray) -> bool:
        """Whether all records `numbers` int [n] are decoded."""
        return bool(self._final[numbers].all())

    def finish(self) -> None:
        """Decodes what is left, on all cores, with progress on a terminal; errors as `load`."""
        # One thread finishes; others that ask for the whole array wait until it is.
        with self._finishing:
            if self.done:
                return
            left = (unit[~self._final[unit]] for unit in self._loader.units())
            total = int((~self._final).sum())
            loaded = ordered_map(self.ensure, (unit for unit in left if len(unit)))
            for _ in show_progress(loaded, total, self._label):
                pass
            self.done = True


def host_budget(memory_budget: int | None) -> int:
    """Bytes of host memory for examples: as asked, else half of what is free."""
    if memory_budget is not None:
        return memory_budget
    return int(free_memory() * MEMORY_SHARE)


def accelerator_budget() -> int:
    """Bytes of each GPU's memory for examples: half of what the fullest one has free.

    TensorFlow does not tell a GPU's free memory before it has grown into it; nvidia-smi does.
    """
    command = shutil.which("nvidia-smi")
    if command is None:
        return _ACCELERATOR_BYTES
    query = [command, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        # nvidia-smi tells MiB. Replicas are fed alike, so the fullest GPU decides.
        free = min(int(line) for line in found.stdout.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return _ACCELERATOR_BYTES
    return int(free * MEMORY_SHARE)


def choose_shuffle_block(
    level: str, record_bytes: int, num_examples: int, global_batch_size: int, budget: int
) -> int | None:
    """Examples that are permuted together; None where the whole split fits.

    Without a cache, two blocks of the split's records fit `budget` bytes of host memory (see
    `host_budget`), and a block has a batch at least.
    """
    held = record_bytes + _OBJECT_BYTES * num_examples
    if level != "none" or held <= budget:
        return None
    # Two blocks are held: the one in use, and the one that is read.
    return max(global_batch_size, int(num_examples * budget * _BLOCK_SHARE / held))


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
