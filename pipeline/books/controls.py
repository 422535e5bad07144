"""Controls that an author writes into Markdown and plain text: `[voice: NAME]` and `[pause: SECONDS]`."""

import re
from dataclasses import dataclass

CONTROL = re.compile(r"\[\s*(voice|pause)\s*:\s*([^\]\[]{0,200}?)\s*\]", re.IGNORECASE)
MAX_PAUSE_S = 60.0


@dataclass(frozen=True)
class Run:
    """A stretch of a paragraph between two controls."""

    text: str
    voice: str | None  # None: as the paragraph
    pause_after_s: float | None = None  # None: as usual


def split_controls(text: str) -> tuple[float | None, list[Run]]:
    """The stretches of a paragraph. A voice holds to the paragraph's end or the next voice; `[voice:]` ends it.

    Returns:
        The pause that the paragraph begins with, which belongs to what comes before it, and the stretches. A pause that
        is no number from 0 to 60 stays in the text.
    """
    before: float | None = None
    runs: list[Run] = []
    voice: str | None = None
    at = 0
    for match in CONTROL.finditer(text):
        pause = to_pause(match[2]) if match[1].lower() == "pause" else None
        if match[1].lower() == "pause" and pause is None:
            continue
        if has_words(stretch := text[at : match.start()].strip()):
            runs.append(Run(stretch, voice))
        at = match.end()
        if pause is None:
            voice = match[2] or None
        elif runs:
            runs[-1] = Run(runs[-1].text, runs[-1].voice, pause)
        else:
            before = pause
    if has_words(stretch := text[at:].strip()):
        runs.append(Run(stretch, voice))
    return before, runs


def has_words(text: str) -> bool:
    return any(c.isalnum() for c in text)


def to_pause(text: str) -> float | None:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        return None
    return seconds if 0 <= seconds <= MAX_PAUSE_S else None
