"""Splits a paragraph into the sentences that are spoken one at a time."""

import re
import unicodedata

import sentencex

MIN_WORDS = 3  # fewer are joined to a neighbor: a speech model makes things up for a prompt of one or two words
CLOSING = "\"'”’»›“‘)]}」』）】"
ONLY_CLOSING = re.compile(rf"[{re.escape(CLOSING)}.,;:!?…\s]+")


def split(text: str, language: str) -> list[str]:
    """The sentences of one paragraph, in order; together they are its text.

    Closing quotation marks stay with their sentence, and so does what goes on in lower case ("Stop!" he said).
    """
    found = [s for s in (part.strip() for part in sentencex.segment(base(language), text)) if s]
    joined: list[str] = []
    for sentence in found:
        if joined and (ONLY_CLOSING.fullmatch(sentence) or begins_lower(sentence)):
            joined[-1] = join(joined[-1], sentence)
        elif joined and sentence[0] in CLOSING and sentence[1:2].isspace():
            joined[-1] += sentence[0]
            joined.append(sentence[1:].strip())
        else:
            joined.append(sentence)
    return join_short(joined)


def join_short(sentences: list[str]) -> list[str]:
    """The sentences, with those of fewer than MIN_WORDS words joined to the one before, or else to the next."""
    joined: list[str] = []
    for sentence in sentences:
        if joined and (num_words(sentence) < MIN_WORDS or num_words(joined[-1]) < MIN_WORDS):
            joined[-1] = join(joined[-1], sentence)
        else:
            joined.append(sentence)
    return joined


def begins_lower(sentence: str) -> bool:
    letter = next((c for c in sentence if c.isalpha()), "")
    return letter.islower() and sentence[0] not in "([{"


def join(left: str, right: str) -> str:
    if ONLY_CLOSING.fullmatch(right) or is_wide(left[-1]) or is_wide(right[0]):
        return left + right
    return f"{left} {right}"


def num_words(text: str) -> int:
    """Words between spaces; in scripts without spaces, two characters count as one."""
    wide = sum(is_wide(c) and c.isalpha() for c in text)
    return wide // 2 if wide else sum(any(c.isalnum() for c in word) for word in text.split())


def is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def base(language: str) -> str:
    """`en-US` -> `en`"""
    return language.replace("_", "-").split("-")[0].lower() or "en"
