"""What a setting that was not asked for becomes, by the kind of data."""

import dataclasses
from typing import Any

from records.sets.schema import Schema

# By the modality that a model takes. Chosen on validation data.
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


@dataclasses.dataclass(frozen=True)
class _Range:
    """Epochs of a set that is too small or too large for the usual ones."""

    steps: tuple[int, int]  # so many a run should have at least, and at most
    epochs: tuple[int, int]  # bounds, whatever the steps


_RANGES = {
    # 60 epochs from 640 rows to 17,000. At 32,000 rows the validation loss was least at epoch 9.
    "tabular": _Range(steps=(1_200, 32_400), epochs=(20, 200)),
    # 6 epochs from 8,000 texts on. 1,200 news texts: accuracy 0.57 after 6 epochs, 0.91 after 25.
    "text": _Range(steps=(400, 2**62), epochs=(6, 60)),
}
# Tables stop early where their validation part is no longer too noisy to stop on, see above.
_STEADY_ROWS, _PATIENCE = 1000, 10
# The settings that depend on the size of the set.
BY_SIZE = ("epochs", "early_stopping")


def defaults_by_size(
    modality: str, schema: Schema, folds: int | None, global_batch_size: int | None
) -> dict[str, int]:
    """The epochs, and the patience of early stopping, that differ from `MODALITY_DEFAULTS`.

    `modality` is that of the models; the size is that of the split train, of a fold's as well.
    """
    usual, found = MODALITY_DEFAULTS[modality], _RANGES.get(modality)
    examples = schema.split_counts.get("train", 0)
    if found is None or not examples:
        return {}
    steps = -(-examples // (global_batch_size or usual["global_batch_size"]))
    (least, most), (fewest, longest) = found.steps, found.epochs
    epochs = usual["epochs"]
    epochs = max(epochs, min(longest, -(-least // steps)))
    epochs = min(epochs, max(fewest, most // steps))
    if modality == "tabular":
        validation = examples // (folds or 10)
        if not folds:
            validation = schema.split_counts.get("validation", validation)
        return {"epochs": epochs, "early_stopping": _PATIENCE * (validation >= _STEADY_ROWS)}
    # Of a long run the first epochs may all be alike.
    return {"epochs": epochs, "early_stopping": max(usual["early_stopping"], epochs // 2)}
