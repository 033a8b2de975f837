"""What a user may choose about the decoded inputs."""

import dataclasses

from records.decoding.pixels import MAX_PIXELS
from records.sets.target import TASKS
from records.system.arguments import check_kind, check_whole

# Where decoded inputs are kept, from the fastest level to the one that needs the least room. The
# order counts: workers that find different levels to fit all take the last one of them.
LEVELS = ("device", "memory", "disk", "none")
# Without `device`, which only a training loop that holds the devices can fill.
HOST_LEVELS = LEVELS[1:]


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """What shapes the decoded inputs; none of it needs a new build.

    Attributes:
      image_size: S, pictures become uint8 [S, S, C].
      sequence_length: T, ids become int32 [T], padded or cut on the right.
      vocab_size: V, ids at or above it become 1 (out of vocabulary).
      cache: where decoded splits are kept, one of `HOST_LEVELS`: "memory", "disk" (a file beside
        the shards, decoded once and mapped into memory by every later run) or "none" (each
        batch is read and decoded again).
      max_pixels: larger pictures are refused undecoded, as a file of some KB can claim gigabytes.
      feature: the input feature; None lets the schema choose.
      task: single_label, multi_label or regression; None: what the label feature is made for.
    """

    image_size: int = 224
    sequence_length: int = 200
    vocab_size: int = 20_000
    cache: str = "memory"
    max_pixels: int = MAX_PIXELS
    feature: str | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "sequence_length", "max_pixels"):
            check_whole(name, getattr(self, name))
        # Padding, out of vocabulary and one word.
        check_whole("vocab_size", self.vocab_size, 3)
        check_kind("feature", self.feature, (str, type(None)), "the name of a feature or None")
        if self.task not in (None, *TASKS):
            raise ValueError(
                f"input: task expected one of {', '.join(TASKS)} or None, received {self.task!r}"
            )
        if self.cache not in HOST_LEVELS:
            raise ValueError(
                f"input: cache expected one of {', '.join(HOST_LEVELS)}, received "
                f"{self.cache!r} (device is chosen by the training loop)"
            )
