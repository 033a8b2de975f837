from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

import models
from train.settings import auto
from train.settings.config import PRECISIONS

FAMILIES = {"small mlp", "wide mlp", "frozen head", "convolutional", "recurrent", "own"}


def _auto(model: str, replicas: int = 1, accelerator: bool = False, **asked: Any) -> Any:
    devices: dict[str, Any] = {"accelerator": accelerator, "num_replicas": replicas}
    return auto.choose_hardware(model, freeze=False, **asked, **devices)


def test_every_model_has_a_row_for_every_device() -> None:
    names = [*models.MODELS, "package.module:function"]
    found = {auto.family(m, freeze) for m in names for freeze in (False, True)}
    assert found == FAMILIES
    for row in auto.CHOICES.values():
        assert set(row) == FAMILIES
        assert all(choice.precision in PRECISIONS[1:] for choice in row.values())


def test_wide_networks_are_models() -> None:
    assert set(auto._WIDE) <= set(models.MODELS)


def test_another_kind_of_model_has_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = models.ModelEntry("sound", models.MODELS["mlp"].build)
    monkeypatch.setitem(models.MODELS, "listener", entry)
    with pytest.raises(ValueError, match="settings: --model listener: .* received one of 'sound'"):
        auto.family("listener", freeze=False)


def test_cpu_rows() -> None:
    for model in ("mlp_small", "mlp", "mlp_report", "mlp_report_best"):
        assert _auto(model) == {"precision": "float32", "xla": True}
    assert _auto("mlp", replicas=2) == {"precision": "float32", "xla": False}
    for model in ("gru", "lstm", "efficientnet_b0"):
        assert _auto(model) == {"precision": "float32", "xla": False}


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((9, 0), "mixed_bfloat16"), ((8, 6), "mixed_bfloat16"), ((7, 5), "mixed_float16")]
    + [((6, 1), "float32"), (None, "float32")],
)
def test_precision_follows_what_tensor_cores_can_do(
    monkeypatch: pytest.MonkeyPatch, capability: Any, precision: str
) -> None:
    details = {"compute_capability": capability} if capability else {}
    experimental = tf.config.experimental
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["the GPU"])
    monkeypatch.setattr(experimental, "get_device_details", lambda gpu: details)
    assert _auto("efficientnet_b0", 1, True) == {"precision": precision, "xla": True}
    assert _auto("mlp", 2, True) == {"precision": precision, "xla": True}
    # BatchNorm in training at several replicas cannot be compiled.
    assert _auto("efficientnet_b0", 2, True) == {"precision": precision, "xla": False}
    # XLA has no kernel for cuDNN's recurrent layers.
    assert _auto("lstm", accelerator=True) == {"precision": precision, "xla": False}


def test_what_was_asked_for_stays() -> None:
    asked: dict[str, Any] = {"precision": "mixed_float16", "xla": True}
    assert _auto("gru", **asked) == asked
    assert _auto("mlp", xla=False) == {"precision": "float32", "xla": False}
