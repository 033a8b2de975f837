"""Keras is as the models rest on it, whatever the user has set for other projects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from records.system.quiet import import_tensorflow_quietly

REPOSITORY = Path(__file__).resolve().parents[3]
_OTHERS = {
    "image_data_format": "channels_first",
    "floatx": "float64",
    "epsilon": 1e-3,
    "backend": "jax",
}
_SOURCE = """
from records.system.quiet import import_tensorflow_quietly
import_tensorflow_quietly()
import keras
c = keras.config
layer = keras.layers.Conv2D(1, 1)
print(c.image_data_format(), c.floatx(), c.epsilon(), keras.backend.backend(), layer.data_format)
"""


def _found() -> tuple[str, str, float]:
    return keras.config.image_data_format(), keras.config.floatx(), keras.config.epsilon()


def test_what_was_set_before_is_set_back() -> None:
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float64")
    keras.config.set_epsilon(1e-3)
    import_tensorflow_quietly()
    assert _found() == ("channels_last", "float32", 1e-7)


@pytest.mark.slow
def test_the_users_keras_json_has_no_say(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(json.dumps(_OTHERS))
    found = subprocess.run(
        [sys.executable, "-c", _SOURCE],
        cwd=REPOSITORY,
        env={**os.environ, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = "channels_last float32 1e-07 tensorflow channels_last"
    assert found.stdout.split() == expected.split()
