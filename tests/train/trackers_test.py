"""Experiment trackers (the extra `trackers`) through their Keras callbacks, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import train
from tests.support.foreign_models import BATCH, CLASS, IDS, make


def _fit(run_dir: Path, callbacks: Any, strategy: str = "mirrored", **own: Any) -> dict[str, Any]:
    return train.fit(
        make("transformer"),
        (IDS[:100], CLASS[:100]),
        validation_data=(IDS[100:], CLASS[100:]),
        batch_size=BATCH,
        epochs=2,
        callbacks=callbacks,
        run_dir=str(run_dir),
        verbose=0,
        strategy=strategy,
        **own,
    ).history


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicas, a local store: figures of epochs and steps, parameters, the best model."""
    # Its callbacks swallow what they raise, but for tests.
    monkeypatch.setenv("MLFLOW_AUTOLOGGING_TESTING", "true")
    mlflow = pytest.importorskip("mlflow")
    mlflow_tensorflow = pytest.importorskip("mlflow.tensorflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.create_experiment("mine", artifact_location=str(tmp_path / "artifacts"))
    mlflow.set_experiment("mine")
    with mlflow.start_run() as run:
        callbacks = [
            mlflow_tensorflow.MlflowCallback(),
            mlflow_tensorflow.MlflowCallback(log_every_epoch=False, log_every_n_steps=2),
            mlflow_tensorflow.MlflowModelCheckpointCallback(monitor="val_loss", mode="min"),
        ]
        history = _fit(tmp_path / "run", callbacks, steps_per_call=2)
        mlflow.flush_async_logging()
    client = mlflow.MlflowClient()
    stored = client.get_run(run.info.run_id).data
    assert float(stored.params["opt_learning_rate"]) == pytest.approx(0.001)
    for name in ("val_loss", "val_accuracy"):
        values = [m.value for m in client.get_metric_history(run.info.run_id, name)]
        assert values == pytest.approx(history[name])
    steps = {m.step for m in client.get_metric_history(run.info.run_id, "loss")}
    assert steps == {0, 1, 2, 4, 6, 8}  # two epochs; each second step, of 4 an epoch
    assert stored.metrics["validation_loss"] == pytest.approx(history["val_loss"][-1])
    assert [f.path for f in client.list_artifacts(run.info.run_id)]


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline: the summary holds the last epoch's figures."""
    wandb = pytest.importorskip("wandb")
    integration = pytest.importorskip("wandb.integration.keras")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(project="mine", dir=str(tmp_path))
    checkpoint = integration.WandbModelCheckpoint(tmp_path / "best.keras", monitor="val_loss")
    history = _fit(tmp_path / "run", [integration.WandbMetricsLogger(log_freq="batch"), checkpoint])
    summary = dict(run.summary)
    run.finish()
    for name, values in history.items():
        assert summary[f"epoch/{name}"] == pytest.approx(values[-1]), name
    assert summary["epoch/epoch"] == 1 and "batch/loss" in summary
    assert (tmp_path / "best.keras").exists()
