"""What `train.sweep` may choose, model by model: every search space of the project in one place.

A space is a function from `Draws` to fields of `TrainConfig`. The first sets are the report's:
layers, their sizes, dropout, optimizer, learning rate and vocabulary size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

_SIZES = (64, 128, 256, 512, 1024)
_OPTIMIZERS = ("adam", "adamw", "nadam", "rmsprop", "sgd")


class Draws:
    """Draws settings for an Optuna trial; what the command line named has its named value."""

    def __init__(self, trial: Trial, named: dict[str, Any]):
        """`named`: settings by name."""
        self._trial, self._named = trial, named

    def one_of(self, name: str, values: Sequence[Any]) -> Any:
        """One of some values."""
        return self.made(name, lambda: self._trial.suggest_categorical(name, values))

    def number(
        self, name: str, low: float, high: float, *, log: bool = False, step: float | None = None
    ) -> float:
        """A number; `log`: evenly over the logarithms."""
        draw = self._trial.suggest_float
        # A step of 0.1 leaves 0.30000000000000004.
        return float(self.made(name, lambda: round(draw(name, low, high, log=log, step=step), 12)))

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number."""
        return int(self.made(name, lambda: self._trial.suggest_int(name, low, high)))

    def made(self, name: str, draw: Callable[[], Any]) -> Any:
        """A setting that is drawn in several steps."""
        return self._named[name] if name in self._named else draw()


Space = Callable[[Draws], dict[str, Any]]


def _optimizer(
    draws: Draws, lowest: float, highest: float, choices: Sequence[str] = _OPTIMIZERS
) -> dict[str, Any]:
    """Optimizer and learning rate; the decay, where there is one."""
    optimizer = draws.one_of("optimizer", choices)
    decays = optimizer == "adamw"
    return {
        "optimizer": optimizer,
        # Over the logarithms: 1e-4 to 1e-3 matters as much as 1e-3 to 1e-2.
        "learning_rate": draws.number("learning_rate", lowest, highest, log=True),
        "weight_decay": draws.number("weight_decay", 1e-3, 0.3, log=True) if decays else 0.0,
    }


def _report_layers(draws: Draws) -> tuple[int, ...]:
    # The number of layers is drawn first: a layer that does not exist has no size to be drawn.
    count = draws.whole("layers", 2, 5)
    return tuple(draws.one_of(f"hidden_{i}", _SIZES) for i in range(count))


def _report_mlp(draws: Draws) -> dict[str, Any]:
    """The report's networks: two to five layers, up to 1024 wide."""
    return {
        "hidden": draws.made("hidden", lambda: _report_layers(draws)),
        "dropout": draws.number("dropout", 0.0, 0.5, step=0.1),
        "global_batch_size": draws.one_of("global_batch_size", (32, 64, 128)),
        "epochs": draws.one_of("epochs", (20, 40)),
    } | _optimizer(draws, 1e-4, 1e-2)


def _even_layers(draws: Draws) -> tuple[int, ...]:
    count = draws.whole("layers", 1, 3)
    return (draws.one_of("width", (64, 128, 256, 512)),) * count


def _mlp(draws: Draws) -> dict[str, Any]:
    """One width for all layers, and what keeps a small table from being learned by heart."""
    return {
        "hidden": draws.made("hidden", lambda: _even_layers(draws)),
        "dropout": draws.number("dropout", 0.0, 0.5, step=0.1),
        "label_smoothing": draws.one_of("label_smoothing", (0.0, 0.05, 0.1)),
        "class_weights": draws.one_of("class_weights", ("none", "balanced")),
        "global_batch_size": draws.one_of("global_batch_size", (32, 64, 128)),
        "epochs": draws.one_of("epochs", (20, 40, 60)),
    } | _optimizer(draws, 3e-4, 1e-2, ("adamw",))


def _head(draws: Draws) -> dict[str, Any]:
    """The head of a frozen picture model."""
    return {
        "dropout": draws.number("dropout", 0.0, 0.6, step=0.1),
        "label_smoothing": draws.one_of("label_smoothing", (0.0, 0.05, 0.1)),
        "global_batch_size": draws.one_of("global_batch_size", (32, 64, 128)),
    } | _optimizer(draws, 1e-4, 1e-2)


def _text(draws: Draws) -> dict[str, Any]:
    """The recurrent models."""
    return {
        "vocab_size": draws.one_of("vocab_size", (5_000, 10_000, 20_000, 40_000)),
        "sequence_length": draws.one_of("sequence_length", (50, 100, 200)),
        "embedding_dim": draws.one_of("embedding_dim", (32, 64, 128, 192)),
        "units": draws.one_of("units", (16, 32, 64, 128)),
        "dropout": draws.number("dropout", 0.0, 0.6, step=0.1),
        "label_smoothing": draws.one_of("label_smoothing", (0.0, 0.05, 0.1)),
    } | _optimizer(draws, 3e-4, 1e-2)


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
    "gru_language": _text,
}
