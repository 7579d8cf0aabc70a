"""examples/quickstart.ipynb: every cell runs, and shows what its text says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
LONGEST_CELL = 300
"""Seconds that a cell may take on a busy machine."""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell puts out, by the cell's id."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbclient.NotebookClient(
            notebook, timeout=LONGEST_CELL, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
        ).execute()
    return {cell["id"]: cell["outputs"] for cell in notebook.cells if cell.cell_type == "code"}


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_says(outputs: dict[str, list[Any]]) -> None:
    assert "text/html" in outputs["caption"][0]["data"]
    assert any("image/png" in output.get("data", {}) for output in outputs["plot"])
    assert len(outputs["best"][0]["text"].splitlines()) == 3
    photographs = list((NOTEBOOK.parents[1] / "data" / "samples").glob("*.jpg"))
    assert len(outputs["own"][0]["text"].splitlines()) == len(photographs) > 1
    assert "'CIDEr'" in outputs["score"][0]["data"]["text/plain"]


def test_the_notebook_is_kept_without_outputs() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert text.count('"outputs": []') == text.count('"cell_type": "code"') > 5
