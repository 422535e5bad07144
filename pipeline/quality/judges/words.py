"""Texts as they are compared, and how many words, characters and phonemes differ."""

import importlib.util
import re
import unicodedata
from functools import lru_cache
from typing import Any

from pipeline.quality.judges.clip import Scores

NUMBER = re.compile(r"\d[\d.,]*")


def count_errors(text: str, heard: str, language: str) -> Scores:
    """Edits from the text to what was heard, and how many words, characters and phonemes the text has.

    Phonemes: None where the language's model (g2p2) is not installed.
    """
    said, got = normalize(text, language), normalize(heard, language)
    return {
        "word_errors": edits(said.split(), got.split()),
        "num_words": len(said.split()),
        "char_errors": edits(list(said.replace(" ", "")), list(got.replace(" ", ""))),
        "num_said_chars": len(said.replace(" ", "")),
        **count_phoneme_errors(said, got, language),
    }


def count_phoneme_errors(said: str, got: str, language: str) -> Scores:
    """As `count_errors`, by the pronunciations of both."""
    pronounce = phonemizer(language)
    if pronounce is None:
        return {"phoneme_errors": None, "num_phonemes": None}
    phonemes = list(pronounce(said))
    return {"phoneme_errors": edits(phonemes, list(pronounce(got))), "num_phonemes": len(phonemes)}


def edits(said: list[str], heard: list[str]) -> int:
    """The Levenshtein distance of two lists."""
    import jiwer

    if not said or not heard:
        return max(len(said), len(heard))
    # jiwer splits at spaces: lists of characters have none, and words neither
    found = jiwer.process_words(" ".join(said), " ".join(heard))
    return found.substitutions + found.deletions + found.insertions


def normalize(text: str, language: str) -> str:
    """Lower case, numbers in words, letters alone; each East Asian wide character is a word of its own."""
    text = NUMBER.sub(lambda match: f" {spell(match[0], language)} ", unicodedata.normalize("NFKC", text).casefold())
    text = re.sub(r"\[[^\]]*\]", " ", text)  # Bark's cues, such as [laughs]
    letters = [letter(c) for c in text if c not in "'’"]
    return " ".join("".join(letters).split())


def letter(char: str) -> str:
    """A letter or its mark as it is, a wide one with spaces around it, everything else as a space."""
    if unicodedata.category(char)[0] not in "LMN":
        return " "
    return f" {char} " if unicodedata.east_asian_width(char) == "W" and not is_hangul(char) else char


def is_hangul(char: str) -> bool:
    """Korean writes spaces between words."""
    return "가" <= char <= "힣"


@lru_cache(4096)
def spell(number: str, language: str) -> str:
    """A number in words; its digits as they are where num2words does not know the language."""
    if importlib.util.find_spec("num2words") is None:
        return number
    from num2words import num2words

    digits = number.rstrip(".,")
    is_grouped = language == "en" and re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", digits)
    digits = digits.replace(",", "") if is_grouped else digits
    try:
        value: Any = float(digits.replace(",", ".")) if re.search(r"[.,]", digits) else int(digits)
        is_year = language == "en" and not is_grouped and re.fullmatch(r"1[1-9]\d\d|20[1-9]\d", digits)
        spelled = str(num2words(value, lang=language, to="year" if is_year else "cardinal"))
        return spelled.replace(" and ", " ") if language == "en" else spelled  # as Americans say it
    except (NotImplementedError, ValueError, OverflowError):
        return number


@lru_cache
def phonemizer(language: str) -> Any:
    """A function from text to phonemes; None without g2p2 and its installed model of the language. Never downloads."""
    if importlib.util.find_spec("g2p2") is None:
        return None
    import g2p2

    path = g2p2._installed_pack(language)  # the public function would download a model that is not installed
    if path is None:
        return None
    model = g2p2.Model.load(str(path))
    return lambda text: "".join(model.phonemize(word) for word in text.split())
