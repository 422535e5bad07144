"""The clips of a report: their texts, pictures and sound, as the page's script takes them."""

import difflib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from os import cpu_count
from typing import Any

import pyarrow as pa

from pipeline.dataset.plain import json_value
from pipeline.report.pictures import as_base64, mel_picture, mp3, waveform
from pipeline.report.scan import Candidate
from pipeline.shards.reader import decode_clip, read_part
from pipeline.shards.writer import Commit
from pipeline.storage.store import Store

PAGE_BYTES = 36 * 10**6  # of all clips together
PICTURE_BYTES = 12_000  # of one clip's pictures and columns, about
LONGEST_S = 30.0  # a longer clip is cut
KILOBITS = (64, 48, 40, 32, 24)


@dataclass(frozen=True)
class ReportClip:
    """One clip of the page."""

    values: dict[str, Any]  # for the page's list: id, text, reasons, columns ...
    sound: str  # base64 of an MP3
    picture: str  # base64 of a PNG


def render_clips(store: Store, commits: dict[int, Commit], chosen: dict[Candidate, list[str]]) -> Iterator[ReportClip]:
    """Render the chosen clips, several parts at a time; in order of parts and rows.

    Raises:
        ConfigError: a part is missing or damaged.
    """
    budget = sound_budget(len(chosen))
    by_part = [(part, list(each)) for part, each in groupby(chosen, key=lambda candidate: candidate.part)]

    def render_part(found: tuple[int, list[Candidate]]) -> list[ReportClip]:
        part, candidates = found
        table = read_part(store, commits[part]).take(pa.array([each.position for each in candidates]))
        pairs = zip(table.to_pylist(), candidates, strict=True)
        return [render_clip(store, part, row, chosen[candidate], budget) for row, candidate in pairs]

    with ThreadPoolExecutor(cpu_count() or 1) as pool:
        for clips in pool.map(render_part, by_part):
            yield from clips


def sound_budget(clips: int) -> int:
    """Bytes of MP3 that one clip may have, so that the page stays below 40 MB."""
    return max(12_000, PAGE_BYTES // max(1, clips) * 3 // 4 - PICTURE_BYTES)  # base64 takes a third more


def render_clip(store: Store, part: int, row: dict[str, Any], reasons: list[str], budget: int) -> ReportClip:
    """One row with its reasons; its sound is as good, and as long, as the budget allows."""
    content = row.pop("audio")["bytes"]
    samples, rate = decode_clip(store, part, content)
    duration = len(samples) / rate
    heard = min(duration, LONGEST_S, budget * 8 / 1000 / KILOBITS[-1])
    samples = samples[: round(heard * rate)]
    kilobits = next((k for k in KILOBITS if heard * k * 1000 / 8 <= budget), KILOBITS[-1])
    quality = row.get("quality") or {}
    recognized = quality.get("asr_text")
    values = {
        "id": row["id"],
        "text": row.get("text") or "",
        "voice": row.get("voice") or "",
        "language": row.get("language") or "",
        "seed": str(row["seed"]),  # as text: it may have more digits than JavaScript's numbers
        "duration": duration,
        "heard": heard,
        "reasons": reasons,
        "wave": waveform(samples),
        "difference": None if recognized is None else differences(row.get("text") or "", recognized),
        "columns": {key: shown(value) for key, value in (row | quality).items() if key not in ("quality", "text")},
        "measures": {key: value for key, value in (row | quality).items() if is_number(value)},
    }
    return ReportClip(
        json_value(values), as_base64(mp3(samples, rate, kilobits)), as_base64(mel_picture(samples, rate))
    )


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A column's value as text."""
    value = json_value(value)
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def differences(text: str, recognized: str) -> list[list[str]]:
    """Words of a text and of what was heard: pairs of =, - (only in the text) or + (only heard), and words."""
    words = text.split(), recognized.split()
    plain = [["".join(c for c in word.lower() if c.isalnum()) for word in each] for each in words]
    found: list[list[str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, plain[0], plain[1], autojunk=False).get_opcodes():
        if kind == "equal":
            found.append(["=", " ".join(words[0][a:b])])
            continue
        found += [["-", " ".join(words[0][a:b])]] if a < b else []
        found += [["+", " ".join(words[1][c:d])]] if c < d else []
    return found
