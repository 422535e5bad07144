"""The settings `judges` of a run: models that listen to every clip. Each is an extra of its own; by default none.

Here, because reading a config must not import what a judge needs.
"""

from typing import Any, Literal

from pydantic import Field

from pipeline.quality.section import QualitySection

POCKETSPHINX = "pocketsphinx"  # as a recognizer: small, English, for tests


class VadJudge(QualitySection):
    """Silero's voice activity detection; its model is in the package."""

    threshold: float = Field(0.5, gt=0, lt=1)  # probability of speech in a window of 32 ms


class DnsmosJudge(QualitySection):
    """DNSMOS P.835: estimated opinion scores; its model is in the package."""


class AsrJudge(QualitySection):
    """A recognizer: what it hears is compared with the text."""

    model: str = Field(min_length=1)  # folder of a faster-whisper model, hub id, size such as `base`, or `pocketsphinx`
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")  # auto: the pool's
    compute_type: Literal["default", "int8", "int8_float16", "float16", "float32"] = "default"
    beam_size: int = Field(5, ge=1, le=20)
    local_files_only: bool = False  # never ask the hub


class SpeakerJudge(QualitySection):
    """Resemblyzer's voice encoder: is it the same speaker throughout, and the voice's; weights in the package."""


class JudgeSettings(QualitySection):
    """Which judges listen."""

    vad: VadJudge | None = None
    dnsmos: DnsmosJudge | None = None
    asr: AsrJudge | None = None
    speaker: SpeakerJudge | None = None

    @property
    def names(self) -> list[str]:
        """The judges that are configured."""
        return [name for name in JudgeSettings.model_fields if getattr(self, name) is not None]

    @property
    def identity(self) -> dict[str, Any]:
        """What decides their scores; empty without judges. Models are hashed apart (`load.fingerprint`)."""
        settings = self.model_dump(mode="json", exclude_none=True)
        if self.asr:
            settings["asr"] = {key: settings["asr"][key] for key in ("compute_type", "beam_size")}
        return settings
