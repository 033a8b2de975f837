"""Models for tables, pictures and text: one dict of names, one function that builds.

Imports nothing of ours. Begin here with `MODELS` and `build_model`, then `mlp`; its test is
tests/models/mlp_test.py, and most modules have one of their name.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from models import cnn, dcn, mlp, own, rnn
from models.config import ModelConfig
from models.language_model import LanguageModel, load_language_model
from models.own import is_own
from models.seeding import seeded_initializers
from models.stages import find_layer, freeze_backbone, split_frozen, unfreeze_from
from models.standardization import in_units, output_dtype

__all__ = [
    "MODELS",
    "LanguageModel",
    "ModelConfig",
    "ModelEntry",
    "build_model",
    "check_model",
    "find_layer",
    "freeze_backbone",
    "in_units",
    "is_own",
    "language_design",
    "output_dtype",
    "split_frozen",
    "unfreeze_from",
]


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One model that can be asked for by name."""

    # "tabular" (float32 or float64 [F]), "image" (uint8 [S, S, C]) or "text" (int64 [T]); "own"
    # takes any.
    modality: str
    # Called as build(config, spec, num_classes, **inputs of the modality).
    build: Callable[..., keras.Model]
    # S the ImageNet weights were trained at; None for other modalities.
    image_size: int | None = None
    # Tabular models that need thresholds of each feature: so many intervals at most.
    bins: int | None = None


def _mlp(**design: Any) -> ModelEntry:
    return ModelEntry("tabular", functools.partial(mlp.build_mlp, **design))


def _cnn(design: cnn.BackboneDesign, image_size: int) -> ModelEntry:
    return ModelEntry("image", functools.partial(cnn.build_cnn, design=design), image_size)


def _rnn(**design: Any) -> ModelEntry:
    build = functools.partial(rnn.build_rnn, design=rnn.RecurrentDesign(**design))
    return ModelEntry("text", build)


# Averaged states and more dropout than the report's text model has.
_AVERAGED = {"pool": True, "bag": True, "dropout": 0.5, "spatial_dropout": 0.2}
_SMALL = {"embedding_dim": 192, "units": 16}

MODELS: dict[str, ModelEntry] = {
    # Weighted F1 in 5-fold cross-validation on the train split of fetal_health: 0.933 (3 seeds,
    # 0.9326 to 0.9344); 2 seeds each: 0.914 without hinges at dropout 0.3, 0.918 mlp_report_best.
    # Within noise of it: dropout 0.3 (0.931, 3 seeds), one layer with 32 hinges (0.934, 1 seed),
    # four averaged networks (0.931, 1 seed); the first is kept as the plainest.
    "mlp": _mlp(hidden=(256, 256), default_dropout=0.1, hinges=16),
    # Small enough that what surrounds a step counts as much as the step: for the benchmarks.
    "mlp_small": _mlp(hidden=(64, 64), default_dropout=0.0),
    "mlp_report": _mlp(hidden=(1024, 512, 256, 128), default_dropout=0.0),
    "mlp_report_best": _mlp(hidden=(1024, 128, 1024, 128), default_dropout=0.3),
    # 0.9515 (3 seeds; gradient boosting on the same folds 0.9509), see models/dcn.py.
    "dcn": ModelEntry("tabular", dcn.build_dcn, bins=dcn.BINS),
    "resnet50": _cnn(cnn.RESNET50, 224),
    "inception_v3": _cnn(cnn.INCEPTION_V3, 299),
    "efficientnet_b0": _cnn(cnn.EFFICIENTNET_B0, 224),
    "efficientnet_lite0": _cnn(cnn.EFFICIENTNET_LITE0, 224),
    # The report's kind: the state after the last token, little regularisation.
    "lstm": _rnn(
        cell="lstm",
        bidirectional=False,
        pool=False,
        embedding_dim=128,
        units=128,
        dropout=0.2,
        spatial_dropout=0.0,
    ),
    "bilstm": _rnn(cell="lstm", bidirectional=True, embedding_dim=96, units=32, **_AVERAGED),
    "gru": _rnn(cell="gru", bidirectional=False, **_SMALL, **_AVERAGED),
    # Pairs of neighbouring words as well: 0.424 where gru has 0.411 (validation of song_lyrics,
    # seed 0), and closer to its training songs (0.76, gru 0.56).
    "gru_pairs": _rnn(cell="gru", bidirectional=False, pairs=2**16, **_SMALL, **_AVERAGED),
    # For --weights of train.pretrain.
    "gru_language": _rnn(
        cell="gru",
        bidirectional=False,
        language=True,
        pairs=2**16,
        embedding_dim=192,
        units=256,
        **_AVERAGED,
    ),
}


