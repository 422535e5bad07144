"""Barkery: tables of text to datasets of speech, with Suno's Bark."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.bark.synthesize import Bark, Result
    from pipeline.bark.text import SegmentLimits
    from pipeline.bark.voice import HistoryPrompt
    from pipeline.dataset.dataset import Clip, Dataset, read
    from pipeline.sampling import Sampling

__version__ = "0.2.0"
__all__ = [
    "Bark",
    "Clip",
    "Dataset",
    "HistoryPrompt",
    "Result",
    "Sampling",
    "SegmentLimits",
    "__version__",
    "read",
]

MODULES = {
    "Bark": "pipeline.bark.synthesize",
    "Clip": "pipeline.dataset.dataset",
    "Dataset": "pipeline.dataset.dataset",
    "read": "pipeline.dataset.dataset",
    "Result": "pipeline.bark.synthesize",
    "HistoryPrompt": "pipeline.bark.voice",
    "Sampling": "pipeline.sampling",
    "SegmentLimits": "pipeline.bark.text",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `barkery --help` does not wait for torch."""
    from importlib import import_module

    if name not in MODULES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
