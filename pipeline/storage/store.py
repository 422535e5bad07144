"""Objects in one folder, local or in any store that fsspec knows: a whole object appears, or none.

What may pass (throttling, time-outs, lost connections) is tried again for a minute and a half, with growing pauses.
Every operation can be repeated: a PUT writes the same bytes, and who creates finds out whether he was the first.
"""

import errno
import io
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import tenacity

from pipeline.errors import ConfigError, StorageError, one_line, redact
from pipeline.log import log

T = TypeVar("T")
GIVE_UP_AFTER_S = 90
LOG_AT_ATTEMPT = 5  # tries: some seconds
# Where storage clients define their errors; which of them is installed is the user's choice
CLIENTS = {"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "requests", "urllib3"}
PERMANENT_ERRNOS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
}
PERMANENT_ERRNOS |= {errno.EROFS, errno.EFBIG, errno.EEXIST, errno.ENOENT}
RETRYABLE_STATUS, NOT_FOUND_STATUS = {408, 425, 429}, {404, 410}  # of HTTP's answers


def is_storage_error(error: BaseException) -> bool:
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in CLIENTS


def is_transient(error: BaseException) -> bool:
    """Worth another try. What a client says without a number is (s3fs, adlfs); missing credentials are not."""
    if not is_storage_error(error) or isinstance(error, (FileNotFoundError, FileExistsError, PermissionError)):
        return False
    if isinstance(error, OSError) and error.errno in PERMANENT_ERRNOS:
        return False
    if isinstance(status := getattr(error, "status", None), int) and 400 <= status < 500:  # over HTTP
        return status in RETRYABLE_STATUS
    return not any(word in type(error).__name__ for word in ("Credential", "Token", "Profile", "Authentication"))


def log_retry(name: str, state: tenacity.RetryCallState) -> None:
    """Warn once, at the fifth attempt: without it a minute and a half of retries would look like work."""
    if state.attempt_number == LOG_AT_ATTEMPT and state.outcome:
        error = one_line(state.outcome.exception() or OSError())
        log.warning(f"{redact(name)}: {error}; trying again for {GIVE_UP_AFTER_S} s")


def with_retries(name: str, action: Callable[[], T], expected_error: type[OSError] = FileNotFoundError) -> T:
    """`action` on the object of that name, as often as it is worth it.

    Raises:
        answer: as the action raised it; for this object it is no failure.
        StorageError: it can't be done, or not for `GIVE_UP_AFTER_S`.
    """
    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_random_exponential(multiplier=0.3, max=15),
        stop=tenacity.stop_after_delay(GIVE_UP_AFTER_S),
        before_sleep=lambda state: log_retry(name, state),
        reraise=True,
    )
    try:
        return tries(action)
    except Exception as error:  # clients' own errors have no common base; what is not theirs goes on as it is
        if isinstance(error, expected_error) or not is_storage_error(error):
            raise
        count = tries.statistics.get("attempt_number", 1)
        often = f" (tried {count} times)" if count > 1 else ""
        raise StorageError(f"{redact(name)}: {type(error).__name__}: {one_line(error)}{often}") from error


def listing(name: str, action: Callable[[], list[str]]) -> list[str]:
    """The paths that `action` finds, patiently; none where there is nothing."""

    def once() -> list[str]:
        try:
            return action()
        except FileNotFoundError as error:  # fsspec's word over HTTP for any failure
            cause = error.__cause__
            if cause is None or not is_storage_error(cause) or getattr(cause, "status", None) in NOT_FOUND_STATUS:
                raise
            raise cause from None

    try:
        return with_retries(name, once)
    except FileNotFoundError:
        return []


class RetryingFile(io.RawIOBase):
    """A file in a store, for reading: a read that fails in passing is made again from the same place."""

    def __init__(self, name: str, file: Any):
        self._name, self._file = name, file

    def read(self, size: int = -1, /) -> bytes:
        place = self._file.tell()

        def once() -> bytes:
            if self._file.tell() != place:
                self._file.seek(place)
            return bytes(self._file.read(size))

        return with_retries(self._name, once)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def open_with_retries(fs: fsspec.AbstractFileSystem, path: str) -> Any:
    """A file for reading, by one who reads it in pieces."""
    file = with_retries(path, lambda: fs.open(path, "rb"))
    return file if is_local(fs) else RetryingFile(path, file)


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    return "file" in (p if isinstance(p := fs.protocol, tuple) else (p,))


