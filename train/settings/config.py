"""The settings of a run: one frozen dataclass, from which the command line is generated."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import types
from collections.abc import Callable
from typing import Any, get_args, get_origin, get_type_hints

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
CACHES = ("auto", "device", "memory", "disk", "none")
ON_CORRUPT = ("error", "skip")
ON_NAN = ("stop", "skip")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "nadam")
CLASS_WEIGHTS = ("none", "balanced")
PREPROCESS = ("imagenet", "report")
SCHEDULES = ("cosine", "constant")
MONITORS = ("loss", "accuracy", "weighted_f1")

# What a field left at None becomes, by the modality of the set. Chosen on validation data.
MODALITY_DEFAULTS: dict[str, dict[str, Any]] = {
    "tabular": {
        "model": "mlp",
        "epochs": 60,
        "global_batch_size": 32,
        "learning_rate": 1e-3,
        # A tenth of a small table is too noisy to stop on. Weighted F1 on the validation part of
        # fetal_health, mean of seeds 0 to 2: 0.944 for the whole schedule, 0.930 with patience 20.
        "early_stopping": 0,
        "monitor": "loss",
        "weight_decay": 1e-2,
    },
    "image": {
        "model": "efficientnet_lite0",
        "epochs": 40,
        "global_batch_size": 64,
        "learning_rate": 1e-3,
        "early_stopping": 15,
        # Validation accuracy on brain_tumor_mri, seeds 0 to 2: 0.905, 0.905, 0.909 for the epoch of
        # the best accuracy, 0.895, 0.895, 0.898 for that of the least loss (train.run, once each).
        # The former is the largest of many: it flatters validation.
        "monitor": "accuracy",
        "weight_decay": 1e-2,
    },
    "text": {
        "model": "gru",
        "epochs": 6,
        "global_batch_size": 128,
        "learning_rate": 2e-3,
        "early_stopping": 3,
        "monitor": "accuracy",
        "weight_decay": 0.1,
    },
}

# Settings that change no result: a run goes on with others.
_PLACES: tuple[str, ...] = ("run_dir", "data_dir", "manual_dir", "cache", "memory_budget")
_PLACES += ("checkpoint_minutes", "checkpoint_steps", "keep_checkpoints", "data_service")
# Nor do these part runs: one that ended at a fault goes on with another answer to it.
_PLACES += ("on_corrupt", "on_nan", "evaluate_test")

# Which numbers a field may hold: (fields, test, what an error says was expected).
_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (
        "image_size sequence_length epochs global_batch_size learning_rate clip_norm clip_value "
        "cpu_devices memory_budget shuffle_block length_buckets accumulate_steps "
        "fine_tune_epochs fine_tune_learning_rate checkpoint_steps keep_checkpoints "
        "embedding_dim units",
        lambda x: 0 < x < float("inf"),
        "a positive number",
    ),
    (
        "weight_decay checkpoint_minutes early_stopping mixup warmup_epochs",
        lambda x: 0 <= x < float("inf"),
        "0 or more",
    ),
    (
        "vocab_size",
        lambda x: x >= 3,
        "at least 3 (padding, out of vocabulary and one word)",
    ),
    ("dropout recurrent_dropout", lambda x: 0 <= x < 1, "a rate in [0, 1)"),
    ("label_smoothing", lambda x: 0 <= x < 1, "a share in [0, 1)"),
    ("ema", lambda x: 0 < x < 1, "a momentum in (0, 1)"),
)


def _flag(default: Any, group: str, text: str, choices: tuple[str, ...] | None = None) -> Any:
    metadata = {"group": group, "help": text, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One run. `python -m train.run --help` says what each field means."""

    dataset: str = _flag(
        "fetal_health/synthetic", "data", "name[/config] of a TFDS set, or a prepared directory"
    )
    data_dir: str | None = _flag(
        None, "data", "where prepared sets lie (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)"
    )
    manual_dir: str | None = _flag(
        None, "data", "the downloaded source files, for a set that is not prepared yet"
    )
    feature: str | None = _flag(None, "data", "the input feature, where a set has several")
    on_corrupt: str = _flag(
        "error",
        "data",
        "at a damaged record: stop and name it, or check all records first and pass damaged ones "
        "over, at weight 0",
        ON_CORRUPT,
    )
    cache: str = _flag(
        "auto",
        "data",
        "where decoded examples are kept; the order of examples is the same for all",
        CACHES,
    )
    memory_budget: float | None = _flag(
        None, "data", "bytes of host memory for examples, such as 2e9 (default: half of the free)"
    )
    data_service: str | None = _flag(
        None,
        "data",
        "HOST:PORT of a records.service dispatcher that feeds training from other machines",
    )
    shuffle_block: int | None = _flag(
        None,
        "data",
        "examples permuted together (default: all; with --cache none what half the budget holds)",
    )
    length_buckets: int = _flag(
        12, "data", "texts: at most so many groups of like length; 1 pads all alike"
    )
    folds: int | None = _flag(
        None,
        "data",
        "cross-validation: cut the split train into so many folds (stratified) and validate on "
        "--fold; the split test is not read",
    )
    fold: int = _flag(0, "data", "which of --folds validates, from 0")
    pool_splits: bool = _flag(
        False, "data", "--folds: of all splits together, test included; for a last table"
    )
    group_folds: bool = _flag(
        True, "data", "--folds: near copies and an artist's songs stay in one fold"
    )
    evaluate_test: bool = _flag(
        False, "data", "read the split test at the end, where nothing is chosen any more"
    )
    image_size: int | None = _flag(None, "data", "side of the square pictures, pixels")
    sequence_length: int = _flag(200, "data", "ids per text; longer texts are cut")
    vocab_size: int = _flag(20_000, "data", "ids in use; rarer ones become out of vocabulary")

    model: str | None = _flag(
        None,
        "model",
        "the model (tables: dcn, mlp, mlp_small, mlp_report, "
        "mlp_report_best; pictures: efficientnet_lite0, efficientnet_b0, resnet50, inception_v3; "
        "texts: gru, gru_pairs, lstm, bilstm)",
    )
    weights: str = _flag("imagenet", "model", "imagenet, random, or a weights file (pictures)")
    preprocess: str = _flag(
        "imagenet",
        "model",
        "scaling of pictures: imagenet, as the backbone was trained, or report, as the report did "
        "it (resnet50 and inception_v3: divided by 255)",
        PREPROCESS,
    )
    freeze: bool | None = _flag(
        None, "model", "train only the head, on features computed once (pictures; default on)"
    )
    unfreeze_from: str | None = _flag(
        None,
        "model",
        "after the head, fine-tune on augmented pictures: all, or the first layer of the backbone "
        "that is trained",
    )
    augment: bool = _flag(
        True, "model", "augment pictures on the device (not where features are frozen)"
    )
    hidden: tuple[int, ...] | None = _flag(
        None, "model", "units of each hidden layer (tables; default by the model)"
    )
    embedding_dim: int | None = _flag(
        None, "model", "width of a word's vector (texts; default by the model)"
    )
    units: int | None = _flag(
        None, "model", "width of the recurrent state, per direction (texts; default by the model)"
    )
    dropout: float | None = _flag(None, "model", "dropout rate; default by the model")
    recurrent_dropout: float = _flag(
        0.0, "model", "dropout rate of the recurrent state (texts; never with cuDNN's kernel)"
    )

    epochs: int | None = _flag(None, "training", "the most epochs to train")
    global_batch_size: int | None = _flag(None, "training", "examples per step, all replicas")
    fine_tune_epochs: int = _flag(5, "training", "epochs of --unfreeze-from")
    fine_tune_learning_rate: float = _flag(1e-4, "training", "learning rate of --unfreeze-from")
    optimizer: str = _flag("adamw", "training", "the optimizer", OPTIMIZERS)
    learning_rate: float | None = _flag(None, "training", "the learning rate")
    schedule: str = _flag(
        "cosine", "training", "learning rate over the epochs: falling to 0, or constant", SCHEDULES
    )
    weight_decay: float | None = _flag(None, "training", "decoupled weight decay (adamw)")
    clip_norm: float | None = _flag(None, "training", "clip gradients to this global norm")
    clip_value: float | None = _flag(
        None, "training", "clip each number of the gradients to this absolute value"
    )
    accumulate_steps: int = _flag(
        1,
        "training",
        "cut each replica's rows of a global batch into so many parts and add up their gradients: "
        "the same update with less memory",
    )
    ema: float | None = _flag(
        None,
        "training",
        "momentum, such as 0.999, of an exponential moving average of the weights, with which the "
        "model is validated and saved",
    )
    label_smoothing: float = _flag(0.0, "training", "share of the target spread over all classes")
    mixup: float = _flag(
        0.0, "training", "mix pairs of pictures, shares drawn from Beta(X, X), such as 0.2"
    )
    warmup_epochs: float = _flag(
        0.0,
        "training",
        "epochs in which the learning rate rises from 0 (--schedule cosine), in each stage",
    )
    on_nan: str = _flag(
        "stop",
        "training",
        "at a step whose loss is no number: stop and name its batch, or skip its update",
        ON_NAN,
    )
    class_weights: str = _flag("none", "training", "weights of the classes", CLASS_WEIGHTS)
    early_stopping: int | None = _flag(
        None,
        "training",
        "stop after this many epochs without a better --monitor, and go back to the best "
        "weights; 0: train all epochs and keep the last",
    )
    monitor: str | None = _flag(
        None, "training", "validation metric that picks the best weights", MONITORS
    )
    seed: int = _flag(0, "training", "names initial weights, order, dropout and validation cut")

    strategy: str = _flag("auto", "hardware", "distribution strategy", STRATEGIES)
    precision: str = _flag("auto", "hardware", "precision of the model's arithmetic", PRECISIONS)
    xla: bool | None = _flag(
        None,
        "hardware",
        "compile with XLA (default: by device and model, see train/settings/auto.py)",
    )
    cpu_devices: int | None = _flag(
        None, "hardware", "logical CPU devices, to try several replicas without a GPU"
    )
    deterministic: bool = _flag(True, "hardware", "use deterministic kernels only")

    run_dir: str | None = _flag(
        None, "output", "the run folder (default: runs/<set>-<model>-<hash of the settings>)"
    )
    profile: str | None = _flag(
        None,
        "output",
        "FROM,TO: write a TensorBoard profile of these steps of the run (with --unfreeze-from: of "
        "the fine-tuning)",
    )
    checkpoint_minutes: float = _flag(
        5.0, "output", "minutes between checkpoints; the end of a run always writes one"
    )
    checkpoint_steps: int | None = _flag(
        None, "output", "a checkpoint also after every N steps of the run"
    )
    keep_checkpoints: int = _flag(2, "output", "how many of the newest checkpoints are kept")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            choices, value = field.metadata["choices"], getattr(self, field.name)
            if choices and value is not None and value not in choices:
                raise ValueError(
                    f"settings: --{field.name.replace('_', '-')} expected one of "
                    f"{', '.join(choices)}, received {value!r}"
                )
        if self.hidden is not None:  # read from JSON it is a list
            object.__setattr__(self, "hidden", tuple(self.hidden))
        self._check_numbers()
        self._check_folds()

    def _check_folds(self) -> None:
        """Raises ValueError for a fold that is not there."""
        if self.folds is None:
            if self.fold or self.pool_splits or not self.group_folds:
                raise ValueError(
                    "settings: --fold, --pool-splits, --no-group-folds expected with --folds, "
                    "received them without"
                )
            return
        if self.folds < 2 or not 0 <= self.fold < self.folds:
            raise ValueError(
                "settings: --folds expected 2 or more and --fold one of 0 to N - 1, received "
                f"--folds {self.folds} --fold {self.fold}"
            )

    def _check_numbers(self) -> None:
        """Raises ValueError for a number out of its range."""
        for names, is_valid, expected in _RANGES:
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not is_valid(value):
                    raise ValueError(
                        f"settings: --{name.replace('_', '-')} expected {expected}, "
                        f"received {value}"
                    )
        self.profile_steps()

    def profile_steps(self) -> tuple[int, int] | None:
        """`--profile` as (first step, last step), or None."""
        if self.profile is None:
            return None
        parts = self.profile.split(",")
        if len(parts) != 2 or not all(p.strip().isdigit() for p in parts):
            raise ValueError(
                f"settings: --profile expected FROM,TO (two step numbers, such as 20,40), "
                f"received {self.profile!r}"
            )
        first, last = (int(p) for p in parts)
        if first >= last:
            raise ValueError(f"settings: --profile expected FROM < TO, received {self.profile}")
        return first, last

    def to_json(self) -> str:
        """The settings as JSON, without those that leave the training as it is.

        The data are known by their fingerprint, wherever they lie, and give the same batches from
        every cache.
        """
        fields = dataclasses.asdict(self)
        for name in _PLACES:
            del fields[name]
        return json.dumps(fields, indent=2, sort_keys=True)

    def default_run_dir(self) -> str:
        """A folder named by the settings, so that the same command finds the same run."""
        digest = hashlib.sha256(self.to_json().encode()).hexdigest()[:8]
        name = self.dataset.strip("/").replace("/", "-")
        return f"runs/{name}-{self.model}-{digest}"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds one flag per field of `TrainConfig`; `--global_batch_size` is accepted as well."""
    hints = get_type_hints(TrainConfig)
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(TrainConfig):
        group = field.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        names = [f"--{field.name.replace('_', '-')}"]
        kind, several = _scalar_type(hints[field.name])
        text = field.metadata["help"]
        by_kind = [str(defaults.get(field.name, "")) for defaults in MODALITY_DEFAULTS.values()]
        if any(by_kind):
            text += f" (default, tables / pictures / texts: {' / '.join(by_kind)})"
        elif field.default is not None and kind is not bool:
            text += f" (default: {field.default})"
        options: dict[str, Any] = {"dest": field.name, "default": field.default, "help": text}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": kind, "choices": field.metadata["choices"]}
            if not field.metadata["choices"]:
                options["metavar"] = {int: "N", float: "X"}.get(kind, "TEXT")
            if several:
                options |= {"nargs": "+"}
        groups[group].add_argument(*names, **options)


def normalise_flags(arguments: list[str]) -> list[str]:
    """Writes `--global_batch_size=8` as `--global-batch-size=8`; values are left alone."""
    out = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
        out.append(name + equals + value)
    return out


def _scalar_type(hint: Any) -> tuple[Any, bool]:
    """(type of one value, whether the field holds several)."""
    if isinstance(hint, types.UnionType):
        hint = next(h for h in get_args(hint) if h is not type(None))
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False
