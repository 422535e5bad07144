"""Opens an EPUB's ZIP file with limits: what it unpacks to, how far it may expand, and no path outside of it."""

import io
import posixpath
import zipfile
import zlib
from urllib.parse import unquote, urlsplit

from pipeline.errors import ConfigError, one_line

MAX_ENTRIES = 20_000
MAX_ENTRY_BYTES = 64 << 20
MAX_TOTAL_BYTES = 2 << 30
MAX_EXPANSION = 200  # unpacked to packed size, of entries above SMALL_BYTES; a text reaches about 10
SMALL_BYTES = 4 << 20


class Archive:
    """The files of one EPUB, read one at a time and never unpacked to a disk."""

    def __init__(self, name: str, content: bytes):
        """Check the directory of the ZIP file.

        Args:
            name: of the book, for messages.

        Raises:
            ConfigError: it is no ZIP file, or would unpack to too much.
        """
        self.name = name
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}: is no EPUB: {one_line(error)}") from error
        entries = self._zip.infolist()
        if len(entries) > MAX_ENTRIES:
            raise ConfigError(f"{name}: has {len(entries):,} files, more than {MAX_ENTRIES:,}: refused")
        if (total := sum(entry.file_size for entry in entries)) > MAX_TOTAL_BYTES:
            raise ConfigError(f"{name}: would unpack to {total:,} bytes, more than {MAX_TOTAL_BYTES:,}: refused")
        for entry in entries:
            if entry.file_size > max(SMALL_BYTES, MAX_EXPANSION * entry.compress_size):
                raise ConfigError(
                    f"{name}: {entry.filename!r} would expand {entry.compress_size:,} bytes to {entry.file_size:,}, "
                    "as a ZIP bomb does: refused"
                )
        self._entries = {entry.filename: entry for entry in entries}

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def read(self, path: str) -> bytes:
        """The content of one file.

        Raises:
            FileNotFoundError: the archive has no such file.
            ConfigError: it is too large, damaged or encrypted.
        """
        entry = self._entries.get(path)
        if entry is None:
            raise FileNotFoundError(path)
        try:
            with self._zip.open(entry) as file:
                content = file.read(MAX_ENTRY_BYTES + 1)  # the sizes in the directory may be wrong
        except RuntimeError as error:  # zipfile's error for a password
            raise ConfigError(f"{self.name}: {path!r} is encrypted: refused") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise ConfigError(f"{self.name}: {path!r} is damaged: {one_line(error)}") from error
        if len(content) > MAX_ENTRY_BYTES:
            raise ConfigError(f"{self.name}: {path!r} is larger than {MAX_ENTRY_BYTES:,} bytes: refused")
        return content


def resolve(base: str, href: str) -> tuple[str, str]:
    """The path in the archive and the fragment that `href` means in the file `base`; the path is empty if it leads
    outside the archive."""
    try:
        parts = urlsplit(href.strip())
    except ValueError:
        return "", ""
    if parts.scheme or parts.netloc:
        return "", ""
    fragment = unquote(parts.fragment)
    if not parts.path:
        return base, fragment
    path = posixpath.normpath(posixpath.join(posixpath.dirname(base), unquote(parts.path)))
    return ("", "") if path.startswith(("..", "/")) or "\\" in path or "\0" in path else (path, fragment)
