"""Which storage errors are worth another attempt, and how long attempts go on.

One rule for everything that Barkery reads or writes: shards, manifests, and voices at a URL.
"""

import errno
import io
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec
import tenacity

from pipeline.errors import StorageError, one_line, redact
from pipeline.log import log

T = TypeVar("T")
GIVE_UP_AFTER_S = 90
FIRST_WAIT_S = 0.3  # at most, before the second attempt; the limit doubles with each further attempt
LOG_AT_ATTEMPT = 5  # after some seconds
# Modules in which storage clients define their errors; which of them is installed is the user's choice
CLIENTS = {"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "requests", "urllib3"}
PERMANENT_ERRNOS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
PERMANENT_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
PERMANENT_WORDS = ("Credential", "Token", "Profile", "Authentication")  # in the name of a client's error
# HTTP status codes below 500 that allow another attempt; from 500 all do
RETRYABLE_STATUS = {408, 425, 429}
NOT_FOUND_STATUS = {404, 410}


def is_storage_error(error: BaseException) -> bool:
    """True for errors of the operating system and of the known storage clients."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in CLIENTS


def http_status(error: BaseException) -> int | None:
    """The HTTP status code that a client's error carries: the clients use three different attributes."""
    codes = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    return next((code for code in codes if isinstance(code, int) and code), None)


def is_transient(error: BaseException) -> bool:
    """True where another attempt may succeed: busy or broken servers, time-outs, lost connections.

    Missing or forbidden objects, full disks, missing credentials and malformed names are permanent. A client's error
    without a status code counts as transient: s3fs and adlfs raise such errors for lost connections.
    """
    if not is_storage_error(error) or isinstance(error, (*PERMANENT_ERRORS, ValueError)):
        return False
    if isinstance(error, OSError) and error.errno in PERMANENT_ERRNOS:
        return False
    status = http_status(error)
    if status is not None and status >= 300:
        return status in RETRYABLE_STATUS or status >= 500
    return not any(word in type(error).__name__ for word in PERMANENT_WORDS)


def retry_transient(give_up_after_s: float, max_wait_s: float, max_attempts: int | None = None) -> tenacity.Retrying:
    """A tenacity policy: repeat transient errors after random, growing pauses, then raise the last error."""
    stop: Any = tenacity.stop_after_delay(give_up_after_s)
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=max_wait_s),
        stop=stop | tenacity.stop_after_attempt(max_attempts) if max_attempts else stop,
        reraise=True,
    )


def log_retry(name: str, state: tenacity.RetryCallState) -> None:
    """Warn once, at the fifth attempt: without it a minute and a half of retries would look like work."""
    if state.attempt_number == LOG_AT_ATTEMPT and state.outcome:
        error = one_line(state.outcome.exception() or OSError())
        log.warning(f"{redact(name)}: {error}; trying again for {GIVE_UP_AFTER_S} s")


def with_retries(name: str, action: Callable[[], T], expected_error: type[OSError] = FileNotFoundError) -> T:
    """Call `action` on the object `name`; retry transient errors, re-raise `expected_error` unchanged.

    Raises:
        expected_error: as `action` raised it, such as FileNotFoundError where absence is a normal result.
        StorageError: a permanent error, or transient ones for `GIVE_UP_AFTER_S`.
    """
    attempts = retry_transient(GIVE_UP_AFTER_S, max_wait_s=15)
    attempts.before_sleep = lambda state: log_retry(name, state)
    try:
        return attempts(action)
    except Exception as error:  # clients' errors have no common base; anything else is raised as it is
        if isinstance(error, expected_error) or not is_storage_error(error):
            raise
        count = attempts.statistics.get("attempt_number", 1)
        suffix = f" (tried {count} times)" if count > 1 else ""
        raise StorageError(f"{redact(name)}: {type(error).__name__}: {one_line(error)}{suffix}") from error


def list_with_retries(name: str, action: Callable[[], list[str]]) -> list[str]:
    """The paths that `action` returns, with retries; empty where it raises FileNotFoundError."""

    def attempt() -> list[str]:
        try:
            return action()
        except FileNotFoundError as error:  # over HTTP, fsspec raises it for any failure
            cause = error.__cause__
            if cause is None or not is_storage_error(cause) or http_status(cause) in NOT_FOUND_STATUS:
                raise
            raise cause from None

    try:
        return with_retries(name, attempt)
    except FileNotFoundError:
        return []


class RetryingFile(io.RawIOBase):
    """A file in a store, opened for reading: a read that fails with a transient error is repeated at its offset."""

    def __init__(self, name: str, file: Any):
        self._name, self._file = name, file

    def read(self, size: int = -1, /) -> bytes:
        offset = self._file.tell()

        def attempt() -> bytes:
            if self._file.tell() != offset:
                self._file.seek(offset)
            return bytes(self._file.read(size))

        return with_retries(self._name, attempt)

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
    """Open a file for reading in pieces; reads from a remote store are retried."""
    file = with_retries(path, lambda: fs.open(path, "rb"))
    return file if is_local(fs) else RetryingFile(path, file)


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    """True for the local file system; fsspec states its protocol as one name or a tuple of names."""
    return "file" in (p if isinstance(p := fs.protocol, tuple) else (p,))
