"""`python -m train.pretrain`: what it reads and writes, and that a run begins with it."""

import itertools
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from records import open_data
from train import pretrain
from train.run import main as train


def test_pieces_hold_every_pair_of_neighbours_once() -> None:
    rng = np.random.default_rng(0)
    lengths = [0, 1, 2, 63, 64, 65, 66, 129, 150]
    ids = np.zeros((len(lengths), 150), np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = rng.integers(1, 1000, length)
    pieces = pretrain.cut_texts(ids)
    assert pieces.shape == (11, 65) and pieces.dtype == np.int32
    found = [(a, b) for row in pieces for a, b in itertools.pairwise(row) if b]
    wanted = [(a, b) for row in ids for a, b in itertools.pairwise(row) if b]
    assert found == wanted


def test_a_run_begins_with_what_was_pretrained(
    synthetic_data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--dataset=song_lyrics/synthetic", f"--data-dir={synthetic_data_dir}"]
    small = ["--units=8", "--embedding-dim=12", "--vocab-size=200"]
    file, again = tmp_path / "new" / "language.npz", tmp_path / "again.npz"
    assert pretrain.main([*data, *small, f"--output={file}", "--epochs=2"]) == 0
    printed = capsys.readouterr().out
    perplexity = float(printed.split("perplexity on validation ")[1].split()[0])
    assert 1 < perplexity < 200, "better than any of 200 words"
    assert pretrain.main([*data, *small, f"--output={again}", "--epochs=2"]) == 0
    assert file.read_bytes() == again.read_bytes(), "one seed, one result"

    run = tmp_path / "run"
    flags = [*data, *small, "--model=gru_language", "--epochs=1", f"--run-dir={run}"]
    # So slow that the weights stay where they began.
    flags += ["--learning-rate=1e-12", "--weight-decay=0", "--early-stopping=0"]
    assert train([*flags, f"--weights={file}", "--strategy=one_device"]) == 0
    model = keras.models.load_model(run / "model.keras")
    vocabulary = open_data("song_lyrics/synthetic", str(synthetic_data_dir)).vocabulary
    words = vocabulary.words() if vocabulary else None
    assert words is not None
    with np.load(file) as found:
        assert found["words"].tobytes().decode().split("\n") == list(words[:200])
        np.testing.assert_allclose(
            model.get_layer("embedding").get_weights()[0], found["vectors"], atol=1e-6
        )
        np.testing.assert_allclose(
            model.get_layer("gru").get_weights()[1], found["recurrent_1"], atol=1e-6
        )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=fetal_health/synthetic"], "expected a set of texts.*fetal_health"),
        (["--dataset=song_lyrics/synthetic", "--model=bilstm"], "reads forwards.*received bilstm"),
        (["--dataset=song_lyrics/synthetic", "--model=dcn"], "expected one of the text models"),
        (
            ["--dataset=song_lyrics/synthetic", "--output=/proc/x.npz"],
            "pretrain: --output expected",
        ),
        (
            ["--dataset=song_lyrics/synthetic", "--output=s3://b/x.npz"],
            "received s3://b/x.npz.*copy",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    flags: list[str],
    message: str,
    synthetic_data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [f"--data-dir={synthetic_data_dir}", f"--output={tmp_path / 'x.npz'}", *flags]
    assert pretrain.main(given) == 1
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "x.npz").exists()


def test_a_table_takes_no_weights(
    synthetic_data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset=fetal_health/synthetic", f"--data-dir={synthetic_data_dir}"]
    assert train([*flags, "--weights=language.npz"]) == 1
    assert "--weights expected with" in capsys.readouterr().err
