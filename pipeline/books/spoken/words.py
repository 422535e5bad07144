"""Writes numbers, dates, amounts, abbreviations and addresses as the words that a reader would say.

Bark reads digits badly, and in a language that it guesses. Numbers become words by num2words; what surrounds them
follows the tables in rules.py. A text in a language that has no table is left as it is.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pipeline.books.sentences import base
from pipeline.books.spoken.rules import OTHERS, RULES, Rules
from pipeline.errors import ConfigError

ROMAN = r"(?=[MDCLXVI])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
NOT_IN_WORD = r"(?<![\w.,])"
MAX_DIGITS = 15  # longer ones are read digit by digit
FRACTIONS = {"½": ("one half", "a half"), "¼": ("one quarter", "a quarter"), "¾": ("three quarters", "three quarters")}


def to_words(text: str, language: str) -> str:
    """The text with numbers, dates, amounts, abbreviations and addresses in words.

    Raises:
        ConfigError: num2words is not installed.
    """
    rules = RULES.get(base(language)) or OTHERS.get(base(language))
    if rules is None or not (re.search(r"\d|[.°§&@½¼¾]", text) or re.search(rf"\b{ROMAN}\b", text) or "M" in text):
        return text
    return Writer(rules).write(text)


@lru_cache
def converter() -> Callable[..., str]:
    try:
        from num2words import num2words
    except ImportError as error:
        raise ConfigError("numbers in words need num2words: pip install 'barkery[audiobook]'") from error
    return num2words


class Writer:
    """Writes one language."""

    def __init__(self, rules: Rules):
        self.rules = rules
        group = f"[{re.escape(rules.thousands)}]"
        # With groups of three, or plain; a decimal part; not in a word, and not after another number's separator
        self._number = rf"\d{{1,3}}(?:{group}\d{{3}})+(?!\d)|\d+"
        self._decimal = rf"(?:{re.escape(rules.decimal)}(\d+))?"

    def write(self, text: str) -> str:
        steps = [self._addresses, self._abbreviations, self._roman, self._dates, self._times, self._money]
        for step in (*steps, self._measures, self._ordinals, self._years, self._ranges, self._numbers):
            text = step(text)
        if self.rules.and_:
            text = re.sub(r"(?<=\s)&(?=\s)", self.rules.and_, text)
        return text

    def _addresses(self, text: str) -> str:
        def spell(match: re.Match[str]) -> str:
            address = re.sub(r"^https?://", "", match[0].rstrip(".,;:!?)"))
            end = match[0][len(match[0].rstrip(".,;:!?)")) :]
            for sign, word in ((".", self.rules.dot), ("/", self.rules.slash), ("@", self.rules.at)):
                address = address.strip("/").replace(sign, f" {word} ")
            return " ".join(address.split()) + end

        return re.sub(r"(?:https?://|www\.)\S+|[\w.+-]+@[\w-]+\.[\w.-]+\w", spell, text) if self.rules.dot else text

    def _abbreviations(self, text: str) -> str:
        for short in sorted(self.rules.abbreviations, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.]){re.escape(short)}(?!\w)", self.rules.abbreviations[short], text)
        if self.rules.language == "en":
            text = re.sub(r"\bNo\. (?=\d)", "Number ", text)
            text = re.sub(r"\b([ap])\. ?m\.", r"\1 m", text)
            text = re.sub(r"\b((?:[A-Z]\. ?){2,})(?=[A-Z][a-z])", lambda m: m[1].replace(".", " ").strip() + " ", text)
        return " ".join(text.split())

    def _roman(self, text: str) -> str:
        if self.rules.chapter_words:
            heads = "|".join(self.rules.chapter_words)
            text = re.sub(rf"\b({heads}) ({ROMAN})(?<=\w)\b", lambda m: f"{m[1]} {self._say(from_roman(m[2]))}", text)
        if self.rules.king:
            pattern = r"\b([A-Z][a-z]+) ((?=[XVI]{2}|[XV]\b)(?:X{0,3})(?:IX|IV|V?I{0,3}))\b(?!\.\w)"
            text = re.sub(pattern, self._king, text)
        return text

    def _king(self, match: re.Match[str]) -> str:
        number = from_roman(match[2])
        if not number:
            return match[0]
        return self.rules.king.format(name=match[1], ordinal=self._say(number, to="ordinal").capitalize())

    def _dates(self, text: str) -> str:
        if not self.rules.is_ordinal_day:
            if self.rules.language == "de":  # "am 3. Mai": the form after am, den, vom
                months = "|".join(self.rules.months)
                text = re.sub(
                    rf"\b(\d{{1,2}})\. (?=(?:{months})\b)", lambda m: f"{self._say(int(m[1]), to='ordinal')}n ", text
                )
            return text
        months = "|".join(self.rules.months)

        def iso(match: re.Match[str]) -> str:
            year, month, day = (int(match[i]) for i in (1, 2, 3))
            return f"{self.rules.months[month - 1]} {day}, {year}"

        text = re.sub(r"\b(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b", iso, text)
        day = r"(0?[1-9]|[12]\d|3[01])"
        text = re.sub(rf"\b({months}) {day}(?:st|nd|rd|th)?\b(?![\d:,]\d)",
                      lambda m: f"{m[1]} {self._say(int(m[2]), to='ordinal')}", text)  # fmt: skip
        return re.sub(rf"\b{day}(?:st|nd|rd|th)? ({months})\b",
                      lambda m: f"the {self._say(int(m[1]), to='ordinal')} of {m[2]}", text)  # fmt: skip

    def _times(self, text: str) -> str:
        if self.rules.language == "de":
            return re.sub(r"\b([01]?\d|2[0-3])[:.]([0-5]\d) Uhr\b",
                          lambda m: f"{self._say(int(m[1]))} Uhr" + (f" {self._say(int(m[2]))}" if int(m[2]) else ""),
                          text)  # fmt: skip
        if self.rules.language != "en":
            return text

        def say(match: re.Match[str]) -> str:
            hour, minute = int(match[1]), int(match[2])
            if not minute:
                return self._say(hour) + ("" if match[3] else " o'clock") + (match[3] or "")
            spoken = f"oh {self._say(minute)}" if minute < 10 else self._say(minute)
            return f"{self._say(hour)} {spoken}{match[3] or ''}"

        return re.sub(r"\b([01]?\d|2[0-3]):([0-5]\d)\b(?!:)( ?[ap] m\b)?", say, text)

    def _money(self, text: str) -> str:
        for sign, (one, several, small) in self.rules.currencies.items():

            def say(match: re.Match[str], one: str = one, several: str = several, small: str = small) -> str:
                whole, part, scale = self._parse(match[1]), match[2], match[3]
                if scale:
                    return f"{self._say_decimal(whole, part)} {scale} {several}"
                words = f"{self._say(whole)} {one if whole == 1 else several}"
                if not part or len(part) != 2 or not small:
                    return words if not part else f"{self._say_decimal(whole, part)} {several}"
                return f"{words} {self.rules.and_} {self._say(int(part))} {small}" if int(part) else words

            scales = r"(?: (million|billion|trillion)\b)?"
            text = re.sub(rf"{re.escape(sign)} ?({self._number}){self._decimal}{scales}", say, text)
        return text

    def _measures(self, text: str) -> str:
        share = rf"{NOT_IN_WORD}({self._number}){self._decimal} ?%"
        text = re.sub(share, lambda m: f"{self._say_decimal(self._parse(m[1]), m[2])} {self.rules.percent}", text)
        for unit in sorted(self.rules.units, key=len, reverse=True):
            one, several = self.rules.units[unit]

            def say(match: re.Match[str], one: str = one, several: str = several) -> str:
                whole = self._parse(match[1])
                return f"{self._say_decimal(whole, match[2])} {one if whole == 1 and not match[2] else several}"

            end = r"(?![\w/])" if unit[-1].isalpha() else ""
            text = re.sub(rf"{NOT_IN_WORD}({self._number}){self._decimal}[ \u00a0]?{re.escape(unit)}{end}", say, text)
        return text

    def _ordinals(self, text: str) -> str:
        if not self.rules.ordinal:
            return text
        return re.sub(rf"\b(\d{{1,6}}){self.rules.ordinal}\b", lambda m: self._say(int(m[1]), to="ordinal"), text)

    def _years(self, text: str) -> str:
        if not self.rules.has_years:
            return text
        if self.rules.language == "en":
            text = re.sub(r"\b(1[1-9]|20)(\d)0'?s\b", lambda m: plural(self._year(int(f"{m[1]}{m[2]}0"))), text)
            years = r"\b(1[1-9]\d\d|20\d\d)[-–](1[1-9]\d\d|20\d\d)\b"
            text = re.sub(years, lambda m: f"{self._year(int(m[1]))} {self.rules.to} {self._year(int(m[2]))}", text)
        pattern = (
            rf"{NOT_IN_WORD}(1[1-9]\d\d|20\d\d)(?![\d{re.escape(self.rules.thousands + self.rules.decimal)}]\d|\d)"
        )
        return re.sub(pattern, lambda m: self._year(int(m[1])), text)

    def _ranges(self, text: str) -> str:
        if not self.rules.to:
            return text
        return re.sub(r"(?<![\w-])(\d{1,6})[-–](\d{1,6})(?![\w-])", rf"\1 {self.rules.to} \2", text)

    def _numbers(self, text: str) -> str:
        if self.rules.language == "en":
            for sign, (alone, after) in FRACTIONS.items():
                text = re.sub(rf"(\d) ?{sign}", rf"\1 and {after}", text).replace(sign, alone)
        text = re.sub(rf"(?<!\w)[-−](?={self._number})", f"{self.rules.minus} ", text)
        return re.sub(rf"(?<![\w-])({self._number}){self._decimal}(?!\w)",
                      lambda m: self._say_decimal(self._parse(m[1]), m[2], m[1]), text)  # fmt: skip

    def _parse(self, text: str) -> int:
        return int(re.sub(r"\D", "", text))

    def _say_decimal(self, whole: int, part: str | None, written: str = "") -> str:
        if len(written) > MAX_DIGITS or (len(written) > 1 and written[0] == "0"):
            return " ".join(self._say(int(digit)) for digit in written)
        words = self._say(whole)
        if part:
            words += f" {self.rules.point} " + " ".join(self._say(int(digit)) for digit in part)
        return words

    def _year(self, number: int) -> str:
        return self._say(number, to="year")

    def _say(self, number: int, **options: Any) -> str:
        if number >= 10**MAX_DIGITS:
            return " ".join(converter()(int(digit), lang=self.rules.language) for digit in str(number))
        return converter()(number, lang=self.rules.language, **options).replace(",", "")


def from_roman(text: str) -> int:
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    numbers = [values[c] for c in text]
    return sum(-n if n < following else n for n, following in zip(numbers, [*numbers[1:], 0], strict=False))


def plural(words: str) -> str:
    """`nineteen twenty` -> `nineteen twenties`"""
    return words[:-1] + "ies" if words.endswith("y") else words + "s"
