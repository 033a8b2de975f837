"""A machine whose GPUs TensorFlow does not see says so."""

from pathlib import Path

import pytest

from train.devices import strategy


@pytest.mark.parametrize("visible", [None, "", "-1", "7", "GPU-xyz", "abc", "0,7"])
def test_gpus_that_are_not_seen_are_told_unless_they_were_hidden_on_purpose(
    visible: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(strategy, "_DRIVER", tmp_path)
    assert strategy.make_cluster("one_device").note == "", "there are none"
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    note = strategy.make_cluster("one_device").note
    if visible in ("", "-1"):
        assert note == ""
        return
    assert note.startswith("on the CPU, although this machine has GPUs (2): TensorFlow sees none; ")
    why = f"CUDA_VISIBLE_DEVICES={visible} must name" if visible else "pip install '.[gpu]'"
    assert why in note
