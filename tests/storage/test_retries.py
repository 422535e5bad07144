"""Transient storage errors are retried, permanent ones are raised at once, for objects and for voices alike."""

import errno
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StorageError
from pipeline.storage import retries
from pipeline.storage import store as storage
from pipeline.storage.store import Store


class SlowDown(Exception):
    """An error as botocore raises it where it has no class of its own."""

    __module__ = "botocore.exceptions"


class NoCredentialsError(SlowDown):
    __module__ = "botocore.exceptions"


def http_error(module: str, attribute: str, status: int) -> Exception:
    """An HTTP error of the client `module`, which keeps its status code in `attribute`."""
    kind = type("HttpError", (Exception,), {"__module__": module})
    error = kind(f"HTTP {status}")
    setattr(error, attribute, status)
    return error


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function of errors: an in-memory store whose first reads raise them."""
    monkeypatch.setattr(retries, "GIVE_UP_AFTER_S", 1.0)
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.03)
    store = Store("memory://flaky")
    store.put("there", b"content")
    fs = store._location[0]
    original = type(fs).cat_file

    def fail_with(*errors: Exception) -> Store:
        remaining = list(errors)

        def cat_file(path: str, *args: Any, **kwargs: Any) -> bytes:
            if remaining:
                raise remaining.pop(0)
            return bytes(original(fs, path, *args, **kwargs))

        monkeypatch.setattr(fs, "cat_file", cat_file, raising=False)
        return store

    return fail_with


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EBUSY, "SlowDown"), TimeoutError("read"), ConnectionResetError("reset"), SlowDown("503")],
    ids=lambda e: type(e).__name__,
)
def test_retries_transient_errors(flaky: Any, error: Exception) -> None:
    assert flaky(error, error).get("there") == b"content"


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "AccessDenied"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        NoCredentialsError("Unable to locate credentials"),
    ],
    ids=lambda e: str(e),
)
def test_raises_permanent_errors_at_once(flaky: Any, error: Exception) -> None:
    with pytest.raises(StorageError, match=r"flaky/there: \w+: ") as raised:
        flaky(error).get("there")
    assert str(error) in str(raised.value) and "tried" not in str(raised.value)


@pytest.mark.parametrize(
    ("module", "attribute"),
    [("aiohttp.client_exceptions", "status"), ("azure.core.exceptions", "status_code"), ("gcsfs.retry", "code")],
)
@pytest.mark.parametrize(
    ("status", "transient"),
    [
        *((status, False) for status in (301, 400, 401, 403, 404, 410)),
        *((status, True) for status in (408, 425, 429, 500, 502, 503, 504)),
    ],
)
def test_http_status_decides(module: str, attribute: str, status: int, transient: bool) -> None:
    assert retries.is_transient(http_error(module, attribute, status)) == transient


def test_gives_up_after_the_time_limit(flaky: Any) -> None:
    with pytest.raises(StorageError, match=r"there: TimeoutError: .* \(tried \d+ times\)"):
        flaky(*[TimeoutError("read")] * 1000).get("there")


def test_other_errors_are_raised_unchanged(flaky: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        flaky(ZeroDivisionError()).get("there")


def test_file_in_place_of_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "_commits").touch()
    for write in (Store.put, Store.create):
        with pytest.raises(StorageError, match="is a file, must be a folder"):
            write(Store(str(tmp_path)), "_commits/part-00000.json", b"{}")


def test_failed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        Store(str(tmp_path)).put("data/part", b"x" * 100)
    assert not list((tmp_path / "data").iterdir())
