"""Settings filled in by the kind of data and the hardware, and refused where they do not fit."""

from collections.abc import Mapping
from typing import Any

import models
from records.sets.schema import IMAGE, TABULAR, TEXT, TOKENS, Schema
from records.sets.target import SINGLE_LABEL
from train.devices.strategy import Cluster
from train.measures.target_metrics import check_monitor
from train.settings.auto import choose_hardware
from train.settings.config import TrainConfig
from train.settings.defaults import MODALITY_DEFAULTS, defaults_by_size
from train.settings.resolved import OF_KIND, Settings

IMAGE_SIZE = 224  # of models that name none
# What a function of the user's own is not told.
_OF_OUR_MODELS = (
    "weights",
    "preprocess",
    "unfreeze_from",
    "hidden",
    "embedding_dim",
    "units",
    "dropout",
    "recurrent_dropout",
)
# What shapes the target of one class among several.
OF_ONE_CLASS = ("class_weights", "label_smoothing", "mixup")
_KINDS = {TABULAR: "a table", IMAGE: "pictures", TOKENS: "texts", TEXT: "texts"}


def resolve(asked: TrainConfig, schema: Schema, cluster: Cluster) -> Settings:
    """What was asked for, with a value for every setting.

    `shuffle_block` stays as asked: it depends on where the examples are kept, see
    `train.assembly.data.resolve_shuffle_block`.

    Raises:
      ValueError: the model is unknown or for another kind of data; settings that would do nothing,
        or that do not fit the set or the replicas.
    """
    # A setting that would silently do nothing is an error: its user believes in an effect.
    of_kinds = sorted(set().union(*OF_KIND.values()))
    check_kind({name: getattr(asked, name) for name in of_kinds if asked.is_given(name)}, schema)
    found = fill(asked, schema.modality, schema)
    if asked.global_batch_size is None:
        found["global_batch_size"] = _nearest_multiple(found["global_batch_size"], cluster)
    hardware = choose_hardware(
        found["model"],
        found["freeze"],
        asked.precision,
        asked.xla,
        accelerator=cluster.accelerator,
        num_replicas=cluster.num_replicas,
    )
    settings = Settings.of(asked, found | hardware | {"task": schema.task})
    _check_task(settings, schema)
    _check_ignored(settings)
    _check_service(settings)
    if settings.evaluate_test and (settings.folds or "test" not in schema.split_counts):
        raise ValueError(
            "settings: --evaluate-test expected with a split test and without --folds, "
            f"received {', '.join(schema.split_counts)} and --folds {settings.folds or 'none'}"
        )
    _check_rows(settings, cluster)
    return settings


def _check_task(settings: Settings, schema: Schema) -> None:
    """Raises ValueError for what makes no sense for the set's target."""
    if schema.task == SINGLE_LABEL:
        if schema.num_classes < 2:
            raise ValueError(
                f"settings: {schema.name}: label {schema.label_name!r} expected two classes or "
                f"more, received {', '.join(schema.class_names)}"
            )
    else:
        for name in OF_ONE_CLASS:
            if getattr(settings, name) != getattr(TrainConfig, name):
                raise ValueError(
                    f"settings: --{name.replace('_', '-')} expected with one class (--task "
                    f"{SINGLE_LABEL}), received with --task {schema.task}. Leave it out"
                )
        if models.check_model(settings.model).bins:
            raise ValueError(
                f"settings: --model {settings.model} expected with one class (--task "
                f"{SINGLE_LABEL}), received with --task {schema.task}. Choose --model mlp"
            )
    check_monitor(schema.task, settings.monitor, "--monitor")


def check_kind(given: Mapping[str, Any], schema: Schema) -> None:
    """Raises ValueError where one of the settings that were given is for another kind of data."""
    for name, value in given.items():
        kinds = [kind for kind, names in OF_KIND.items() if name in names]
        if kinds and schema.modality not in kinds:
            flag = name.replace("_", "-")
            flag = f"--no-{flag}" if value is False else f"--{flag}"
            raise ValueError(
                f"settings: {flag} expected with {_KINDS[kinds[0]]}, received with {schema.name}, "
                f"whose input {schema.input_name!r} is {_KINDS[schema.modality]} "
                f"({schema.modality}). Leave the flag out"
            )


def _nearest_multiple(size: int, cluster: Cluster) -> int:
    """The usual batch size, or the nearest one that the replicas can share evenly, and says so."""
    replicas = cluster.num_replicas
    found = max(1, round(size / replicas)) * replicas
    if found != size and cluster.is_chief:
        print(f"  --global-batch-size {found}: of {replicas} replicas, nearest to the usual {size}")
    return found


