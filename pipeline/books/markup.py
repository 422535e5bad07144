"""Parses XML, XHTML and HTML without loading anything else, without entity expansion, and never with a traceback."""

import html.entities
import re
from typing import Any

from pipeline.errors import ConfigError, one_line

OPS = "{http://www.idpf.org/2007/ops}"
XML_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
MAX_MARKUP_BYTES = 32 << 20  # of one document
NAMED_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]*);")
XML_ENTITIES = {b"amp", b"lt", b"gt", b"quot", b"apos"}


def lxml_etree() -> Any:
    """The module lxml.etree; raises ConfigError if it is not installed."""
    try:
        from lxml import etree
    except ImportError as error:
        raise ConfigError("books need lxml: pip install 'barkery[audiobook]'") from error
    return etree


def parse_xml(name: str, content: bytes) -> Any:
    """The root element; raises ConfigError for what is not well-formed."""
    etree = lxml_etree()
    if len(content) > MAX_MARKUP_BYTES:
        raise ConfigError(f"{name}: is larger than {MAX_MARKUP_BYTES:,} bytes: refused")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(NAMED_ENTITY.sub(to_number, content), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ConfigError(f"{name}: not well-formed XML: {one_line(error)}") from error


def to_number(entity: re.Match[bytes]) -> bytes:
    """`&nbsp;` as `&#160;`: XHTML may use HTML's names, which are defined in a file that is not loaded."""
    characters = html.entities.html5.get(entity[1].decode() + ";")
    if entity[1] in XML_ENTITIES or characters is None:
        return entity[0]
    return "".join(f"&#{ord(c)};" for c in characters).encode()


def parse_html(name: str, content: bytes) -> Any:
    """The root element of HTML, however broken; raises ConfigError if there is nothing in it."""
    etree = lxml_etree()
    if len(content) > MAX_MARKUP_BYTES:
        raise ConfigError(f"{name}: is larger than {MAX_MARKUP_BYTES:,} bytes: refused")
    try:
        content.decode("utf-8")
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = None  # as the document says, else Latin-1
    parser = etree.HTMLParser(no_network=True, huge_tree=False, encoding=encoding, remove_comments=True)
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ConfigError(f"{name}: has no text: {one_line(error)}") from error
    if root is None:
        raise ConfigError(f"{name}: has no text")
    return root


def tag(element: Any) -> str:
    """The element's name without namespace, in lower case; empty for comments and entities."""
    name = element.tag
    return name.rpartition("}")[2].rpartition(":")[2].lower() if isinstance(name, str) else ""


def types(element: Any) -> set[str]:
    """The words of `epub:type` and `role`, without the prefix `doc-`."""
    words = f"{element.get(OPS + 'type') or element.get('epub:type') or ''} {element.get('role') or ''}"
    return {word.removeprefix("doc-") for word in words.lower().split()}


def elements(root: Any, name: str) -> list[Any]:
    """All elements of this name below `root`, and `root` itself, in document order."""
    return [element for element in root.iter() if tag(element) == name]


def all_text(element: Any) -> str:
    """The text in an element, with white space as single spaces."""
    return " ".join("".join(element.itertext("*")).split())
