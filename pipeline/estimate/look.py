"""What a manifest's rows will be, before any is spoken: segments, characters, and rows that can't be spoken."""

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pipeline.bark.voice import load_voice, preset_names
from pipeline.errors import RowError
from pipeline.flow.segments import Segment, split_row
from pipeline.flow.stage_adapters import ActorContext
from pipeline.manifest.sample import ManifestSample

SHOWN = 5  # unknown voices and languages that are named


@dataclass
class RowLook:
    """One row that can be spoken."""

    row: dict[str, Any]
    segments: list[Segment]

    @property
    def characters(self) -> int:
        return sum(len(segment["text"]) for segment in self.segments)


@dataclass
class Look:
    """What the sampled rows say."""

    sample: ManifestSample
    rows: list[RowLook] = field(default_factory=list)  # that can be spoken
    failures: Counter[str] = field(default_factory=Counter)  # of the others, by kind
    unknown_voices: Counter[str] = field(default_factory=Counter)
    unknown_languages: Counter[str] = field(default_factory=Counter)

    @property
    def factor(self) -> float:
        """Rows of the manifest for each row of the sample."""
        return self.sample.num_rows / max(1, len(self.sample.rows))

    def project(self, count: float) -> int:
        """A count in the sample as one in the manifest."""
        return round(count * self.factor)


def look(context: ActorContext, sample: ManifestSample) -> Look:
    """Split the sampled rows as the run will, and check their voices. Voices at a URL are not fetched."""
    found = Look(sample)
    languages = {name.split("/")[-1][:2] for name in preset_names() if "_speaker" in name}
    folder = context.checkpoint.folder

    @lru_cache(4096)
    def voice_error(voice: str) -> str | None:
        try:
            if "://" not in voice:
                load_voice(voice, folder)
        except RowError as error:
            return error.kind
        return None

    for index, row in enumerate(sample.rows.to_pylist()):
        segments = split_row(index, row, context.config, context.encoder)
        kind = segments[0].get("error_kind") or (voice_error(row["voice"]) if row.get("voice") else None)
        if row.get("voice") and voice_error(row["voice"]):
            found.unknown_voices[row["voice"]] += 1
        language = (row.get("language") or "").lower().split("-")[0]
        if language and language not in languages:
            found.unknown_languages[language] += 1
        if kind:
            found.failures[kind] += 1
        else:
            found.rows.append(RowLook(row, segments))
    return found
