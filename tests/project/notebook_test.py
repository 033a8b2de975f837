"""The notebook of the how-to pages runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbclient
import nbformat
import pytest

from tests.support.tiny_models import take_tiny_backbone

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "howto" / "files_to_model.ipynb"


def _read() -> nbformat.NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert len(notebook.cells) <= 15
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    return notebook


def test_its_code_runs_with_a_small_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, each cell as it stands, EfficientNet-Lite0 with one block."""
    take_tiny_backbone(monkeypatch)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in _read().cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), names)
    plt.close("all")
    assert (tmp_path / "runs" / "shapes" / "model.tflite").is_file()
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 7
    assert len(names["found"]["label"]) == 6


@pytest.mark.slow
def test_the_notebook_runs_from_files_to_an_exported_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user sees it, with the whole network; its cells run in the quick test, too."""
    notebook = _read()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=resources).execute()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    pictures = [one for one in outputs if "image/png" in one.get("data", ())]
    assert len(pictures) == 6, "each step shows what it did"
    assert (tmp_path / "runs" / "shapes" / "model.tflite").is_file()
    predicted = (tmp_path / "predictions.csv").read_text().splitlines()[1:]
    truth = ["disc", "square", "stripes"] * 2
    assert sum(row.split(",")[1] == kind for row, kind in zip(predicted, truth, strict=True)) >= 4
