"""The EPUB reader: chapters by the table of contents, what is left out, and books that attack it."""

import io
import zipfile

import pytest

from pipeline.books.book import Book, BookSettings
from pipeline.books.epub import read_epub
from pipeline.errors import ConfigError
from tests.books.make_epub import HEAD, PNG, make_epub, page

TWO_IN_ONE = '<h1 id="one">One</h1><p>First text.</p><section id="two"><h1>Two</h1><p>Second text.</p></section>'


def read(content: bytes, **settings: object) -> Book:
    return read_epub("a.epub", "a", content, BookSettings.model_validate(settings))


def texts(book: Book) -> list[str]:
    return [block.text for chapter in book.chapters for block in chapter.blocks]


@pytest.mark.parametrize("version", [2, 3])
def test_chapters_follow_the_table_of_contents_not_the_files(version: int) -> None:
    documents = {"a.xhtml": TWO_IN_ONE, "b.xhtml": "<p>Still two.</p>", "c.xhtml": "<p>Third text.</p>"}
    toc = [("Chapter 1", "a.xhtml#one"), ("Chapter 2", "a.xhtml#two"), ("Chapter 3", "c.xhtml")]
    book = read(make_epub(documents, toc, version=version))
    assert [chapter.title for chapter in book.chapters] == ["Chapter 1", "Chapter 2", "Chapter 3"]
    assert [block.text for block in book.chapters[1].blocks] == ["Two", "Second text.", "Still two."]
    assert book.about.title == "The Book" and book.about.creators == ("A. Writer",) and book.about.cover == PNG


def test_text_before_the_first_entry_is_a_chapter() -> None:
    book = read(make_epub({"a.xhtml": "<p>For my mother.</p>", "b.xhtml": TWO_IN_ONE}, [("One", "b.xhtml")]))
    assert [chapter.title for chapter in book.chapters] == ["Front matter", "One"]


def test_without_table_of_contents_headings_begin_chapters() -> None:
    assert [chapter.title for chapter in read(make_epub({"a.xhtml": TWO_IN_ONE})).chapters] == ["One", "Two"]


def test_series_by_either_version() -> None:
    new = '<meta property="belongs-to-collection" id="c">Bread</meta><meta refines="#c" property="group-position">2</meta>'
    old = '<meta name="calibre:series" content="Bread"/><meta name="calibre:series_index" content="2"/>'
    for metadata in (new, old):
        about = read(make_epub({"a.xhtml": TWO_IN_ONE}, metadata=metadata)).about
        assert (about.series, about.series_number) == ("Bread", "2")


def test_what_is_no_speech_is_left_out_and_counted() -> None:
    body = """<p>Before<span epub:type="pagebreak" id="p7">7</span> and after.</p><table><tr><td>1</td></tr></table>
    <nav epub:type="landmarks"><p>Links</p></nav><p><ruby>汉<rp>(</rp><rt>han</rt><rp>)</rp></ruby> read once.</p>
    <script>var x = 1;</script><p hidden="hidden">Secret</p><p>Un&#173;broken &amp; &nbsp; kept.<img alt="A cat" src="x"/></p>
    <div epub:type="index"><p>Apples, 7</p></div><p>* * *</p>"""
    book = read(make_epub({"a.xhtml": body}))
    assert texts(book) == ["Before and after.", "汉 read once.", "Unbroken & kept."]
    found = {skip.what for skip in book.skipped}
    assert {"1 page number", "1 table", "2 navigation lists", "1 hidden element", "1 picture"} <= found
    assert "A cat" in texts(read(make_epub({"a.xhtml": body}), alt_text=True))


def test_a_chapter_may_begin_at_a_page_number() -> None:
    body = '<p>Before.</p><p><span epub:type="pagebreak" id="p7">7</span>After.</p>'
    book = read(make_epub({"a.xhtml": body}, [("A", "a.xhtml"), ("B", "a.xhtml#p7")]))
    assert [chapter.blocks[0].text for chapter in book.chapters] == ["Before.", "After."]


@pytest.mark.parametrize("marked", [True, False])
def test_footnotes(marked: bool) -> None:
    """Marked as the standard says, or only a number that leads to a paragraph that begins with it."""
    ref, aside = ('epub:type="noteref"', 'epub:type="footnote"') if marked else ("", "")
    body = f"""<p>Bread<sup><a {ref} href="#n1" id="r1">1</a></sup> rises.</p><p>More text.</p>
    <aside {aside} id="n1"><p><a href="#r1">1</a> By yeast.</p></aside>"""
    documents = {"a.xhtml": body}
    assert texts(read(make_epub(documents))) == ["Bread rises.", "More text."]
    assert texts(read(make_epub(documents), footnotes="inline")) == ["Bread rises.", "By yeast.", "More text."]
    assert texts(read(make_epub(documents), footnotes="end")) == ["Bread rises.", "More text.", "By yeast."]


def test_links_with_numbers_to_chapters_are_no_footnotes() -> None:
    body = '<p>See <a href="#c2">2</a>.</p><section id="c2"><h2>2 Dough</h2><p>Text.</p></section>'
    assert texts(read(make_epub({"a.xhtml": body}))) == ["See 2.", "2 Dough", "Text."]


