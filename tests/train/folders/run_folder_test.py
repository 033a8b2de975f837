"""A run folder belongs to one configuration and, while it trains, to one process."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.support.fuzz_inputs import make_run_folder
from tests.support.settings import make_settings
from train import results
from train.folders.finished_run import open_run
from train.folders.run_folder import RunFolder

KEPT = {"precision": "float32", "xla": True, "shuffle_block": None}


def test_a_start_that_fails_claims_nothing(tmp_path: Path) -> None:
    first = RunFolder(str(tmp_path / "run"), make_settings(seed=1).to_dict(), "data")
    first.keep_resolved({"precision": "float32"})
    assert not any(first.path.iterdir()), "nothing is written before `claim`"
    del first
    second = RunFolder(str(tmp_path / "run"), make_settings(seed=2).to_dict(), "data")
    second.keep_resolved(KEPT)
    second.claim()
    assert json.loads((second.path / "config.json").read_text())["seed"] == 2


def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    """TensorFlow would fail at its first file, after the first epoch."""
    path = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(ValueError, match=r"--run-dir expected a path in UTF-8, received b'.*\\xe9"):
        RunFolder(str(path), make_settings().to_dict(), "data")
    assert not path.exists()


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), make_settings().to_dict(), "data")
    with pytest.raises(ValueError, match="another process works"):
        RunFolder(str(tmp_path), make_settings().to_dict(), "data")
    folder.keep_resolved(KEPT)
    folder.claim()
    del folder
    RunFolder(str(tmp_path), make_settings().to_dict(), "data")


def test_what_auto_became_stays(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), make_settings().to_dict(), "data")
    assert folder.keep_resolved({"precision": "float32"}) == {"precision": "float32"}
    folder.keep_resolved({"xla": True, "shuffle_block": None})
    folder.claim()
    del folder
    again = RunFolder(str(tmp_path), make_settings().to_dict(), "data")
    kept = again.keep_resolved({"precision": "mixed_float16", "shuffle_block": 3})
    assert kept == KEPT


def test_cache_and_memory_may_change_and_settings_may_not(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), make_settings(cache="device").to_dict(), "data")
    folder.keep_resolved(KEPT)
    folder.claim()
    del folder
    RunFolder(str(tmp_path), make_settings(cache="none", memory_budget=1e9).to_dict(), "data")
    with pytest.raises(ValueError, match="shuffle_block: None, now 64"):
        RunFolder(str(tmp_path), make_settings(shuffle_block=64).to_dict(), "data")
    with pytest.raises(ValueError, match="data_fingerprint"):
        RunFolder(str(tmp_path), make_settings().to_dict(), "other data")


def test_the_same_data_by_another_path_are_the_same_run(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), make_settings(dataset="a/b").to_dict(), "data")
    folder.keep_resolved(KEPT)
    folder.claim()
    del folder
    other = make_settings(dataset="/home/me/data/a/b/1.0.0").to_dict()
    found = RunFolder(str(tmp_path), other, "data")
    assert found.keep_resolved({}) == KEPT, "the same run"
    del found
    with pytest.raises(ValueError, match="data_fingerprint.*dataset: 'a/b', now '/home"):
        RunFolder(str(tmp_path), other, "other data")


def test_a_full_disk_at_the_last_files_says_which_and_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(str(tmp_path), make_settings().to_dict(), "data")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", fail)
    expected = f"{tmp_path} expected room for the last files.*No space left.*make room"
    with pytest.raises(OSError, match=expected), folder.last_files():
        folder.write_model(model)
    assert not list(tmp_path.iterdir()), "no half of a model"


def test_a_run_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), make_settings().to_dict(), "data")
    folder.keep_resolved(KEPT)
    folder.claim()
    del folder
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["group_folds"]
    (tmp_path / "config.json").write_text(json.dumps(stored | {"lookahead": 5}))
    expected = "of another version of this project: missing group_folds, unknown lookahead"
    with pytest.raises(ValueError, match=f"{expected}.*Choose another --run-dir"):
        RunFolder(str(tmp_path), make_settings().to_dict(), "data")
    assert json.loads((tmp_path / "config.json").read_text())["lookahead"] == 5, "as it was"


@pytest.mark.parametrize("content", ["{}", "[]", "null", '"text"', '{"seconds": null}'])
@pytest.mark.parametrize(
    "name", ["config.json", "metrics.json", "model_input.json", "evaluation-test/evaluation.json"]
)
def test_a_file_that_holds_something_else_is_named(name: str, content: str, tmp_path: Path) -> None:
    run = make_run_folder(tmp_path / "run")
    known = open_run(run).settings.to_dict()
    (run / "evaluation-test").mkdir()
    (run / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name} expected .*received"):
        results._read_run(run)
    if name == "metrics.json":
        with (
            RunFolder(str(run), known, "0" * 64) as folder,
            pytest.raises(ValueError, match="Remove it, and the same train.run command writes"),
        ):
            folder.finished_metrics()


def test_the_model_of_another_set_is_named(tmp_path: Path) -> None:
    run = make_run_folder(tmp_path / "run")
    other = make_run_folder(tmp_path / "other", "image")
    (other / "model.keras").replace(run / "model.keras")
    expected = r"from \(8, 8, 1\) to \(2,\) where \(3,\) to \(2,\) belong. Remove it, and this"
    with pytest.raises(ValueError, match=expected):
        open_run(run).load_model()


@pytest.mark.parametrize(
    ("change", "received"),
    [
        ({"class_names": ["low", "mid", "high"]}, r"\(2,\) where \(3,\) to \(3,\) belong"),
        ({"feature_names": list("abcd")}, r"from \(3,\) to \(2,\) where \(4,\) to \(2,\) belong"),
        ({"dtype": "float64"}, "a model of float32 numbers where float64 belongs"),
    ],
)
def test_a_model_input_of_another_set_is_named(
    change: dict[str, Any], received: str, tmp_path: Path
) -> None:
    run = make_run_folder(tmp_path / "run")
    file = run / "model_input.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=received):
        open_run(run).load_model()


def test_more_words_than_the_model_knows_are_refused(tmp_path: Path) -> None:
    run = make_run_folder(tmp_path / "run", "text")
    given = keras.Input((None,), dtype="int32")
    vectors = keras.layers.Embedding(4, 2, name="embedding")(given)
    pooled = keras.layers.GlobalAveragePooling1D()(vectors)
    keras.Model(given, keras.layers.Dense(2)(pooled)).save(run / "model.keras")
    words = run / "vocabulary.txt"
    words.write_text("\n[UNK]\nred\nsea\n")
    assert len(open_run(run).load_model().outputs) == 1
    words.write_text("\n[UNK]\nred\nsea\nblue\n")
    with pytest.raises(ValueError, match="a model of 4 words where 5 belong"):
        open_run(run).load_model()
