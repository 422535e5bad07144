"""The example notebooks run from the first cell to the last, and show players and plots."""

from pathlib import Path
from typing import Any

import pytest

from tests.export.conftest import make_output

PROJECT = Path(__file__).parent.parent


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Everything that the cells of a notebook show, by type."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # tests share the cores: two threads would wait for each other
    notebook = nbformat.read(PROJECT / "examples" / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # sound does not belong into the repository
    nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(folder)}}).execute()
    return [output["data"] for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]


@pytest.mark.slow
def test_quickstart_plays_and_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("quickstart.ipynb", tmp_path, monkeypatch)
    assert sum("<audio" in data.get("text/html", "") for data in shown) == 3
    assert sum("image/png" in data for data in shown) == 1


@pytest.mark.slow
def test_dataset_shows_table_clips_and_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_output(tmp_path / "out/demo")
    shown = run("dataset.ipynb", tmp_path, monkeypatch)
    assert sum("<audio" in data.get("text/html", "") for data in shown) == 2
    assert sum("<table" in data.get("text/html", "") for data in shown) == 2
    assert sum("image/png" in data for data in shown) == 1
