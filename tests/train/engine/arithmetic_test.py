"""FLOPs of a run in its files, and the peaks of devices."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from train.devices.peaks import find_peak
from train.devices.strategy import make_cluster
from train.engine.arithmetic import Arithmetic, steady_figures
from train.engine.console import _format_arithmetic


def test_a_finished_run_tells_its_arithmetic(finished_runs: dict[str, Path]) -> None:
    for run in finished_runs.values():
        found = json.loads((run / "metrics.json").read_text())
        with open(run / "history.csv") as file:
            first, second = csv.DictReader(file)
        assert found["flops_per_example"] == float(first["flops_per_example"]) > 0
        rate = found["flops_per_example"] * float(second["examples_per_s"])
        assert found["flops_per_s"] == float(second["flops_per_s"]) == pytest.approx(rate)
        assert found["peak_share"] is None and "peak_share" not in second, "nothing is known of it"


def test_the_peak_is_that_of_all_devices() -> None:
    arithmetic = Arithmetic(make_cluster("mirrored"), "float32", 0.5)
    assert arithmetic.figures(1000.0) == {}, "nothing is counted yet"
    arithmetic.per_example = 2e6
    found = {"flops_per_example": 2e6, "flops_per_s": 2e9, "peak_share": 2e9 / (2 * 0.5e12)}
    assert arithmetic.figures(1000.0) == found
    rows = [found | {"flops_per_s": rate} for rate in (1e3, 5.0, 7.0, 6.0)]
    assert steady_figures(rows) == found | {"flops_per_s": 6.0}
    text = "arithmetic: 2 MFLOP an example, 2 GFLOP/s, 0.2 % of the peak"
    assert _format_arithmetic(found) == text
    assert _format_arithmetic(dict.fromkeys(found) | {"flops_per_example": 8.23e9}) == (
        "arithmetic: 8.23 GFLOP an example"
    )


@pytest.mark.parametrize(
    "device, precision, tflops",
    [
        ("NVIDIA A100-SXM4-80GB", "mixed_float16", 312),
        ("NVIDIA A100-PCIE-40GB", "float32", 156),
        ("NVIDIA H100 80GB HBM3", "mixed_bfloat16", 989),
        ("NVIDIA H100 PCIe", "mixed_bfloat16", 756),
        ("NVIDIA L4", "mixed_float16", 121),
        ("NVIDIA L40S", "mixed_float16", 362),
        ("Tesla T4", "mixed_float16", 65),
        ("Tesla V100-SXM2-16GB", "mixed_float16", 125),
        ("Tesla V100-PCIE-16GB", "float32", 14),
        ("NVIDIA GeForce RTX 4090", "mixed_bfloat16", 165.2),
        ("Tesla V100-SXM2-16GB", "mixed_bfloat16", None),
        ("NVIDIA A10G", "float32", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "float32", None),
        ("/device:GPU:0", "float32", None),
    ],
)
def test_peaks_by_the_name_of_the_device(device: str, precision: str, tflops: float | None) -> None:
    assert find_peak(device, precision) == (None if tflops is None else 1e12 * tflops)
