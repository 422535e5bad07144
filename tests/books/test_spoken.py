"""Lexicons, controls and voices: what is spoken, by whom, and the pauses."""

from pathlib import Path

import pytest

from pipeline.books.book import BookSettings
from pipeline.books.controls import Run, split_controls
from pipeline.books.epub import read_epub
from pipeline.books.lexicon import Lexicon, parse_lexicon
from pipeline.books.open import read_book
from pipeline.books.rows import Sentence, sentences_of
from pipeline.books.voices import Voices, parse_voices
from pipeline.errors import ConfigError
from tests.books.make_epub import make_epub

LEXICON = b"""
- { word: Poe, say: Poh }
- { word: US, say: U S, case: true }
- { regex: "(\\\\d+) Bq", say: "\\\\1 becquerels", language: en }
- { word: Anna, say: Hanna, book: other }
- { word: Ben, say: Benn, series: Bread }
"""


def respell(text: str, book: str = "b", series: str = "", language: str = "en-GB") -> str:
    return parse_lexicon("l.yaml", LEXICON).of(book, series).respell(text, language)


def test_lexicon() -> None:
    assert respell("POE told us of Poems in the US.") == "Poh told us of Poems in the U S."
    assert respell("40 Bq") == "40 becquerels" and respell("40 Bq", language="de") == "40 Bq"
    assert respell("Anna and Ben") == "Anna and Ben"
    assert respell("Anna and Ben", "other", "Bread") == "Hanna and Benn"


@pytest.mark.parametrize(
    "content", [b"- {say: x}", b"- {word: a, regex: b, say: c}", b"- {regex: '(', say: c}", b"{", b"a: b",
                b"- {word: a, say: 2026-13-45}", b"- {word: a, say: b, sya: c}", b"- {regex: a, say: '\\1'}"],
)  # fmt: skip
def test_bad_lexicon(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"l\.yaml"):
        parse_lexicon("l.yaml", content)


def test_controls() -> None:
    text = "[pause: 2]He said: [voice: Anna] Hello [laughs] there. [pause:0.5] [Voice: ] Then ♪ he left ♪."
    assert split_controls(text) == (
        2.0,
        [Run("He said:", None), Run("Hello [laughs] there.", "Anna", 0.5), Run("Then ♪ he left ♪.", None)],
    )
    assert split_controls("[pause: long] and [pause: 99]") == (None, [Run("[pause: long] and [pause: 99]", None)])


def rows(folder: Path, text: str, lexicon: Lexicon | None = None, voices: Voices | None = None) -> list[Sentence]:
    (folder / "a.md").write_text(text)
    settings = BookSettings()
    return list(sentences_of(read_book(str(folder / "a.md"), settings), settings, lexicon, voices))


def test_voices_and_pauses_in_markdown(tmp_path: Path) -> None:
    voices = parse_voices("v.yaml", b"narrator: calm\nAnna: clear\nquote: deep\ntitle: loud\n")
    text = "# The Oven\n\nIt was very late. [voice: anna]Who is there now? [voice: x.npz]It is only me.\n\n[pause: 3]\n\n> To bake or not."
    found = rows(tmp_path, text, voices=voices)
    assert [(row.text, row.voice, row.pause_after_s) for row in found] == [
        ("The Oven", "loud", 1.2),
        ("It was very late.", None, 0.35),
        ("Who is there now?", "clear", 0.35),
        ("It is only me.", "x.npz", 3.0),
        ("To bake or not.", "deep", 2.5),
    ]
    assert voices.narrator == "calm"
    with pytest.raises(ConfigError, match=r"v\.yaml: must have lines"):
        parse_voices("v.yaml", b"[a, b]")
    with pytest.raises(ConfigError, match=r"v\.yaml: not valid YAML"):
        parse_voices("v.yaml", b"Anna: 2026-13-45")


def test_a_lexicon_changes_what_is_spoken_and_no_id(tmp_path: Path) -> None:
    text = "# The Oven\n\nMr Poe was very late. He came by train."
    before, after = rows(tmp_path, text), rows(tmp_path, text, parse_lexicon("l.yaml", LEXICON))
    assert [row.id for row in before] == [row.id for row in after]
    assert [(a.text, a.text_spoken) for a in after if a.text != a.text_spoken] == [
        ("Mr Poe was very late.", "Mr Poh was very late.")
    ]


def test_an_epubs_own_lexicon_and_speakers() -> None:
    pls = (
        '<lexicon xmlns="http://www.w3.org/2005/01/pronunciation-lexicon" xml:lang="en"><lexeme><grapheme>GIF</grapheme>'
        "<alias>jiff</alias></lexeme><lexeme><grapheme>Poe</grapheme><phoneme>pow</phoneme></lexeme></lexicon>"
    )
    content = make_epub(
        {"a.xhtml": '<p data-speaker="Anna">A GIF of Poe, please.</p><p>[voice: x] is no control here.</p>'},
        extra={"OPS/en.pls": pls}, items='<item id="p" href="en.pls" media-type="application/pls+xml"/>',
    )  # fmt: skip
    settings = BookSettings()
    book = read_epub("a.epub", "a", content, settings)
    found = list(sentences_of(book, settings, None, Voices({"anna": "clear"})))
    assert (found[0].text_spoken, found[0].voice) == ("A jiff of Poe, please.", "clear")
    assert (found[1].text_spoken, found[1].voice) == ("[voice: x] is no control here.", None)
    assert any("phonetic letters" in skip.why for skip in book.skipped)
