"""Makes examples/story.epub, the story that `make audiobook` speaks: `python -m scripts.make_story`."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

TITLE = "The Lamp in the Tower"
CHAPTERS = {
    "Chapter I. The Road": """
        <p>On May 3, 1921, Anna walked to the old tower.</p>
        <p>The road was long, and the rain fell cold. She had 12 apples and a small lamp.</p>""",
    "Chapter II. The Door": """
        <p data-speaker="Ben">"Who is there?" asked a voice behind the door.</p>
        <p data-speaker="Anna">"My name is Anna. I have walked for two days."</p>
        <p data-speaker="Ben">"Then come in," said the keeper, and he opened the door.</p>""",
    "Chapter III. The Lamp": """
        <p>The keeper was an old man named Ben.<a epub:type="noteref" href="#n1">1</a>
        His lamp had been dark for a week.</p>
        <p>"We need a <em>new</em> light before the night," he said.</p>
        <aside epub:type="footnote" id="n1"><p>He had kept the tower for 40 years.</p></aside>""",
    "Chapter IV. The Ship": """
        <p>Anna set her lamp high in the window. Far out on the water, a ship turned slowly to the shore.</p>
        <p>They ate the apples, and they waited for the morning.</p>""",
}
HEAD = (
    '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" xml:lang="en" lang="en">'
    "<head><title>{}</title></head><body>{}</body></html>"
)
CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def cover(size: int = 480) -> bytes:
    """A PNG: a lighted window in a tower at night."""
    rows = bytearray()
    for y in range(size):
        rows.append(0)
        for x in range(size):
            u, v = x / size, y / size
            in_tower = abs(u - 0.5) < 0.1 + 0.08 * v and v > 0.25
            if abs(u - 0.5) < 0.04 and 0.32 < v < 0.42:
                rows += bytes((250, 214, 120))
            elif in_tower:
                rows += bytes((70, 62, 74))
            else:
                rows += bytes((16, 24 + int(40 * v), 58 + int(60 * v)))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def story() -> bytes:
    """The EPUB 3; the same bytes each time."""
    names = {title: f"c{number}.xhtml" for number, title in enumerate(CHAPTERS, 1)}
    links = "".join(f'<li><a href="{name}">{title}</a></li>' for title, name in names.items())
    items = "".join(f'<item id="{n[:2]}" href="{n}" media-type="application/xhtml+xml"/>' for n in names.values())
    files: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "book.opf": (
            '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id"><metadata '
            'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="id">urn:barkery:story</dc:identifier>'
            f"<dc:title>{TITLE}</dc:title><dc:creator>The authors of Barkery</dc:creator><dc:language>en</dc:language>"
            '<meta property="dcterms:modified">2026-11-29T00:00:00Z</meta></metadata><manifest>'
            f'{items}<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
            '<item id="cover" href="cover.png" media-type="image/png" properties="cover-image"/></manifest><spine>'
            + "".join(f'<itemref idref="{name[:2]}"/>' for name in names.values())
            + "</spine></package>"
        ),
        "nav.xhtml": HEAD.format("Contents", f'<nav epub:type="toc"><ol>{links}</ol></nav>'),
        "cover.png": cover(),
        **{names[title]: HEAD.format(title, f"<h1>{title}</h1>{body}") for title, body in CHAPTERS.items()},
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data, kind)
    return content.getvalue()


if __name__ == "__main__":
    Path("examples/story.epub").write_bytes(story())
