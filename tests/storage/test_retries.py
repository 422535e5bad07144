"""What may pass is tried again, what lasts is said at once, and a folder that is a file is never taken for an answer."""

import errno
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StorageError
from pipeline.storage import store as storage
from pipeline.storage.store import Store


class SlowDown(Exception):
    """As botocore raises what it has no class for."""

    __module__ = "botocore.exceptions"


class NoCredentialsError(SlowDown):
    __module__ = "botocore.exceptions"


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store in memory whose objects can be read only after some errors."""
    monkeypatch.setattr(storage, "GIVE_UP_AFTER_S", 1.0)
    store = Store("memory://flaky")
    store.put("there", b"content")
    fs = store._place[0]
    real = type(fs).cat_file

    def fail_with(*errors: Exception) -> Store:
        left = list(errors)

        def cat_file(path: str, *args: Any, **kwargs: Any) -> bytes:
            if left:
                raise left.pop(0)
            return bytes(real(fs, path, *args, **kwargs))

        monkeypatch.setattr(fs, "cat_file", cat_file, raising=False)
        return store

    return fail_with


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EBUSY, "SlowDown"), TimeoutError("read"), ConnectionResetError("reset"), SlowDown("503")],
    ids=lambda e: type(e).__name__,
)
def test_what_may_pass_is_tried_again(flaky: Any, error: Exception) -> None:
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
def test_what_lasts_is_said_at_once(flaky: Any, error: Exception) -> None:
    with pytest.raises(StorageError, match=r"flaky/there: \w+: ") as raised:
        flaky(error).get("there")
    assert str(error) in str(raised.value) and "tried" not in str(raised.value)


def test_patience_ends(flaky: Any) -> None:
    with pytest.raises(StorageError, match=r"there: TimeoutError: .* \(tried \d+ times\)"):
        flaky(*[TimeoutError("read")] * 1000).get("there")


def test_what_is_not_the_storage_goes_on_as_it_is(flaky: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        flaky(ZeroDivisionError()).get("there")


def test_a_file_in_a_folders_place_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "_commits").touch()
    for write in (Store.put, Store.create):
        with pytest.raises(StorageError, match="is a file, must be a folder"):
            write(Store(str(tmp_path)), "_commits/part-00000.json", b"{}")


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        Store(str(tmp_path)).put("data/part", b"x" * 100)
    assert not list((tmp_path / "data").iterdir())
