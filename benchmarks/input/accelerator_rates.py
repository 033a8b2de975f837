"""How fast accelerators train: the rates that are emulated, and where they are published.

NVIDIA/DeepLearningExamples on GitHub, training throughput, mixed precision, 1 GPU:

| model | file, table |
|---|---|
| EfficientNet-B0 | TensorFlow2/Classification/ConvNets/efficientnet_v1/README.md, "Training |
| | performance results for EfficientNet v1-B0": DGX A100 80GB, DGX-1 V100 32GB |
| ResNet-50 | TensorFlow/Classification/ConvNets/resnet50v1.5/README.md, "Training performance |
| | results": DGX A100 40GB, DGX-1 V100 16GB; batch 256, XLA |

By the first file's "Known issues" EfficientNet-B0 with mixed precision waited for augmentation on
the CPU: V100 computes more than its 868 images/s.

The tables have no H100. Its rates are derived: 1.8 x A100 for both models, rounded. 1.8 is H100
over A100 for ResNet-50 in MLPerf Training v3.0, two submissions of Dell with 16 GPUs each, 14.4
and 7.8 minutes (https://silvertonconsulting.com/2023/07/12/
mlperf-results-show-h100-v-a100-and-v-habana-gaudi2-gpus/). For EfficientNet-B0 it is an
assumption.
"""

import dataclasses
from collections.abc import Iterable

ACCELERATOR_BATCH = 256  # of one accelerator, as in the table of ResNet-50
_TABLES = "NVIDIA/DeepLearningExamples"
_B0 = f"{_TABLES}: TensorFlow2/Classification/ConvNets/efficientnet_v1/README.md"
_R50 = f"{_TABLES}: TensorFlow/Classification/ConvNets/resnet50v1.5/README.md"
_DERIVED = "derived: 1.8 x A100, as ResNet-50 in MLPerf Training v3.0"


@dataclasses.dataclass(frozen=True)
class Kind:
    """An accelerator that trains a model."""

    # accelerator and model: names; no model where only the time of a step is given.
    accelerator: str
    model: str
    rate: float  # examples/s that it trains with
    source: str

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.accelerator}, {self.model}" if self.model else self.accelerator

    @property
    def step_seconds(self) -> float:
        """Time of a batch."""
        return ACCELERATOR_BATCH / self.rate


A100_B0 = Kind("A100", "EfficientNet-B0", 3454, _B0)
H100_B0 = Kind("H100", "EfficientNet-B0", 6200, _DERIVED)
KINDS = (
    Kind("V100", "EfficientNet-B0", 868, _B0),
    A100_B0,
    H100_B0,
    Kind("V100", "ResNet-50", 1270, _R50),
    Kind("A100", "ResNet-50", 2375, _R50),
    Kind("H100", "ResNet-50", 4300, _DERIVED),
)


def asked_kinds(step_ms: Iterable[float]) -> tuple[Kind, ...]:
    """Accelerators that take these milliseconds a batch, whatever they train."""
    return tuple(
        Kind(f"{ms:g} ms a step", "", 1000 * ACCELERATOR_BATCH / ms, "--step-ms") for ms in step_ms
    )
