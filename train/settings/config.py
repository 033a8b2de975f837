"""What can be asked for: one frozen dataclass, from which the command line is generated.

A field at None was not asked for; `train.settings.resolve` makes `Settings` of it, which have a
value for each.
"""

import dataclasses
import functools
import json
import os
from typing import Any

from records.decoding.input_config import LEVELS, MAX_PIXELS
from records.sets.target import TASKS
from train.measures.metrics import MONITORED
from train.settings.fields import MOMENTUM, NOT_NEGATIVE, POSITIVE, RATE, SHARE, WORDS, setting
from train.settings.sets import OF_ONE_SET, shares_of

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
CACHE_CHOICES = ("auto", *LEVELS)
ON_CORRUPT = ("error", "skip")
ON_NAN = ("stop", "skip")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "nadam")
CLASS_WEIGHTS = ("none", "balanced")
PREPROCESS = ("imagenet", "report")
SCHEDULES = ("cosine", "constant")

# One per group of `--help`: the first argument is the default, the second the help.
_data = functools.partial(setting, "data")
_model = functools.partial(setting, "model")
_training = functools.partial(setting, "training")
_hardware = functools.partial(setting, "hardware")
_output = functools.partial(setting, "output")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One run, as asked for. `python -m train.run --help` says what each field means."""

    dataset: str | tuple[str, ...] = _data(
        "fetal_health/synthetic",
        "name[/config] of a TFDS set, a prepared directory, or a file or folder to convert first; "
        "several as NAME=SHARE, such as a=0.7 b=0.3, are mixed in every batch",
    )
    data_dir: str | None = _data(
        None,
        "where prepared sets lie (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)",
        is_place=True,
    )
    manual_dir: str | None = _data(
        None, "the downloaded source files, for a set that is not prepared yet", is_place=True
    )
    feature: str | None = _data(None, "the input feature, where a set has several")
    classes: tuple[str, ...] | None = _data(
        None,
        "train on the records of these classes alone, numbered as they are named; NEW=A,B makes "
        "one class of two (default: all)",
    )
    task: str | None = _data(
        None,
        "what is predicted: one class, several classes at once, or numbers (default: what the "
        "label feature is made for)",
        TASKS,
    )
    on_corrupt: str = _data(
        "error",
        "at a damaged record: stop and name it, or check all records first and pass damaged ones "
        "over, at weight 0",
        ON_CORRUPT,
        changes_result=False,
    )
    cache: str = _data(
        "auto",
        "where decoded examples are kept; the order of examples is the same for all",
        CACHE_CHOICES,
        changes_result=False,
    )
    memory_budget: float | None = _data(
        None,
        "bytes of host memory for examples, such as 2e9 (default: half of the free)",
        within=POSITIVE,
        changes_result=False,
    )
    data_service: str | None = _data(
        None,
        "HOST:PORT of a records.service dispatcher that feeds training from other machines",
        changes_result=False,
    )
    shuffle_block: int | None = _data(
        None,
        "examples permuted together (default: all; with --cache none, beyond the budget, what "
        "45 %% of it holds)",
        within=POSITIVE,
    )
    length_buckets: int = _data(
        12, "texts: at most so many groups of like length; 1 pads all alike", within=POSITIVE
    )
    folds: int | None = _data(
        None,
        "cross-validation: cut the split train into so many folds (stratified) and validate on "
        "--fold; the split test is not read",
    )
    fold: int = _data(0, "which of --folds validates, from 0")
    pool_splits: bool = _data(
        False, "--folds: of all splits together, test included; for a last table"
    )
    group_folds: bool = _data(True, "--folds: near copies and an artist's songs stay in one fold")
    evaluate_test: bool = _data(
        False,
        "read the split test at the end, where nothing is chosen any more",
        changes_result=False,
    )
    image_size: int | None = _data(None, "side of the square pictures, pixels", within=POSITIVE)
    max_pixels: int = _data(
        MAX_PIXELS,
        "larger pictures are refused undecoded: a small file can claim gigabytes",
        within=POSITIVE,
        changes_result=False,
    )
    sequence_length: int = _data(200, "ids per text; longer texts are cut", within=POSITIVE)
    vocab_size: int = _data(20_000, "ids in use; rarer ones become out of vocabulary", within=WORDS)

    # By hand, because `models.MODELS` imports TensorFlow; a test compares the two.
    model: str | None = _model(
        None,
        "the model (tables: dcn, mlp, mlp_small, mlp_report, "
        "mlp_report_best; pictures: efficientnet_lite0, efficientnet_b0, resnet50, inception_v3; "
        "texts: gru, gru_pairs, gru_language, lstm, bilstm), or your own as "
        "package.module:function, called with (spec of an input, number of classes)",
    )
    weights: str = _model(
        "imagenet",
        "imagenet, random, or a weights file (pictures); a file of train.pretrain (texts)",
    )
    preprocess: str = _model(
        "imagenet",
        "scaling of pictures: imagenet, as the backbone was trained, or report (resnet50 and "
        "inception_v3 alone: divided by 255)",
        PREPROCESS,
    )
    freeze: bool | None = _model(
        None, "train only the head, on features computed once (pictures; default on)"
    )
    unfreeze_from: str | None = _model(
        None,
        "after the head, fine-tune on augmented pictures: all, or the first layer of the backbone "
        "that is trained",
    )
    augment: bool = _model(True, "augment pictures on the device (not where features are frozen)")
    hidden: tuple[int, ...] | None = _model(
        None, "units of each hidden layer (tables; default by the model)"
    )
    embedding_dim: int | None = _model(
        None, "width of a word's vector (texts; default by the model)", within=POSITIVE
    )
    units: int | None = _model(
        None,
        "width of the recurrent state, per direction (texts; default by the model)",
        within=POSITIVE,
    )
    dropout: float | None = _model(None, "dropout rate; default by the model", within=RATE)
    recurrent_dropout: float = _model(
        0.0, "dropout rate of the recurrent state (texts; never with cuDNN's kernel)", within=RATE
    )

    epochs: int | None = _training(
        None,
        "the most epochs to train; of small tables and texts more, of large tables fewer",
        within=POSITIVE,
    )
    global_batch_size: int | None = _training(
        None, "examples per step, all replicas", within=POSITIVE
    )
    fine_tune_epochs: int = _training(5, "epochs of --unfreeze-from", within=POSITIVE)
    fine_tune_learning_rate: float = _training(
        1e-4, "learning rate of --unfreeze-from", within=POSITIVE
    )
    optimizer: str = _training("adamw", "the optimizer", OPTIMIZERS)
    learning_rate: float | None = _training(None, "the learning rate", within=POSITIVE)
    schedule: str = _training(
        "cosine", "learning rate over the epochs: falling to 0, or constant", SCHEDULES
    )
    weight_decay: float | None = _training(
        None, "decoupled weight decay (adamw)", within=NOT_NEGATIVE
    )
    clip_norm: float | None = _training(None, "clip gradients to this global norm", within=POSITIVE)
    clip_value: float | None = _training(
        None, "clip each number of the gradients to this absolute value", within=POSITIVE
    )
    accumulate_steps: int = _training(
        1,
        "cut each replica's rows of a global batch into so many parts and add up their gradients: "
        "the same update with less memory",
        within=POSITIVE,
    )
    ema: float | None = _training(
        None,
        "momentum, such as 0.999, of an exponential moving average of the weights, with which the "
        "model is validated and saved",
        within=MOMENTUM,
    )
    label_smoothing: float = _training(
        0.0, "share of the target spread over all classes", within=SHARE
    )
    mixup: float = _training(
        0.0, "mix pairs of pictures, shares drawn from Beta(X, X), such as 0.2", within=NOT_NEGATIVE
    )
    warmup_epochs: float = _training(
        0.0,
        "epochs in which the learning rate rises from 0 (--schedule cosine), in each stage",
        within=NOT_NEGATIVE,
    )
    on_nan: str = _training(
        "stop",
        "at a step whose loss is NaN or infinite: stop and name its batch, or skip its update",
        ON_NAN,
        changes_result=False,
    )
    class_weights: str = _training("none", "weights of the classes", CLASS_WEIGHTS)
    early_stopping: int | None = _training(
        None,
        "stop after this many epochs without a better --monitor, and go back to the best "
        "weights; 0: train all epochs and keep the last. Tables with 1,000 examples of validation "
        "or more: 10; texts: half of their epochs",
        within=NOT_NEGATIVE,
    )
    monitor: str | None = _training(
        None, "validation metric that picks the best weights", MONITORED
    )
    seed: int = _training(0, "names initial weights, order, dropout and validation cut")

    strategy: str = _hardware("auto", "distribution strategy", STRATEGIES)
    precision: str = _hardware("auto", "precision of the model's arithmetic", PRECISIONS)
    xla: bool | None = _hardware(
        None, "compile with XLA (default: by device and model, see train/settings/auto.py)"
    )
    cpu_devices: int | None = _hardware(
        None, "logical CPU devices, to try several replicas without a GPU", within=POSITIVE
    )
    peak_tflops: float | None = _hardware(
        None,
        "TFLOP/s that a device can do at most in this precision, to tell the share that is used "
        "(default: of well-known GPUs, see train/devices/peaks.py)",
        within=POSITIVE,
        changes_result=False,
    )
    deterministic: bool = _hardware(True, "use deterministic kernels only")

    run_dir: str | None = _output(
        None,
        "the run folder, or an address such as s3://bucket/runs/one (default: "
        "runs/<set>-<model>-<hash of the settings>)",
        is_place=True,
    )
    profile: str | None = _output(
        None,
        "FROM,TO: write a TensorBoard profile of these steps of the run (with --unfreeze-from: of "
        "the fine-tuning)",
    )
    histograms: bool = _output(
        False,
        "write the model's graph, and after each epoch histograms of its weights, for TensorBoard",
        changes_result=False,
    )
    checkpoint_minutes: float = _output(
        5.0,
        "minutes between checkpoints; the end of a run always writes one",
        within=NOT_NEGATIVE,
        changes_result=False,
    )
    checkpoint_steps: int | None = _output(
        None,
        "a checkpoint also after every N steps of the run",
        within=POSITIVE,
        changes_result=False,
    )
    keep_checkpoints: int = _output(
        2, "how many of the newest checkpoints are kept", within=POSITIVE, changes_result=False
    )

    # Names of those that were given, at their default too. No setting.
    given: frozenset[str] = dataclasses.field(default=frozenset(), compare=False, repr=False)
    # Flags of `builders.convert`, for a dataset that is a file. No setting.
    conversion: tuple[str, ...] = dataclasses.field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        for field in setting_fields():
            value = getattr(self, field.name)
            if expected := find_fault(field.name, value):
                flag = f"--{field.name.replace('_', '-')}"
                raise ValueError(f"settings: {flag} expected {expected}, received {value!r}")
        for field in setting_fields():
            if field.metadata["is_place"] and getattr(self, field.name) is not None:
                place = os.path.expanduser(getattr(self, field.name))
                object.__setattr__(self, field.name, place)
        for name in ("hidden", "classes", "dataset"):
            if isinstance(getattr(self, name), list):  # argparse and JSON give one
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_sets()
        # For its errors: a wrong --profile ends the command now, not after minutes.
        self.profile_steps()
        self._check_folds()

    def _check_sets(self) -> None:
        """Raises ValueError for shares that cannot be, and for what several sets do not do."""
        if len(self.dataset) == 1 and not isinstance(self.dataset, str):
            object.__setattr__(self, "dataset", self.dataset[0])
        shares_of(self.dataset)
        for name in () if isinstance(self.dataset, str) else OF_ONE_SET:
            if self.is_given(name):
                raise ValueError(
                    f"settings: --{name.replace('_', '-')} expected with one set, received with "
                    f"--dataset {' '.join(self.dataset)}. Leave it out"
                    + ", and train.cross_validate and train.sweep"
                    * (name == "folds")
                )

    def _check_folds(self) -> None:
        """Raises ValueError for a fold that is not there."""
        if self.folds is None:
            if any(map(self.is_given, ("fold", "pool_splits", "group_folds"))):
                raise ValueError(
                    "settings: --fold, --pool-splits and --no-group-folds expected with --folds, "
                    "received without it"
                )
            return
        if self.folds < 2 or not 0 <= self.fold < self.folds:
            raise ValueError(
                "settings: --folds expected 2 or more and --fold one of 0 to N - 1, received "
                f"--folds {self.folds} --fold {self.fold}"
            )

    def is_given(self, name: str) -> bool:
        """Whether a setting was asked for: it was named, or differs from its default."""
        return name in self.given or getattr(self, name) != getattr(TrainConfig, name)

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

    def to_dict(self) -> dict[str, Any]:
        """The settings that change a result, JSON-ready."""
        return json_ready({name: getattr(self, name) for name in RESULT_FIELDS})


def setting_fields() -> tuple[dataclasses.Field[Any], ...]:
    """The fields that are settings."""
    return tuple(field for field in dataclasses.fields(TrainConfig) if field.metadata)


def find_fault(name: str, value: Any) -> str | None:
    """What a setting expects, where the value, of its type, is not that; else None."""
    metadata = TrainConfig.__dataclass_fields__[name].metadata
    choices, within, expected = metadata["choices"], metadata["within"], None
    if choices and value is not None and value not in choices:
        expected = f"one of {', '.join(choices)}"
    if within and value is not None and not within.holds(value):
        expected = within.expected
    # Whatever counts something is an int64 somewhere, and an int32 in places.
    most = 2**63 if name == "seed" else 2**31
    for number in value if isinstance(value, tuple | list) else (value,):
        if isinstance(number, int) and abs(number) >= most:
            expected = f"whole numbers below {most:,}"
    return expected


def json_ready(values: dict[str, Any]) -> dict[str, Any]:
    """The values as they come back out of a JSON file: tuples are lists there."""
    return dict(json.loads(json.dumps(values)))


# The data are known by their fingerprint, wherever they lie, and give the same batches from every
# cache: where they are and where they are kept names no run.
RESULT_FIELDS = tuple(field.name for field in setting_fields() if field.metadata["changes_result"])