def check_model(name: str, modality: str | None = None) -> ModelEntry:
    """Returns the entry of `name`; `package.module:function` takes data of any modality.

    Raises:
        ValueError: unknown name, or a model of another modality than the data; lists the valid.
    """
    if is_own(name):
        return ModelEntry("own", lambda config, *inputs: own.build_own(config.name, *inputs))
    valid = [key for key, entry in MODELS.items() if modality in (None, entry.modality)]
    if name not in valid:
        what = f"{modality} models" if modality else "models"
        raise ValueError(
            f"model: --model {name!r} expected one of the {what} {', '.join(valid)}, or your own "
            "as package.module:function"
        )
    return MODELS[name]


def language_design(name: str) -> rnn.RecurrentDesign:
    """The design of a model that can begin with a language model's weights.

    Raises:
        ValueError: the model is no text model of ours, or reads backwards, too.
    """
    found = getattr(check_model(name, "text").build, "keywords", {}).get("design")
    if found is None or found.bidirectional:
        forwards = [k for k, e in MODELS.items() if e.modality == "text" and k != "bilstm"]
        raise ValueError(
            f"model: a language model reads forwards: --model expected one of "
            f"{', '.join(forwards)}, received {name}"
        )
    return found


def build_model(
    config: ModelConfig,
    spec: Any,
    num_classes: int,
    *,
    mean: np.ndarray | None = None,
    variance: np.ndarray | None = None,
    edges: np.ndarray | None = None,
    seed: int,
    words: Sequence[str] | None = None,
    use_cudnn: bool | str = "auto",
) -> keras.Model:
    """Builds the model `config.name` under the global Keras dtype policy.

    Args:
        spec: anything with `.shape` and `.dtype` of one example's input: float32 or float64 [F],
            uint8 [S, S, C] with C 1 or 3, or int32 [T] with T possibly None.
        num_classes: C, outputs: of classes, or of the numbers that are predicted.
        mean: float64 [F] of the training subset, tabular models only.
        variance: float64 [F] of the training subset, tabular models only.
        edges: float [F, T + 1], thresholds of each feature of the training subset; of models with
            `bins` only.
        seed: fixes the initial weights and the dropout layers' first seeds; the global random
            state of Python, NumPy and TensorFlow is left alone.
        words: those of the ids, text models with a weights file only.
        use_cudnn: text models only; pass False where the training step is compiled with XLA.

    Returns:
        Model from a batch of inputs to float32 logits [B, num_classes].

    Raises:
        ValueError: unknown name, unusable shape, statistics or weights file.
        FileNotFoundError, ConnectionError: the weights file or download is missing.
    """
    entry = check_model(config.name)
    if num_classes < 1:
        raise ValueError(f"model: num_classes expected at least 1, received {num_classes}")
    if entry.modality != "tabular" and (mean is not None or variance is not None):
        raise ValueError(f"model: {config.name} takes no mean and variance, only tables do")
    if entry.modality in ("tabular", "own") and config.weights not in ("imagenet", "random"):
        raise ValueError(
            f"model: {config.name} has no pretrained weights; received {config.weights!r}"
        )
    inputs: dict[str, Any] = {}
    if entry.modality == "tabular":
        inputs = {"mean": mean, "variance": variance} | ({"edges": edges} if entry.bins else {})
    elif entry.modality == "text":
        inputs = {"use_cudnn": use_cudnn}
    # Around the whole construction: each layer draws its seed when it is made.
    with seeded_initializers(seed):
        model = entry.build(config, spec, num_classes, **inputs)
    if entry.modality == "text" and config.weights not in ("imagenet", "random"):
        load_language_model(model, language_design(config.name).cell, config.weights, words)
    return model