@dataclass(frozen=True)
class Store:
    """A folder by URL. Names are relative, made by us from numbers, never from data."""

    url: str = field(repr=False)  # may hold a password
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def _place(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            fs, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
        except Exception as error:  # each file system has its own way to refuse
            raise ConfigError(f"output {redact(self.url)}: can't be opened: {one_line(error)}") from error
        return fs, path.rstrip("/")

    @property
    def is_local(self) -> bool:
        return is_local(self._place[0])

    def path(self, name: str) -> str:
        return f"{self._place[1]}/{name}"

    def put(self, name: str, content: bytes) -> None:
        """Write or replace one object: one PUT, or a temporary file renamed. Never `open(..., "wb")`: an exception
        inside it would publish the truncated object."""
        path = self.path(name)
        if self.is_local:
            with_retries(path, lambda: os.replace(self._temporary(name, content), path))
        else:
            with_retries(path, lambda: self._place[0].pipe_file(path, content))

    def create(self, name: str, content: bytes) -> bool:
        """Write one object if there is none of that name; False if there is. After a lost answer, False may be said of
        an object that this call made: compare its content where that matters."""
        make = self._link if self.is_local else self._put_if_absent
        try:
            with_retries(self.path(name), lambda: make(name, content), FileExistsError)
        except FileExistsError:
            return False
        return True

    def get(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        return with_retries(self.path(name), lambda: self._place[0].cat_file(self.path(name)))

    def exists(self, name: str) -> bool:
        return with_retries(self.path(name), lambda: bool(self._place[0].exists(self.path(name))))

    def names(self, folder: str) -> list[str]:
        """Names in one folder, sorted, without the folder; empty where there is none."""
        self._place[0].invalidate_cache()
        try:
            found = with_retries(self.path(folder), lambda: self._place[0].ls(self.path(folder), detail=False))
        except FileNotFoundError:
            return []
        return sorted(n for n in (p.rstrip("/").rsplit("/", 1)[-1] for p in found) if not n.startswith("."))

    def read(self, name: str, how: Callable[[Any], T]) -> T:
        """What `how` reads from a seekable file."""

        def once() -> T:
            with self._place[0].open(self.path(name), "rb") as file:
                return how(file)

        return with_retries(self.path(name), once)

    def remove(self, name: str) -> None:
        """Gone, or was not there."""
        try:
            with_retries(self.path(name), lambda: self._place[0].rm_file(self.path(name)))
        except FileNotFoundError:
            pass

    def check_writable(self) -> None:
        """Raises ConfigError before anything starts."""
        try:
            self.put("_plan/.writable", b"")
            self.remove("_plan/.writable")
        except ConfigError as error:
            raise ConfigError(f"output {redact(self.url)}: can't be written: {error}") from error
        except Exception as error:  # one that can only read says so in a way of its own
            raise ConfigError(f"output {redact(self.url)}: can't be written: {one_line(error)}") from error

    def _put_if_absent(self, name: str, content: bytes) -> None:
        self._place[0].pipe_file(self.path(name), content, mode="create")

    def _link(self, name: str, content: bytes) -> None:
        """A hard link is the one local operation that fails where there is a file already."""
        temporary = self._temporary(name, content)
        try:
            os.link(temporary, self.path(name))
        finally:
            os.unlink(temporary)

    def _temporary(self, name: str, content: bytes) -> str:
        """A complete, synced file beside the target, under a hidden name that no reader lists."""
        target = Path(self.path(name))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # not to be taken for an answer of `create`
            raise NotADirectoryError(errno.ENOTDIR, "is a file, must be a folder", str(target.parent)) from error
        temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)  # a full disk must not fill up with halves
            raise
        return str(temporary)
