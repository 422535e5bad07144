"""Makes small EPUBs for tests."""

import io
import struct
import zipfile
import zlib
from html import escape

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def png(size: int = 16) -> bytes:
    """A gray square."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * size) * size
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PNG = png()
HEAD = (
    '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><head><title>x</title></head>'
)


def page(body: str) -> str:
    return f"{HEAD}<body>{body}</body></html>"


def make_epub(
    documents: dict[str, str],
    toc: list[tuple[str, str]] = (),  # type: ignore[assignment]
    *,
    version: int = 3,
    language: str = "en",
    extra: dict[str, bytes | str] | None = None,
    spine: list[str] | None = None,
    metadata: str = "",
    items: str = "",
) -> bytes:
    """An EPUB with these documents (name -> body, or a whole page) and a table of contents (title, href)."""
    listed = [f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in documents]
    listed.append('<item id="pic" href="cover.png" media-type="image/png" properties="cover-image"/>')
    if version == 3:
        listed.append('<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>')
    else:
        listed.append('<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>')
    refs = "".join(f'<itemref idref="{name}"/>' for name in (documents if spine is None else spine))
    opf = (
        f'<package xmlns="http://www.idpf.org/2007/opf" version="{version}.0"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The Book</dc:title><dc:creator>A. Writer</dc:creator>'
        f'<dc:language>{language}</dc:language>{metadata}<meta name="cover" content="pic"/></metadata>'
        f"<manifest>{''.join(listed)}{items}</manifest><spine{' toc=' + chr(34) + 'ncx' + chr(34) if version == 2 else ''}>{refs}"
        "</spine></package>"
    )
    files: dict[str, bytes | str] = {"META-INF/container.xml": CONTAINER, "OPS/book.opf": opf, "OPS/cover.png": PNG}
    links = [f'<li><a href="{href}">{escape(title)}</a></li>' for title, href in toc]
    points = [
        f'<navPoint><navLabel><text>{escape(title)}</text></navLabel><content src="{href}"/></navPoint>'
        for title, href in toc
    ]
    files["OPS/nav.xhtml"] = page(f'<nav epub:type="toc"><ol>{"".join(links)}</ol></nav>')
    files["OPS/toc.ncx"] = f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{"".join(points)}</navMap></ncx>'
    for name, body in documents.items():
        files[f"OPS/{name}"] = body if body.lstrip().startswith("<") and "<html" in body else page(body)
    files |= extra or {}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("mimetype"), "application/epub+zip")
        for name, data in files.items():
            if data != b"":  # empty: left out
                archive.writestr(name, data)
    return content.getvalue()
