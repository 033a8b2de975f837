"""How much arithmetic GPUs can do at most, by their makers' figures.

Dense products on tensor cores, in TFLOP/s; sums in float32. float32: with TF32, which TensorFlow
has on, from Ampere on. Sources, all of NVIDIA; where they give figures with sparsity, half of them:

| device | source |
|---|---|
| V100 | "NVIDIA V100 Tensor Core GPU" datasheet, SXM2 and PCIe |
| T4 | "NVIDIA T4 Tensor Core GPU" datasheet |
| A100 | "NVIDIA A100 Tensor Core GPU" datasheet |
| H100, H200 | "NVIDIA H100 Tensor Core GPU" and "H200" datasheets: SXM, PCIe, NVL |
| L4, L40S | their datasheets |
| RTX 3090 | "NVIDIA Ampere GA102 GPU Architecture" whitepaper, table 9 |
| RTX 4090 | "NVIDIA Ada GPU Architecture" whitepaper, appendix A |
"""

import tensorflow as tf

# Words of the device's name, as the driver gives it, all of which must be there; then float32,
# bfloat16, float16. None: no hardware for it. The first line that fits counts.
_PEAKS: tuple[tuple[str, float | None, float | None, float | None], ...] = (
    ("H200 NVL", 417.5, 835, 835),
    ("H200", 494.5, 989, 989),
    ("H100 NVL", 417.5, 835, 835),
    ("H100 PCIe", 378, 756, 756),
    ("H100", 494.5, 989, 989),
    ("A100", 156, 312, 312),
    ("L40S", 183, 362, 362),
    ("L4", 60, 121, 121),
    ("V100 PCIE", 14, None, 112),
    ("V100", 15.7, None, 125),
    ("T4", 8.1, None, 65),
    ("RTX 4090", 82.6, 165.2, 165.2),
    ("RTX 3090", 35.6, 71, 71),
)
_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def find_peak(device: str, precision: str) -> float | None:
    """FLOP/s of a device of this name at most; None where they are not known.

    `precision` is one of `train.settings.config.PRECISIONS`.
    """
    words = set(device.upper().replace("-", " ").split())
    if "LAPTOP" in words:  # slower than the card of that name
        return None
    for row in _PEAKS:
        if set(row[0].upper().split()) <= words:
            tflops = dict(zip(_PRECISIONS, row[1:], strict=True)).get(precision)
            return None if tflops is None else 1e12 * tflops
    return None


def gpu_names() -> list[str]:
    """What the driver calls the GPUs that TensorFlow can use."""
    gpus = tf.config.list_physical_devices("GPU")
    details = map(tf.config.experimental.get_device_details, gpus)
    return [str(d.get("device_name", g.name)) for d, g in zip(details, gpus, strict=True)]
