"""A small table like those that people have: texts, gaps, and a class that can be learned."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

HEADER = ["age", "workclass", "education", "hours per week", "income"]
_JOBS = ["Private", "State-gov", "Self-emp", "Fed, local"]
_RARE = (1, 5, 9)
_SCHOOLS = ["HS", "BA", "MA", "PhD é"]


def make_rows(count: int = 300, seed: int = 0) -> list[list[str]]:
    """Rows of HEADER: numbers and texts, some of them missing; `Without-pay` is rare."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        age, hours = int(rng.integers(17, 80)), int(rng.integers(10, 70))
        job = _JOBS[rng.choice(4, p=[0.6, 0.2, 0.15, 0.05])]
        job = "Without-pay" if n in _RARE else job
        school = _SCHOOLS[rng.integers(4)]
        score = age / 80 + hours / 70 + 0.6 * (school in _SCHOOLS[2:]) + 0.2 * rng.normal()
        rows.append(
            [
                str(age) if rng.random() > 0.05 else "?",
                job if rng.random() > 0.07 or n in _RARE else " ?",
                school,
                f"{hours}.5" if rng.random() > 0.03 else "",
                ">50K" if score > 1.5 else "<=50K",
            ]
        )
    return rows


def write_table(
    path: Path, rows: list[list[str]], header: list[str] | None = None, separator: str = ","
) -> Path:
    """Writes rows under a header; returns the path."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([header or HEADER, *rows])
    return path
