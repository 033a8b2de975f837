"""The language model's loss, its order of reading, and what a classifier takes from it."""

import dataclasses
import io
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import models

WORDS = ["[PAD]", "[UNK]", *(f"w{i}" for i in range(2, 50))]
SIZES = {"vocab_size": 50, "embedding_dim": 8, "units": 6}


def _language_model(seed: int = 0) -> models.LanguageModel:
    keras.utils.set_random_seed(seed)
    model = models.LanguageModel(50, 8, 6, "gru")
    model.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    model(_ids())  # makes the weights
    return model


def _ids() -> np.ndarray:
    ids = np.random.default_rng(0).integers(1, 50, (4, 9)).astype(np.int32)
    ids[1, 5:] = 0
    ids[3, 1:] = 0  # nothing follows its only word
    return ids


def _classifier(words: list[str], path: str, name: str = "gru_language") -> keras.Model:
    config = models.ModelConfig(name, weights=path, **SIZES)  # type: ignore[arg-type]
    spec = tf.TensorSpec([None], tf.int32)
    return models.build_model(config, spec, 4, seed=0, words=words, use_cudnn=False)


def test_loss_is_that_of_all_words() -> None:
    model, ids = _language_model(), _ids()
    model.bias.assign(np.linspace(-1.0, 1.0, 50))
    guesses = model(ids).numpy()
    logits = guesses @ model.embedding.get_weights()[0].T + model.bias.numpy()
    chosen = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    losses = [
        -np.log(chosen[row, step, ids[row, step + 1]])
        for row in range(4)
        for step in range(8)
        if ids[row, step + 1]
    ]
    assert len(losses) == 8 + 4 + 8
    assert model.evaluate(ids, batch_size=4, verbose=0) == pytest.approx(np.mean(losses), rel=1e-5)
    wide = np.pad(ids, ((0, 0), (0, 3)))
    assert model.evaluate(wide, batch_size=4, verbose=0) == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_guess_knows_the_words_before_it_alone() -> None:
    model, ids = _language_model(), _ids()
    before = model(ids).numpy()
    ids[0, 5] = ids[0, 5] % 49 + 1
    after = model(ids).numpy()
    np.testing.assert_array_equal(after[0, :5], before[0, :5])
    assert np.abs(after[0, 5:] - before[0, 5:]).max() > 1e-6


def test_it_learns_which_word_follows() -> None:
    """Each word is the one before plus one: nothing is left to guess but the first."""
    starts = np.random.default_rng(1).integers(0, 20, 256)
    texts = (2 + (starts[:, None] + np.arange(9)) % 20).astype(np.int32)
    model = _language_model()
    first = model.evaluate(texts, verbose=0)
    model.fit(texts, epochs=25, batch_size=32, verbose=0)
    assert first > np.log(20) and model.evaluate(texts, verbose=0) < 1.0


def test_a_classifier_takes_vectors_by_their_words(tmp_path: Path) -> None:
    language, path = _language_model(), tmp_path / "language.npz"
    path.write_bytes(language.to_bytes(WORDS))
    # Another set's words: in another order, and one that the language model lacks.
    words = ["[PAD]", "[UNK]", *reversed(WORDS[2:-1]), "new"]
    fresh, loaded = _classifier(words, "random"), _classifier(words, str(path))
    vectors, table = (
        language.embedding.get_weights()[0],
        loaded.get_layer("embedding").get_weights()[0],
    )
    for i, word in enumerate(words[:-1]):
        np.testing.assert_array_equal(table[i], vectors[WORDS.index(word)], word)
    np.testing.assert_array_equal(table[-1], fresh.get_layer("embedding").get_weights()[0][-1])
    for a, b in zip(
        loaded.get_layer("gru").get_weights(), language.recurrent.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    head = [m.get_layer("logits").get_weights()[0] for m in (fresh, loaded)]
    np.testing.assert_array_equal(*head)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "language.npz"
    path.write_bytes(_language_model().to_bytes(WORDS))
    with pytest.raises(
        ValueError, match="reads forwards: --model expected one of lstm, gru.*bilstm$"
    ):
        _classifier(WORDS, str(path), "bilstm")
    with pytest.raises(ValueError, match=r"same --model, .*received shapes \[\(8,\), \(8, 18\)"):
        _classifier(WORDS, str(path), "lstm")
    with pytest.raises(ValueError, match="knows none of the 50 words.*first words: w2, w3"):
        _classifier(
            ["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"], str(path)
        )
    with pytest.raises(ValueError, match="expected a set that stores the words"):
        _classifier(None, str(path))  # type: ignore[arg-type]
    array, few = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(3))
    with np.load(path) as found:
        np.savez(few, **(dict(found) | {"vectors": found["vectors"][:-1]}))
    for content in (b"", b"no weights", path.read_bytes()[:200], array.getvalue(), few.getvalue()):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ValueError, match="--weights .*other expected a file of train.pretrain"):
            _classifier(WORDS, str(tmp_path / "other"))
    with pytest.raises(FileNotFoundError, match="--weights .*absent expected a file on this mach"):
        _classifier(WORDS, str(tmp_path / "absent"))


def test_length_and_distinct_words() -> None:
    from models.rnn import _count_words

    ids = np.array([[7, 3, 7, 7, 0, 0], [2, 3, 4, 5, 6, 7], [0] * 6, [9, 0, 0, 0, 0, 0]], np.int64)
    length, distinct = np.array([4, 6, 0, 1]), np.array([2, 6, 0, 1])
    expected = np.stack([np.log1p(length) - 4, 5 * distinct / np.maximum(length, 1) - 3.75], 1)
    np.testing.assert_allclose(_count_words(tf.constant(ids)), expected, rtol=1e-6)


def test_design_is_that_of_the_model() -> None:
    design = models.language_design("gru_language")
    assert dataclasses.astuple(design)[0] == "gru" and design.units == 256
    with pytest.raises(ValueError, match="received bilstm"):
        models.language_design("bilstm")
    with pytest.raises(ValueError, match="received math:floor"):
        models.language_design("math:floor")
