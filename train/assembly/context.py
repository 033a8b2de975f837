"""What a run is made from, together: settings, replicas and data."""

from __future__ import annotations

import dataclasses

from records.examples import Examples
from records.pipeline import make_chunks
from records.roles import Data
from train.devices.strategy import Cluster
from train.settings.resolved import Settings
from train.step.feed import ChunkSource


@dataclasses.dataclass(frozen=True)
class RunContext:
    """All that building, training and evaluating need to know."""

    settings: Settings  # resolved
    cluster: Cluster  # the replicas
    # The opened set, as inputs of the model; `data.opened` has its schema and fingerprint.
    data: Data
    level: str  # where decoded examples are kept: "device", "memory", "disk" or "none"
    # By role: train, validation, and test where it is to be evaluated.
    examples: dict[str, Examples]
    # Where the training chunks come from on all levels but "device".
    source: ChunkSource = make_chunks

    def with_settings(self, settings: Settings) -> RunContext:
        """The same with other settings, such as those of a later stage."""
        return dataclasses.replace(self, settings=settings)
