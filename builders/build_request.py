"""What a build was asked for: refusals of what TFDS would ignore or lose, and the shard count."""

import dataclasses
from typing import Any

import tensorflow_datasets as tfds

from builders.tfds_private import ShardedDownloadConfig


def check_file_format(place: str, file_format: Any) -> None:
    """Raises ValueError, which begins with `place`, for a format other than tfrecord."""
    name = getattr(file_format, "value", file_format)
    if name not in (None, "tfrecord"):
        raise ValueError(
            f"{place}: file format expected tfrecord, received {name}: TFDS loses rows or "
            "cannot read them back in other formats. Leave --file_format out"
        )


def check_request(place: str, request: tfds.download.DownloadConfig, num_shards: int) -> None:
    """Raises ValueError, which begins with `place`, for what TFDS would ignore without a word."""
    # Only what differs from TFDS's own defaults was asked for.
    default = tfds.download.DownloadConfig()
    for field in ("max_shard_size", "min_shard_size"):
        received = getattr(request, field)
        if received not in (None, getattr(default, field)):
            raise ValueError(
                f"{place}: {field}={received} was asked for, which TFDS ignores. "
                f"Set the number of shards instead: --num_shards={num_shards}"
            )
    if asks_for_beam(request) and request.ignore_duplicates:
        raise ValueError(
            f"{place}: ignore_duplicates was asked for, but on Beam no example of a key is the "
            "first. Build without Beam, or give each example a key of its own"
        )
    if request.nondeterministic_order:
        raise ValueError(
            f"{place}: nondeterministic_order was asked for, but a build writes the same "
            "bytes every time. Leave --nondeterministic_order out"
        )
    if request.num_shards is not None and request.num_shards < 1:
        raise ValueError(f"{place}: num_shards expected 1 or more, received {request.num_shards}")


def asks_for_beam(request: tfds.download.DownloadConfig) -> bool:
    """Whether the build is to run on Apache Beam."""
    return request.beam_options is not None or request.beam_runner is not None


def beam_options(text: str) -> Any:
    """Beam's options of `--beam_pipeline_options`, read as `tfds build` does: `a=1,b=2`."""
    from apache_beam.options.pipeline_options import PipelineOptions  # takes seconds

    return PipelineOptions([f"--{option}" for option in text.split(",")])


def with_shards(request: tfds.download.DownloadConfig, num_shards: int) -> ShardedDownloadConfig:
    """The request, with `num_shards` shards for each split where it names no number."""
    values = {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    values["num_shards"] = request.num_shards or num_shards
    values["try_download_gcs"] = False  # our sets are not there; asking waits for the network
    return ShardedDownloadConfig(**values)
