"""The notebook of the how-to pages runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "howto" / "files_to_model.ipynb"


def test_the_notebook_runs_from_files_to_an_exported_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert len(notebook.cells) <= 15
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
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
