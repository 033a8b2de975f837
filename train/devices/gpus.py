"""GPU settings that every run uses, with their reasons."""

import os

import tensorflow as tf


def set_up_gpus() -> None:
    """Applies the settings that every run uses; call it before TensorFlow uses a GPU. Not measured.

    | setting | why |
    |---|---|
    | memory growth | several processes and the profiler share a GPU |
    | TF_GPU_THREAD_MODE=gpu_private | threads of its own start a GPU's kernels, which else wait
      behind the input's work (tensorflow.org/guide/gpu_performance_analysis); one set in the
      environment stays |
    | TF32 | stays on, TensorFlow's default for float32 products from Ampere on: 10 bits of
      mantissa (tf.config.experimental.enable_tensor_float_32_execution) |
    | deterministic kernels | `--deterministic`, the default: a resumed run is bitwise equal to one
      that was not interrupted |
    | cuDNN for recurrent layers | where the step is not compiled: see `train/settings/auto.py` |

    Raises:
      RuntimeError: TensorFlow uses its devices already.
    """
    # TensorFlow reads it when it makes its devices: it must be set before the first of them is
    # used.
    os.environ.setdefault("TF_GPU_THREAD_MODE", "gpu_private")
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
