"""A clip as a piece of HTML that plays in a notebook. All text from data is escaped."""

import base64
from collections.abc import Mapping
from html import escape

MIME_TYPES = {b"fLaC": "audio/flac", b"RIFF": "audio/wav", b"OggS": "audio/ogg"}


def player(content: bytes) -> str:
    """An audio element that contains a whole sound file."""
    kind = MIME_TYPES.get(content[:4], "audio/mpeg")
    data = base64.b64encode(content).decode("ascii")
    return f'<audio controls preload="metadata" src="data:{kind};base64,{data}"></audio>'


def clip_html(content: bytes, text: str, facts: Mapping[str, object]) -> str:
    """A text, its player and a line of facts; a fact that is None is left out."""
    shown = " · ".join(f"{escape(name)} {escape(str(value))}" for name, value in facts.items() if value is not None)
    return f'<div><p dir="auto">{escape(text)}</p>{player(content)}<p><small>{shown}</small></p></div>'
