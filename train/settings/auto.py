"""What `auto` means: one table of XLA and precision, by kind of device and family of model.

Rows of CPUs were measured (`python -m benchmarks.run --suite choices` makes them anew, for the
machine it runs on); rows of GPUs were not, and follow the sources named there.
`docs/notes/choices.md` explains both.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

import models

_FLOAT32, _BFLOAT16, _FLOAT16 = "float32", "mixed_bfloat16", "mixed_float16"
_CONVOLUTIONS = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D, keras.layers.Conv2DTranspose),
)
# Hidden layers of 1024 units: their matrix products, not what surrounds them, take the time.
_WIDE = ("mlp_report", "mlp_report_best")


@dataclasses.dataclass(frozen=True)
class Choice:
    """What `auto` becomes."""

    xla: bool  # compile, at one replica: a whole chunk of steps
    xla_several: bool  # compile at several replicas, where only forward and backward can be
    precision: str  # the Keras dtype policy


def _gpu(precision: str) -> dict[str, Choice]:
    """A GPU's row. Not measured.

    XLA fuses element-wise work into kernels (tensorflow.org/xla). Not for recurrent models: XLA
    has no CudnnRNN kernel ("No registered 'CudnnRNNV3' OpKernel for XLA_GPU_JIT",
    tensorflow#99385, keras#18456), and what it makes of their loop is slow (jax#13111). Nor for
    convolutional models at several replicas: see `train.step.train_step.check_compilable`.
    """
    compiled, plain = Choice(True, True, precision), Choice(False, False, precision)
    return {
        "small mlp": compiled,
        "wide mlp": compiled,
        "frozen head": compiled,
        "convolutional": Choice(True, False, precision),
        "recurrent": plain,
        "own": plain,
    }


# Ratios: speed with XLA over that without, one replica, on 2 processors: our steps on an AMD EPYC,
#  `fit` on an Intel Xeon with AVX512 (the trials of `--suite train`).
# Two replicas, and bfloat16, were not measured; two compile forward and backward only.
CHOICES: dict[str, dict[str, Choice]] = {
    "cpu": {
        # 3.6 x at batch 32, 1.1 x at 256 (EPYC); `fit` 0.8 x at batch 32 (Xeon), where ours with
        # XLA is 14 x that `fit`.
        "small mlp": Choice(True, False, _FLOAT32),
        # At batch 32, the default of tables: 1.6 x (EPYC), 1.2 and 1.35 x (Xeon). 0.73 x at 256.
        "wide mlp": Choice(True, False, _FLOAT32),
        # 0.12 to 0.36 x (Xeon).
        "frozen head": Choice(False, False, _FLOAT32),
        # 0.14 to 0.28 x, and a minute to compile (EPYC); 0.24 x (Xeon).
        "convolutional": Choice(False, False, _FLOAT32),
        # 0.8 x (EPYC), 1.45 x for `lstm` and 1.25 x for `gru` at one length of 200 (Xeon). But a
        # run has up to 12 lengths, each compiled for itself: song_lyrics took 125 s instead of 36.
        "recurrent": Choice(False, False, _FLOAT32),
        # Nobody has measured it, and not all of Keras compiles: --xla asks for it.
        "own": Choice(False, False, _FLOAT32),
    },
    # Compute capability 8 and newer, Ampere on: bfloat16 runs on the tensor cores (vllm#1284 names
    # the limit) and needs no loss scale.
    "gpu, capability 8 and newer": _gpu(_BFLOAT16),
    # Volta and Turing: tensor cores for float16 only (tensorflow.org/guide/mixed_precision).
    "gpu, capability 7": _gpu(_FLOAT16),
    "gpu, older": _gpu(_FLOAT32),
}


def family(model: str, freeze: bool) -> str:
    """The row's name for a model; `freeze`: only the head is trained, on cached features.

    Raises:
      ValueError: the model is unknown, or of a kind of input that has no row.
    """
    modality = models.check_model(model).modality
    if modality == "tabular":
        return "wide mlp" if model in _WIDE else "small mlp"
    if modality == "text":
        return "recurrent"
    if modality == "own":
        return "own"
    if modality == "image":
        return "frozen head" if freeze else "convolutional"
    raise ValueError(
        f"settings: --model {model}: expected a model of tables, pictures or texts, received one "
        f"of {modality!r}, of which train/settings/auto.py has no row"
    )


def device_kind(accelerator: bool) -> str:
    """The table's name for this machine's devices."""
    if not accelerator:
        return "cpu"
    gpu = tf.config.list_physical_devices("GPU")[0]
    major = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))[0]
    return {7: "gpu, capability 7"}.get(
        major, "gpu, capability 8 and newer" if major >= 8 else "gpu, older"
    )


def choose_hardware(
    model: str,
    freeze: bool,
    precision: str = "auto",
    xla: bool | None = None,
    *,
    accelerator: bool,
    num_replicas: int,
) -> dict[str, Any]:
    """{"precision", "xla"}: as asked for, or what the table says.

    "auto" and None let the table choose; of a frozen model the head alone is trained.
    """
    choice = CHOICES[device_kind(accelerator)][family(model, freeze)]
    compiled = choice.xla if num_replicas == 1 else choice.xla_several
    return {
        "precision": choice.precision if precision == "auto" else precision,
        "xla": compiled if xla is None else xla,
    }


def choose_xla(
    layers: Iterable[keras.layers.Layer], *, accelerator: bool, num_replicas: int
) -> bool:
    """Whether to compile a Keras model that is none of ours: as the table, by its layers."""
    layers = list(layers)
    kind = "small mlp"
    if any(isinstance(layer, _CONVOLUTIONS) for layer in layers):
        kind = "convolutional"
    if any(isinstance(layer, keras.layers.RNN) for layer in layers):
        kind = "recurrent"
    choice = CHOICES[device_kind(accelerator)][kind]
    # Several replicas with BatchNorm cannot be, see `train.step.train_step.check_compilable`.
    norms = any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
    return choice.xla if num_replicas == 1 else choice.xla_several and not norms
