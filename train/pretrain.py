"""Command line: a language model of a set's training texts, for `train.run --weights`.

    python -m train.pretrain --dataset song_lyrics/kaggle --data-dir data --output lyrics.npz
    python -m train.run --dataset song_lyrics/kaggle --data-dir data --model gru_language \\
        --weights lyrics.npz

It reads the training texts of `train.run` with the same --seed, without their labels; validation
gives the perplexity alone, and test is not read.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np

from records.stores.flags import add_cache_flags
from records.system.command import run_as_command
from records.system.places import check_local
from records.system.progress import Progress
from records.system.writing import check_output, write_atomically
from train.settings.config import ON_CORRUPT
from train.settings.flags import normalise_flags

# Ids of a piece, so that short texts are not padded to the longest.
_PIECE = 64
_BATCH = 64
_LEARNING_RATE, _WEIGHT_DECAY, _CLIP = 2e-3, 1e-2, 1.0


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parses command-line flags; prints usage and exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m train.pretrain",
        description="Trains a language model on the training texts of a set, from which "
        "train.run --weights begins. One device.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--dataset", required=True, help="name[/config] of a prepared set, or its directory")
    add("--data-dir", help="where prepared sets lie (default: as tfds)")
    add_cache_flags(parser)
    add("--feature", help="the input feature, where the set has several")
    add("--model", default="gru_language", help="the model that it is for (default: gru_language)")
    add("--output", type=Path, required=True, metavar="FILE", help="what is written, an .npz file")
    add("--epochs", type=int, default=8, metavar="N", help="default: 8")
    add("--seed", type=int, default=0, metavar="N", help="that of train.run (default: 0)")
    add("--vocab-size", type=int, metavar="N", help="ids in use (default: 20000)")
    add("--sequence-length", type=int, metavar="N", help="ids of each text (default: 200)")
    add("--embedding-dim", type=int, metavar="N", help="as of train.run")
    add("--units", type=int, metavar="N", help="as of train.run")
    add(
        "--on-corrupt",
        choices=ON_CORRUPT,
        default="error",
        help="at a damaged record: stop and name it (default), or leave damaged ones out",
    )
    found = parser.parse_args(normalise_flags(arguments))
    for name in ("epochs", "vocab_size", "sequence_length", "embedding_dim", "units"):
        value = getattr(found, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} expected 1 or more, received {value}")
    if not 0 <= found.seed < 2**32:
        parser.error(f"--seed expected 0 to 2^32 - 1, received {found.seed}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Trains and writes the file; returns the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)

    def work() -> None:
        pretrain(options)

    return run_as_command(work)


def pretrain(options: argparse.Namespace) -> None:
    """Trains the language model, prints its perplexity on validation and writes it.

    Raises:
        ValueError: a set that holds no texts or no words, or a model that takes no language model.
    """
    import keras

    import models

    check_local(options.output, "--output", is_output=True)
    check_output(options.output, "pretrain")
    design = models.language_design(options.model)
    words, train, validation = _read_texts(options)
    keras.utils.set_random_seed(options.seed)
    width, units = options.embedding_dim or design.embedding_dim, options.units or design.units
    model = models.LanguageModel(len(words), width, units, design.cell)
    steps = options.epochs * -(-len(train) // _BATCH)
    rate = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
    adam = keras.optimizers.AdamW(rate, weight_decay=_WEIGHT_DECAY, clipnorm=_CLIP)
    # XLA has no kernel that draws the words.
    model.compile(adam, jit_compile=False)
    with Progress(steps, "pretraining", "steps") as line:
        count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: line.add(1))
        kept = model.fit(
            train, batch_size=_BATCH, epochs=options.epochs, verbose=0, callbacks=count
        )
    losses = ", ".join(f"{loss:.3f}" for loss in kept.history["loss"])
    print(f"loss of each epoch, told from sampled words: {losses}")
    # Few at a time, because here each word is told from all others: 64 MiB of outputs.
    few = max(1, 2**24 // (_PIECE * len(words)))
    perplexity = math.exp(model.evaluate(validation, batch_size=few, verbose=0))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.output, model.to_bytes(words))
    print(f"perplexity on validation {perplexity:.1f}\nwrote {options.output}")


def _read_texts(options: argparse.Namespace) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """The words of the ids, and the pieces of the texts of train and of validation."""
    from records.decoding.input_config import InputConfig
    from records.opened import open_set
    from records.roles import Data

    given = {name: getattr(options, name) for name in ("sequence_length", "vocab_size")}
    sizes = {name: value for name, value in given.items() if value is not None}
    opened = open_set(
        options.dataset,
        options.data_dir,
        feature=options.feature,
        skip_damaged=options.on_corrupt == "skip",
    )
    data = Data(opened, InputConfig(**sizes, feature=options.feature), options.seed)
    words = data.vocabulary.words() if data.vocabulary else None
    if words is None:
        raise ValueError(
            f"pretrain: --dataset expected a set of texts, or of ids with their words, received "
            f"{data.schema.name}, whose input {data.schema.input_name!r} is {data.schema.modality}"
        )
    train, validation = (
        cut_texts(np.asarray(part.inputs)[part.numbers])
        for part in (data.examples(role).without_damaged() for role in ("train", "validation"))
    )
    if not (len(train) and len(validation)):
        raise ValueError(
            f"pretrain: --dataset expected texts of two words and more in train and validation, "
            f"received {len(train):,} and {len(validation):,} pieces of them"
        )
    print(
        f"{data.schema.name}: {len(train):,} pieces of at most {_PIECE} words, of {len(words):,} "
        "different ones"
    )
    return words, train, validation


def cut_texts(ids: np.ndarray) -> np.ndarray:
    """Pieces of texts that overlap by one word: int [n, T] -> int32 [m, _PIECE + 1], padded."""
    pieces = []
    for row in ids:
        text = row[row > 0]
        # The last word of a piece begins the next one: it was guessed, but is not yet known there.
        starts = range(0, len(text) - 1, _PIECE)
        pieces += [text[start : start + _PIECE + 1] for start in starts]
    found = np.zeros((len(pieces), _PIECE + 1), np.int32)
    for row, piece in zip(found, pieces, strict=True):
        row[: len(piece)] = piece
    return found


if __name__ == "__main__":
    sys.exit(main())
