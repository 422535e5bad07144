"""The benchmarks can be imported: what they use of the pipeline exists. Running them takes minutes."""

from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["flow", "peers", "roofline", "rows", "soak"])
def test_benchmark_can_be_imported(name: str) -> None:
    assert callable(import_module(f"benchmarks.{name}").main)


def test_roofline_prints_the_table_of_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    import_module("benchmarks.roofline").main()
    assert "| bark-small | none | A100 80 GB | 0.037 | 0.119 | 0.008 | 61 |" in capsys.readouterr().out