def test_broken_xhtml_is_read_as_html() -> None:
    book = read(make_epub({"a.xhtml": f"{HEAD}<body><p>One <b>bold<p>Two caf\u00e9 &eacute;</body>"}))
    assert texts(book) == ["One bold", "Two café é"]
    assert any("broken" in skip.why for skip in book.skipped)


def test_missing_and_unusable_documents_are_named() -> None:
    content = make_epub(
        {"a.xhtml": "<p>Text.</p>", "gone.xhtml": "<p>x</p>"}, spine=["a.xhtml", "gone.xhtml", "nowhere", "pic"],
        extra={"OPS/gone.xhtml": b""},
    )  # fmt: skip
    reasons = {skip.what: skip.why for skip in read(content).skipped}
    assert reasons["OPS/gone.xhtml"] == "the file is missing"
    assert reasons["spine item 'nowhere'"] == "the package does not list it"
    assert reasons["OPS/cover.png"] == "image/png is no text"


def test_entities_are_not_expanded() -> None:
    bomb = '<!DOCTYPE html [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
    body = page("<p>Before &b;&f; after.</p>")
    assert texts(read(make_epub({"a.xhtml": bomb + body}))) == ["Before after."]


def test_paths_outside_the_book_are_skipped() -> None:
    content = make_epub({"../../../etc/passwd": page("<p>x</p>"), "a.xhtml": "<p>Text.</p>"})
    book = read(content)
    assert texts(book) == ["Text."] and "leads outside" in book.skipped[0].why


@pytest.mark.parametrize(
    ("method", "extra", "name"),
    [
        ("http://www.w3.org/2001/04/xmlenc#aes128-cbc", {"META-INF/rights.xml": "<rights/>"}, "Adobe ADEPT"),
        ("http://www.w3.org/2001/04/xmlenc#aes256-cbc", {"META-INF/license.lcpl": "{}"}, "Readium LCP"),
        ("http://itunes.apple.com/dataenc", {"META-INF/sinf.xml": "<sinf/>"}, "Apple FairPlay"),
    ],
)
def test_protected_books_are_refused_by_name(method: str, extra: dict[str, bytes | str], name: str) -> None:
    xml = f'<encryption xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:EncryptionMethod Algorithm="{method}"/></encryption>'
    content = make_epub({"a.xhtml": TWO_IN_ONE}, extra={"META-INF/encryption.xml": xml, **extra})
    with pytest.raises(ConfigError, match=rf"a\.epub: is encrypted \(DRM: {name}\)"):
        read(content)


def test_obfuscated_fonts_are_no_protection() -> None:
    xml = '<encryption><EncryptionMethod Algorithm="http://www.idpf.org/2008/embedding"/></encryption>'
    assert read(make_epub({"a.xhtml": TWO_IN_ONE}, extra={"META-INF/encryption.xml": xml})).chapters


def test_zip_bombs_are_refused() -> None:
    with pytest.raises(ConfigError, match="ZIP bomb"):
        read(make_epub({"a.xhtml": "<p>" + "x" * 50_000_000 + "</p>"}))


def changed(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) > 0
    return content.replace(old, new)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no EPUB"),
        (b"PK\x03\x04 cut off", "is no EPUB"),
        (make_epub({"a.xhtml": TWO_IN_ONE})[:-40], "is no EPUB"),
        (changed(make_epub({"a.xhtml": TWO_IN_ONE}), b"META-INF/container.xml", b"META-INF/containes.xml"), "is missing"),
        (make_epub({"a.xhtml": TWO_IN_ONE}, extra={"OPS/book.opf": "<package>"}), "not well-formed XML"),
        (make_epub({"a.xhtml": TWO_IN_ONE}, extra={"META-INF/container.xml": "<container/>"}), "names no package"),
        (make_epub({"a.xhtml": "<p> </p>"}), "has no text"),
        (make_epub({"a.xhtml": "<p>x</p>"}, spine=[]), "has no text"),
    ],
)  # fmt: skip
def test_unusable_books_are_refused_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("a.epub: ")


def test_damaged_bytes_never_raise_anything_else() -> None:
    """Every 37th byte of the archive changed, one at a time."""
    content = make_epub({"a.xhtml": TWO_IN_ONE, "b.xhtml": "<p>Text.</p>"}, [("A", "a.xhtml#one")])
    for at in range(0, len(content), 37):
        broken = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
        try:
            read(broken)
        except ConfigError as error:
            assert "\n" not in str(error)


def test_wrong_size_in_the_directory_does_not_unpack_more() -> None:
    """The check of sizes does not rely on what the archive says of them."""
    buffer = io.BytesIO(make_epub({"a.xhtml": TWO_IN_ONE}))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("OPS/big.xhtml", b"x" * 3_000_000)
    info = zipfile.ZipFile(buffer).getinfo("OPS/big.xhtml")
    size = info.file_size.to_bytes(4, "little")
    broken = buffer.getvalue().replace(size, (9).to_bytes(4, "little"))
    assert texts(read(broken)) == ["One", "First text.", "Two", "Second text."]
