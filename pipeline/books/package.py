"""Reads an EPUB's package document: metadata, the list of files, and the reading order."""

from dataclasses import dataclass, field
from typing import Any

from pipeline.books.archive import Archive, resolve
from pipeline.books.book import About
from pipeline.books.markup import all_text, elements, parse_xml, tag
from pipeline.errors import ConfigError

CONTAINER = "META-INF/container.xml"
FONT_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")  # no protection of text
PROTECTIONS = {
    "META-INF/license.lcpl": "Readium LCP",
    "META-INF/sinf.xml": "Apple FairPlay",
    "META-INF/rights.xml": "Adobe ADEPT",
}


@dataclass(frozen=True)
class Item:
    path: str  # in the archive; empty if it leads outside
    media_type: str
    properties: frozenset[str]
    href: str  # as the package says


@dataclass(frozen=True)
class Package:
    path: str
    about: About
    items: dict[str, Item] = field(default_factory=dict)  # by id
    spine: tuple[tuple[str, bool], ...] = ()  # id of the item, and whether it is in the main order (`linear`)
    ncx: str | None = None  # path

    def with_property(self, name: str) -> Item | None:
        return next((item for item in self.items.values() if name in item.properties), None)


def refuse_protected(archive: Archive) -> None:
    """Raise ConfigError, naming the protection, for a book whose text is encrypted."""
    if "META-INF/encryption.xml" not in archive and "META-INF/license.lcpl" not in archive:
        return
    found = "unknown"
    if "META-INF/encryption.xml" in archive:
        root = parse_xml(f"{archive.name}: META-INF/encryption.xml", archive.read("META-INF/encryption.xml"))
        methods = [e.get("Algorithm") or "" for e in elements(root, "encryptionmethod")]
        if all(method in FONT_OBFUSCATION for method in methods) and "META-INF/license.lcpl" not in archive:
            return
        found = next((m for m in methods if m not in FONT_OBFUSCATION), "") or found
    name = next((name for path, name in PROTECTIONS.items() if path in archive), found)
    raise ConfigError(f"{archive.name}: is encrypted (DRM: {name}), so it can't be read: refused")


def read_package(archive: Archive) -> Package:
    """The package document that the container names.

    Raises:
        ConfigError: it is missing or can't be read.
    """
    container = read_named(archive, CONTAINER)
    paths = [e.get("full-path") or "" for e in elements(container, "rootfile")]
    path = next((p for p in paths if resolve("", p)[0]), None)
    if path is None:
        raise ConfigError(f"{archive.name}: {CONTAINER} names no package document")
    root = read_named(archive, path)
    items = {}
    for e in elements(root, "item"):
        href = e.get("href") or ""
        words = frozenset((e.get("properties") or "").split())
        items[e.get("id") or href] = Item(resolve(path, href)[0], (e.get("media-type") or "").lower(), words, href)
    spines = elements(root, "spine")
    refs = [e for spine in spines for e in elements(spine, "itemref")]
    spine = tuple((e.get("idref") or "", e.get("linear") != "no") for e in refs)
    ncx = next((items[s.get("toc")].path for s in spines if s.get("toc") in items), None) or next(
        (item.path for item in items.values() if item.media_type == "application/x-dtbncx+xml"), None
    )
    return Package(path, read_about(archive, root, items), items, spine, ncx)


def read_named(archive: Archive, path: str) -> Any:
    try:
        return parse_xml(f"{archive.name}: {path}", archive.read(path))
    except FileNotFoundError as error:
        raise ConfigError(f"{archive.name}: is no EPUB: {path} is missing") from error


def read_about(archive: Archive, root: Any, items: dict[str, Item]) -> About:
    """What the metadata says of the book; with a cover of at most the size that an archive allows."""
    metadata = next(iter(elements(root, "metadata")), root)
    texts: dict[str, list[tuple[str, str]]] = {}  # Dublin Core name -> (id, text)
    for e in metadata.iter("*"):
        if "purl.org/dc/elements" in str(e.tag) and (text := all_text(e)):
            texts.setdefault(tag(e), []).append((e.get("id") or "", text))
    metas = elements(metadata, "meta")
    refined = {(m.get("refines") or "", m.get("property") or ""): all_text(m) for m in metas if m.get("refines")}
    old = {m.get("name"): m.get("content") or "" for m in metas if m.get("name")}

    def kinds_of(property_name: str, wanted: str) -> list[str]:
        return [text for key, text in texts.get("title", []) if refined.get((f"#{key}", property_name)) == wanted]

    titles = [text for _, text in texts.get("title", [])]
    main = (kinds_of("title-type", "main") or titles[:1] or [""])[0]
    collection = next((m for m in metas if m.get("property") == "belongs-to-collection"), None)
    series = all_text(collection) if collection is not None else old.get("calibre:series", "")
    key = f"#{collection.get('id')}" if collection is not None else ""
    return About(
        title=main,
        creators=tuple(text for _, text in texts.get("creator", [])),
        language=first(texts, "language"),
        publisher=first(texts, "publisher"),
        date=first(texts, "date"),
        series=series or (kinds_of("title-type", "collection") or [""])[0],
        series_number=refined.get((key, "group-position"), "") or old.get("calibre:series_index", ""),
        cover=read_cover(archive, items, old.get("cover", "")),
    )


def first(texts: dict[str, list[tuple[str, str]]], name: str) -> str:
    return texts[name][0][1] if name in texts else ""


def read_cover(archive: Archive, items: dict[str, Item], old_id: str) -> bytes:
    """The cover as JPEG or PNG; empty if there is none. EPUB 3 marks it by a property, EPUB 2 by a `meta` element."""
    marked = [item for item in items.values() if "cover-image" in item.properties]
    for item in [*marked, *([items[old_id]] if old_id in items else [])]:
        if item.path in archive:
            content = archive.read(item.path)
            if content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
                return content
    return b""
