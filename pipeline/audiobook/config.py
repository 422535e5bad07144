"""The settings of an audiobook: those of a run, how a book is read, and how it sounds."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.books.book import BookSettings
from pipeline.config import ConfigSection, RunConfig, parse_as, read_yaml, set_key

# Integrated loudness in LUFS (one channel) and true peak in dBTP. Sources: acx.com "Audio submission requirements" (RMS
# -23 to -18 dB, peak -3 dB); Apple Podcasts (-16 LUFS for stereo, which is -19 for mono); EBU R 128
PRESETS = {"acx-levels": (-20.0, -3.0), "podcast": (-19.0, -1.0), "ebu-r128": (-23.0, -1.0)}


class SoundSettings(ConfigSection):
    """How the sentences are joined: the section `sound` of configs/audiobook.yaml."""

    preset: Literal["acx-levels", "podcast", "ebu-r128"] = "podcast"
    missing: Literal["stop", "pause", "tone"] = "stop"  # where a sentence failed: no book, a pause, or a short tone
    margin_s: float = Field(0.1, ge=0, le=2)  # kept before and after the speech of a sentence
    head_s: float = Field(0.75, ge=0, le=10)  # silence before a chapter; the pause after it is book.chapter_pause_s
    kbps: int = Field(64, ge=24, le=256)  # AAC, one channel

    @property
    def lufs(self) -> float:
        return PRESETS[self.preset][0]

    @property
    def true_peak_db(self) -> float:
        return PRESETS[self.preset][1]


class AudiobookConfig(RunConfig):
    """All settings; `configs/audiobook.yaml` explains them."""

    model: str = "puppy"
    manifest: str = ""  # made from the books
    output: str = ""  # a folder below the audiobooks' own
    narrator: str | None = None  # a voice, as in a manifest; default: the model's own first, else a preset of Suno's
    book: BookSettings = BookSettings()
    sound: SoundSettings = SoundSettings()

    def run(self, manifest: str, output: str) -> RunConfig:
        """The settings of the run that speaks a manifest."""
        values = {name: getattr(self, name) for name in RunConfig.model_fields}
        return RunConfig.model_construct(**values | {"manifest": manifest, "output": output})


def load_audiobook_config(path: Path | None, changes: list[str] | None = None) -> AudiobookConfig:
    """Read a YAML config, or take the defaults if there is none; raises ConfigError as `load_config`."""
    values = read_yaml(path) if path else {}
    for change in changes or []:
        set_key(values, change)
    return parse_as(AudiobookConfig, values, str(path or "--set"))
