"""The sentences of a book with their times, as SubRip (.srt) and WebVTT (.vtt)."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Cue:
    start_s: float
    end_s: float
    text: str


def srt(cues: Sequence[Cue]) -> str:
    """SubRip: numbered, with a comma before the milliseconds."""
    return "\n".join(
        f"{n}\n{clock(cue.start_s, ',')} --> {clock(cue.end_s, ',')}\n{cue.text}\n" for n, cue in enumerate(cues, 1)
    )


def vtt(cues: Sequence[Cue]) -> str:
    """WebVTT: text is escaped, since `<` begins a tag there."""
    body = "\n".join(
        f"{clock(cue.start_s, '.')} --> {clock(cue.end_s, '.')}\n{escape(cue.text, quote=False)}\n" for cue in cues
    )
    return f"WEBVTT\n\n{body}"


def clock(seconds: float, point: str) -> str:
    """Such as 01:02:03,456"""
    milliseconds = round(seconds * 1000)
    rest, milliseconds = divmod(milliseconds, 1000)
    return f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}{point}{milliseconds:03d}"
