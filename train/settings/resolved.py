"""What a run trains with: every setting resolved, once, for the data and the hardware."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from records.sets.schema import IMAGE, TABULAR, TEXT, TOKENS
from records.sets.target import SINGLE_LABEL
from train.settings.config import RESULT_FIELDS, TrainConfig, json_ready, setting_fields
from train.settings.sets import AnySet, folder_name

# What hardware and free memory decide. A run is known by what was asked of these, and goes on
# with what they became at its first start: `resolved` in config.json.
KEPT_FROM_FIRST_START = ("precision", "xla", "shuffle_block")

_OF_PICTURES = {
    "image_size",
    "max_pixels",
    "weights",
    "preprocess",
    "freeze",
    "unfreeze_from",
    "augment",
    "mixup",
}
_OF_PICTURES |= {"fine_tune_epochs", "fine_tune_learning_rate"}
_OF_TEXTS = {"length_buckets", "sequence_length", "vocab_size", "embedding_dim", "units"}
_OF_TEXTS |= {"recurrent_dropout", "weights"}
# The settings that only data of one modality have.
OF_KIND = {IMAGE: _OF_PICTURES, TABULAR: {"hidden"}, TEXT: _OF_TEXTS, TOKENS: _OF_TEXTS}


@dataclasses.dataclass(frozen=True)
class Settings:
    """One run, resolved: the fields of `TrainConfig`, each with the value that is used.

    A field that may still be None says something by it: no clipping, no folds, the model's own
    width. `python -m train.run --help` says what each field means.

    Attributes:
      asked: what was asked for.
      profile: the first step that is traced, and the one after the last.
      shuffle_block: examples permuted together; None for all.
      run_dir: the folder that was asked for; see `folder`.
    """

    asked: TrainConfig

    dataset: AnySet
    data_dir: str | None
    manual_dir: str | None
    feature: str | None
    classes: tuple[str, ...] | None
    task: str
    on_corrupt: str
    cache: str
    memory_budget: float | None
    data_service: str | None
    shuffle_block: int | None
    length_buckets: int
    folds: int | None
    fold: int
    pool_splits: bool
    group_folds: bool
    evaluate_test: bool
    image_size: int
    max_pixels: int
    sequence_length: int
    vocab_size: int

    model: str
    weights: str
    preprocess: str
    freeze: bool
    unfreeze_from: str | None
    augment: bool
    hidden: tuple[int, ...] | None
    embedding_dim: int | None
    units: int | None
    dropout: float | None
    recurrent_dropout: float

    epochs: int
    global_batch_size: int
    fine_tune_epochs: int
    fine_tune_learning_rate: float
    optimizer: str
    learning_rate: float
    schedule: str
    weight_decay: float
    clip_norm: float | None
    clip_value: float | None
    accumulate_steps: int
    ema: float | None
    label_smoothing: float
    mixup: float
    warmup_epochs: float
    on_nan: str
    class_weights: str
    early_stopping: int
    monitor: str
    seed: int

    strategy: str
    precision: str
    xla: bool
    cpu_devices: int | None
    peak_tflops: float | None
    deterministic: bool

    run_dir: str | None
    profile: tuple[int, int] | None
    histograms: bool
    checkpoint_minutes: float
    checkpoint_steps: int | None
    keep_checkpoints: int

    @classmethod
    def of(cls, asked: TrainConfig, found: Mapping[str, Any]) -> Settings:
        """What was asked for, with the values that were `found` in place of those asked.

        Raises:
          ValueError: a setting that a run needs has no value.
        """
        values = {field.name: getattr(asked, field.name) for field in setting_fields()}
        # The right side wins: what was found takes the place of what was asked.
        task = asked.task or SINGLE_LABEL
        values |= {"profile": asked.profile_steps(), "task": task} | dict(found)
        for name, hint in get_type_hints(cls).items():
            if name != "asked" and values[name] is None and type(None) not in get_args(hint):
                raise ValueError(f"settings: {name} expected a value, received none")
        return cls(asked=asked, **values)

    @property
    def skip_damaged(self) -> bool:
        """Damaged records are passed over."""
        return self.on_corrupt == "skip"

    @property
    def folder(self) -> str:
        """The run folder: as asked, else named by the settings: the same command finds it again."""
        if self.run_dir is not None:
            return self.run_dir
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"runs/{folder_name(self.dataset)}-{self.model.replace(':', '.')}-{digest}"

    def to_dict(self) -> dict[str, Any]:
        """What a run is known by, JSON-ready: the settings that change its result.

        Those that hardware decides stand as they were asked for.
        """
        # Two machines, or one with more memory, choose otherwise for the same run.
        asked = (*KEPT_FROM_FIRST_START, "profile")
        found = {n: getattr(self.asked if n in asked else self, n) for n in RESULT_FIELDS}
        if self.task == SINGLE_LABEL:  # which names no run: those of older versions go on
            del found["task"]
        return json_ready(found)

    def used(self, modality: str) -> dict[str, Any]:
        """The settings that could have changed the result of a run on such data, by name.

        Left out is what belongs to another kind of data, or to a setting that is off.
        """
        unused = set().union(*OF_KIND.values()) - OF_KIND[modality] | {"profile"}
        if self.task == SINGLE_LABEL:
            unused |= {"task"}
        if self.folds is None:
            unused |= {"fold", "pool_splits", "group_folds"}
        if self.unfreeze_from is None:
            unused |= {"fine_tune_epochs", "fine_tune_learning_rate"}
            unused |= {"augment"} if self.freeze else set()
        if not self.early_stopping:
            unused |= {"monitor"}
        if self.optimizer != "adamw":
            unused |= {"weight_decay"}
        found = {name: getattr(self, name) for name in RESULT_FIELDS if name not in unused}
        return {name: value for name, value in found.items() if value is not None}

    def stages(self) -> tuple[Settings, ...]:
        """What is trained one after the other: all at once, or the head and then the backbone too.

        Only the last is profiled.
        """
        if self.unfreeze_from is None:
            return (self,)
        tuning = {"epochs": self.fine_tune_epochs, "learning_rate": self.fine_tune_learning_rate}
        head = dataclasses.replace(self, profile=None)
        return head, dataclasses.replace(self, freeze=False, **tuning)  # type: ignore[arg-type]
