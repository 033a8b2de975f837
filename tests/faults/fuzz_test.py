"""Fuzzing: whatever stands in a file, its reader succeeds or says clearly what is wrong with it.

Files are changed at random (`faults.mutate`; JSON and zip archives also within their structure) and
given to every reader of ours. No fuzzer that is guided by coverage, such as atheris, is used: it
sees nothing of C++ that is not compiled for it, and the formats that are ours are small enough for
plain mutation to reach every branch. What counts as an error besides another exception: a message
that does not begin with its place, 20 s without an end, a GiB of memory, a record that is lost
without a word, and the end of the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fuzz_targets import fuzz, make_targets

REPOSITORY = Path(__file__).resolve().parents[2]
_FEW = 20


def test_some_changed_inputs(synthetic_data_dir: Path, tmp_path: Path) -> None:
    """The same ones every time; `model.keras` takes longest, 20 ms each."""
    targets = make_targets(tmp_path, synthetic_data_dir)
    outcomes = {target.name: fuzz(target, _FEW, seed=1) for target in targets}
    failures = [line for found in outcomes.values() for line in found.failures]
    assert not failures, "\n".join(failures)
    assert sum(found.read + found.refused for found in outcomes.values()) == _FEW * len(targets)
    silent = {"checkpoint", "decoded cache", "JPEG, decoded", "PNG, decoded", "index.npz"}
    unrefused = {name for name, found in outcomes.items() if not found.refused}
    assert unrefused <= silent, "these readers never refuse anything"


@pytest.mark.slow
def test_many_changed_inputs(synthetic_data_dir: Path, tmp_path: Path) -> None:
    """In another process, which native code could end: the input that did it is then named."""
    (tmp_path / "work").mkdir()
    process = subprocess.run(
        [
            sys.executable,
            "tests/support/fuzz_targets.py",
            tmp_path / "work",
            synthetic_data_dir,
            "1",
        ],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), "tests"])},
        capture_output=True,
        timeout=1200,
    )
    if process.returncode:
        current = (tmp_path / "work" / "current").read_bytes()
        said = process.stderr.decode(errors="replace")[-3000:]
        pytest.fail(f"exit code {process.returncode} at {current[:2000]!r}\n{said}")
    outcomes = json.loads(process.stdout)
    print(f"\n{'target':28}{'read':>8}{'refused':>9}{'failed':>8}{'seconds':>9}")
    for name, one in outcomes.items():
        counts = f"{one['read']:8,}{one['refused']:9,}{len(one['failures']):8,}"
        print(f"{name:28}{counts}{one['seconds']:9.1f}")
    tried = sum(one["read"] + one["refused"] + len(one["failures"]) for one in outcomes.values())
    print(f"{tried:,} inputs")
    failures = [line for one in outcomes.values() for line in one["failures"]]
    assert not failures, "\n".join(failures[:50])
    assert tried >= 20_000
