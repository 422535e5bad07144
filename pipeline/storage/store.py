"""Objects in one folder, local or in any store that fsspec knows: an object appears complete or not at all.

Every operation can be repeated safely, and transient errors are retried (`storage/retries.py`): a `put` writes the same
bytes, and `create` reports whether the object was there already.
"""

import errno
import os
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from pipeline.errors import ConfigError, one_line, redact
from pipeline.storage.retries import is_local, with_retries

T = TypeVar("T")
UPLOADS = 16  # at once, of small objects


@dataclass(frozen=True)
class Store:
    """A folder by URL. Object names are relative to it and are built from numbers, never from user data."""

    url: str = field(repr=False)  # may hold a password
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def _location(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            fs, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
        except Exception as error:  # each file system raises errors of its own
            raise ConfigError(f"output {redact(self.url)}: can't be opened: {one_line(error)}") from error
        return fs, path.rstrip("/")

    @property
    def is_local(self) -> bool:
        return is_local(self._location[0])

    def path(self, name: str) -> str:
        return f"{self._location[1]}/{name}"

    def put(self, name: str, content: bytes) -> None:
        """Write or replace one object: one PUT, or a temporary file that is renamed.

        Never `open(..., "wb")`: an exception inside its block would publish a truncated object.

        Raises:
            StorageError: it can't be written.
        """
        path = self.path(name)
        if self.is_local:
            with_retries(path, lambda: os.replace(self._temporary(name, content), path))
        else:
            with_retries(path, lambda: self._location[0].pipe_file(path, content))

    def put_many(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Write or replace many small objects. They are all stored when this returns, in any order before.

        Raises:
            StorageError: one can't be written.
        """
        if not self.is_local:  # nearly all of the time is waiting for the store
            with ThreadPoolExecutor(UPLOADS) as pool:
                waiting: deque[Future[None]] = deque()
                for name, content in objects:
                    waiting.append(pool.submit(self.put, name, content))
                    if len(waiting) > 2 * UPLOADS:
                        waiting.popleft().result()
                for each in waiting:
                    each.result()
            return
        for name, content in objects:
            path = self.path(name)
            with_retries(path, lambda: os.replace(self._temporary(name, content, sync=False), path))  # noqa: B023
        os.sync()  # once: to sync each file takes ten times as long

    @contextmanager
    def local_file(self, name: str) -> Iterator[Path]:
        """A path on this machine to write a large object to; it appears as `name` when the block ends without an error.

        Raises:
            StorageError: it can't be written.
        """
        target = self.path(name)
        folder = self._folder_of(target) if self.is_local else None
        descriptor, path = with_retries(target, lambda: tempfile.mkstemp(prefix=f".{Path(name).name}.", dir=folder))
        try:
            yield Path(path)
            os.fsync(descriptor)
            if self.is_local:
                Path(path).chmod(0o666 & ~current_umask())
                with_retries(target, lambda: os.replace(path, target))
            else:
                with_retries(target, lambda: self._location[0].put_file(path, target))
        finally:
            os.close(descriptor)
            Path(path).unlink(missing_ok=True)

    def create(self, name: str, content: bytes) -> bool:
        """Write one object if no object has that name; return False if one has.

        If the store's response to a successful write is lost, the retry returns False for an object that this call
        created: compare the content where that matters.
        """
        make = self._link if self.is_local else self._put_if_absent
        try:
            with_retries(self.path(name), lambda: make(name, content), FileExistsError)
        except FileExistsError:
            return False
        return True

    def get(self, name: str) -> bytes:
        """The content of one object; raises FileNotFoundError if there is none."""
        return with_retries(self.path(name), lambda: self._location[0].cat_file(self.path(name)))

    def exists(self, name: str) -> bool:
        return with_retries(self.path(name), lambda: bool(self._location[0].exists(self.path(name))))

    def names(self, folder: str) -> list[str]:
        """Names of the objects in one folder, sorted, without the folder; empty if the folder does not exist."""
        self._location[0].invalidate_cache()
        try:
            found = with_retries(self.path(folder), lambda: self._location[0].ls(self.path(folder), detail=False))
        except FileNotFoundError:
            return []
        return sorted(n for n in (p.rstrip("/").rsplit("/", 1)[-1] for p in found) if not n.startswith("."))

    def times(self, folder: str) -> dict[str, datetime]:
        """When each object of a folder was last written, in UTC; those whose store does not say are left out."""
        self._location[0].invalidate_cache()
        try:
            found = with_retries(self.path(folder), lambda: self._location[0].ls(self.path(folder), detail=True))
        except FileNotFoundError:
            return {}
        times = ((info["name"].rstrip("/").rsplit("/", 1)[-1], written_at(info)) for info in found)
        return {name: time for name, time in times if time and not name.startswith(".")}

    def read(self, name: str, reader: Callable[[Any], T]) -> T:
        """The result of `reader(file)` on one object, opened as a seekable file."""

        def attempt() -> T:
            with self._location[0].open(self.path(name), "rb") as file:
                return reader(file)

        return with_retries(self.path(name), attempt)

    def remove(self, name: str) -> None:
        """Delete one object; an object that does not exist is no error."""
        try:
            with_retries(self.path(name), lambda: self._location[0].rm_file(self.path(name)))
        except FileNotFoundError:
            pass

    def check_writable(self, name: str = "_plan/.writable") -> None:
        """Write and delete a test object; raises ConfigError if that fails."""
        try:
            self.put(name, b"")
            self.remove(name)
        except ConfigError as error:
            raise ConfigError(f"output {redact(self.url)}: can't be written: {error}") from error
        except Exception as error:  # read-only file systems raise errors of their own
            raise ConfigError(f"output {redact(self.url)}: can't be written: {one_line(error)}") from error

    def _put_if_absent(self, name: str, content: bytes) -> None:
        self._location[0].pipe_file(self.path(name), content, mode="create")

    def _link(self, name: str, content: bytes) -> None:
        """Create a local file by a hard link: the one local operation that fails where a file exists."""
        temporary = self._temporary(name, content)
        try:
            os.link(temporary, self.path(name))
        finally:
            os.unlink(temporary)

    def _folder_of(self, path: str) -> Path:
        """The local folder of an object, which is made if it is missing."""
        folder = Path(path).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # `create` would report it as an existing object
            raise NotADirectoryError(errno.ENOTDIR, "is a file, must be a folder", str(folder)) from error
        return folder

    def _temporary(self, name: str, content: bytes, sync: bool = True) -> str:
        """Write a complete file beside the target, under a hidden name that no reader lists."""
        target = Path(self.path(name))
        self._folder_of(str(target))
        temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)  # a full disk must not fill up with incomplete files
            raise
        return str(temporary)


def absolute_url(url: str) -> str:
    """A local path as an absolute one, since the workers' current directory may be another; URLs stay as they are."""
    return url if "://" in url else str(Path(url).expanduser().resolve())


def written_at(info: dict[str, Any]) -> datetime | None:
    """The time in an fsspec listing; each file system has a key and a type of its own for it."""
    keys = ("mtime", "LastModified", "last_modified", "updated", "created")
    value = next((info[key] for key in keys if info.get(key)), None)
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def current_umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