def fill(asked: TrainConfig, modality: str, schema: Schema | None = None) -> dict[str, Any]:
    """The settings that depend on the kind of data and the model, by name.

    `modality` is a set's, one of `records.sets.schema`, or a model's. Without the set's `schema`
    they are those of a set of usual size.

    Raises:
      ValueError: the model is unknown or for another kind of data.
    """
    if modality == TOKENS:  # tokens and texts are ids for the models
        modality = "text"
    usual = dict(MODALITY_DEFAULTS[modality])
    if schema is not None:
        usual |= defaults_by_size(modality, schema, asked.folds, asked.global_batch_size)
        if schema.task != SINGLE_LABEL:
            usual["monitor"] = "loss"
    found = {
        name: default if getattr(asked, name) is None else getattr(asked, name)
        for name, default in usual.items()
    }
    entry = models.check_model(found["model"], modality)
    own = models.is_own(found["model"])
    if own and asked.freeze:
        raise ValueError(
            "settings: --freeze expected with a picture model of this project, received "
            f"{found['model']}"
        )
    is_frozen = modality == IMAGE and not own and asked.weights != "random"
    found["freeze"] = is_frozen if asked.freeze is None else asked.freeze
    # A model may have a size of its own, that of its weights.
    found["image_size"] = asked.image_size or entry.image_size or IMAGE_SIZE
    return found


def _check_ignored(settings: Settings) -> None:
    """Raises ValueError for a setting that was asked for and would do nothing."""
    if settings.asked.weight_decay and settings.optimizer != "adamw":
        raise ValueError(
            f"settings: --weight-decay expected with --optimizer adamw, received "
            f"--optimizer {settings.optimizer}"
        )
    if settings.warmup_epochs and settings.schedule != "cosine":
        raise ValueError(
            f"settings: --warmup-epochs expected with --schedule cosine, received "
            f"--schedule {settings.schedule}"
        )
    if models.is_own(settings.model):
        for name in _OF_OUR_MODELS:
            if settings.asked.is_given(name):
                raise ValueError(
                    f"settings: --{name.replace('_', '-')} expected with a model of this project, "
                    f"received --model {settings.model}, whose function decides that"
                )
    for name in ("fine_tune_epochs", "fine_tune_learning_rate"):
        if not settings.unfreeze_from and settings.asked.is_given(name):
            raise ValueError(
                f"settings: --{name.replace('_', '-')} expected with --unfreeze-from, "
                "received without it"
            )
    # Both stages have a warm-up of their own.
    fewest = min(stage.epochs for stage in settings.stages())
    if settings.warmup_epochs >= fewest:
        raise ValueError(
            f"settings: --warmup-epochs expected fewer than the {fewest} epochs of a stage, "
            f"received {settings.warmup_epochs}"
        )
    if settings.unfreeze_from and not settings.freeze:
        raise ValueError(
            "settings: --unfreeze-from expected with a frozen picture model, whose head is "
            f"trained first, received --model {settings.model} without --freeze"
        )
    if settings.mixup and settings.freeze and not settings.unfreeze_from:
        raise ValueError(
            "settings: --mixup expected with a picture model whose backbone is trained "
            f"(--no-freeze or --unfreeze-from), received --model {settings.model}"
        )
    if settings.asked.monitor and not settings.early_stopping:
        raise ValueError(
            "settings: --monitor expected with --early-stopping N, the epochs to wait for "
            "a better one, received --early-stopping 0"
        )


def _check_rows(settings: Settings, cluster: Cluster) -> None:
    """Raises ValueError where a global batch cannot be cut as asked."""
    size = settings.global_batch_size
    rows = len(range(size)[cluster.slices(size)[0]])  # all replicas take equally many
    if rows % settings.accumulate_steps:
        raise ValueError(
            f"settings: --accumulate-steps expected a divisor of the {rows} rows that each "
            f"replica takes of --global-batch-size {size}, received {settings.accumulate_steps}"
        )
    if settings.mixup and rows // settings.accumulate_steps % 2:
        raise ValueError(
            "settings: --mixup expected an even number of rows in each part of a batch, "
            f"received {rows // settings.accumulate_steps}"
        )


def _check_service(settings: Settings) -> None:
    """Raises ValueError where the chunks could not come from a data service."""
    if settings.data_service is None:
        return
    if settings.on_corrupt == "skip":
        raise ValueError(
            "settings: --on-corrupt skip cannot be combined with --data-service, whose workers "
            "read by themselves. Repair their copy: python -m records.verify DATA_DIR --repair DIR"
        )
    for name in ("folds", "classes"):
        if getattr(settings, name) is not None:
            raise ValueError(
                f"settings: --data-service cannot be combined with --{name}, which its workers do "
                "not cut"
            )
    if settings.freeze:
        raise ValueError(
            "settings: --data-service expected with --no-freeze, received a frozen backbone, "
            "whose features are computed here once and need no more input"
        )
    if settings.cache == "device":
        raise ValueError(
            "settings: --data-service expected with --cache memory, disk, none or auto, "
            "received device, where training takes its batches from"
        )
