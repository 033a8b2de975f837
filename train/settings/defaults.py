"""What a setting that was not asked for becomes, by the kind of data."""

from __future__ import annotations

from typing import Any

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
