"""What `train.sweep` may choose, model by model: every search space of the project in one place.

A space is a function from an Optuna trial to fields of `TrainConfig`; what the command line names
is taken out of it. The first sets are the report's: layers, their sizes, dropout, optimizer,
learning rate and vocabulary size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

Space = Callable[["Trial"], dict[str, Any]]

_SIZES = [64, 128, 256, 512, 1024]
_OPTIMIZERS = ["adam", "adamw", "nadam", "rmsprop", "sgd"]


def _optimizer(trial: Trial, lowest: float, highest: float) -> dict[str, Any]:
    """Optimizer and learning rate; the decay, where there is one."""
    optimizer = trial.suggest_categorical("optimizer", _OPTIMIZERS)
    found = {
        "optimizer": optimizer,
        "learning_rate": trial.suggest_float("learning_rate", lowest, highest, log=True),
        "weight_decay": 0.0,
    }
    if optimizer == "adamw":
        found["weight_decay"] = trial.suggest_float("weight_decay", 1e-3, 0.3, log=True)
    return found


def _report_mlp(trial: Trial) -> dict[str, Any]:
    """The report's networks: two to five layers, up to 1024 wide."""
    layers = trial.suggest_int("layers", 2, 5)
    hidden = [trial.suggest_categorical(f"hidden_{i}", _SIZES) for i in range(layers)]
    return {
        "hidden": tuple(hidden),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5, step=0.1),
        "global_batch_size": trial.suggest_categorical("global_batch_size", [32, 64, 128]),
        "epochs": trial.suggest_categorical("epochs", [20, 40]),
    } | _optimizer(trial, 1e-4, 1e-2)


def _mlp(trial: Trial) -> dict[str, Any]:
    """One width for all layers, and what keeps a small table from being learned by heart."""
    layers = trial.suggest_int("layers", 1, 3)
    width = trial.suggest_categorical("width", [64, 128, 256, 512])
    return {
        "hidden": (width,) * layers,
        "dropout": trial.suggest_float("dropout", 0.0, 0.5, step=0.1),
        "label_smoothing": trial.suggest_categorical("label_smoothing", [0.0, 0.05, 0.1]),
        "class_weights": trial.suggest_categorical("class_weights", ["none", "balanced"]),
        "global_batch_size": trial.suggest_categorical("global_batch_size", [32, 64, 128]),
        "epochs": trial.suggest_categorical("epochs", [20, 40, 60]),
        "optimizer": "adamw",
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.3, log=True),
    }


def _head(trial: Trial) -> dict[str, Any]:
    """The head of a frozen picture model."""
    return {
        "dropout": trial.suggest_float("dropout", 0.0, 0.6, step=0.1),
        "label_smoothing": trial.suggest_categorical("label_smoothing", [0.0, 0.05, 0.1]),
        "global_batch_size": trial.suggest_categorical("global_batch_size", [32, 64, 128]),
    } | _optimizer(trial, 1e-4, 1e-2)


def _text(trial: Trial) -> dict[str, Any]:
    """The recurrent models."""
    return {
        "vocab_size": trial.suggest_categorical("vocab_size", [5_000, 10_000, 20_000, 40_000]),
        "sequence_length": trial.suggest_categorical("sequence_length", [50, 100, 200]),
        "embedding_dim": trial.suggest_categorical("embedding_dim", [32, 64, 128, 192]),
        "units": trial.suggest_categorical("units", [16, 32, 64, 128]),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6, step=0.1),
        "label_smoothing": trial.suggest_categorical("label_smoothing", [0.0, 0.05, 0.1]),
    } | _optimizer(trial, 3e-4, 1e-2)


SPACES: dict[str, Space] = {
    "mlp": _mlp,
    "mlp_small": _mlp,
    "dcn": _mlp,
    "mlp_report": _report_mlp,
    "mlp_report_best": _report_mlp,
    "efficientnet_lite0": _head,
    "efficientnet_b0": _head,
    "resnet50": _head,
    "inception_v3": _head,
    "lstm": _text,
    "bilstm": _text,
    "gru": _text,
    "gru_pairs": _text,
}
