"""Reads the bytes of a voice that a row names, at an unchecked path or URL, within limits of size and time."""

import asyncio
import queue
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import RowError, one_line, redact
from pipeline.storage.retries import retry_transient

MAX_VOICE_BYTES = 16 * 2**20  # packed and unpacked; Suno's largest preset has 58 kB
FETCH_S = 30  # for one voice with all attempts: its shard waits that long
MAX_ATTEMPTS = 5
# Only these, and no chained URLs: some of fsspec's other file systems run code, read archives or fetch without a limit
SCHEMES = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "file", "memory")


def set_fsspec_defaults(urls: Iterable[str], options: dict[str, Any]) -> None:
    """Make `options` the process's fsspec defaults for the protocols of `urls`, so that voices there can be read."""
    for protocol in map(fsspec.utils.get_protocol, urls) if options else ():
        fsspec.config.conf[protocol] = fsspec.config.conf.get(protocol, {}) | options  # they override the user's


def local_path(name: str) -> Path | None:
    """The path in a path or `file://` URL; None for any other URL."""
    scheme, is_url, rest = name.partition("://")
    return Path(rest if is_url else name).expanduser() if scheme == "file" or not is_url else None


def display_name(name: str) -> str:
    """A voice's name for a message: one line, at most 200 characters, without secrets."""
    name = " ".join(redact(name).splitlines())
    return name if len(name) <= 200 else f"{name[:100]}...{name[-97:]}"


def fetch_voice(name: str) -> bytes:
    """The content at a path or URL, cut off one byte after `MAX_VOICE_BYTES`.

    It runs in a thread that is abandoned if it hangs: not every storage client has a time limit.

    Raises:
        RowError: `unknown_voice`, naming it.
    """
    scheme, is_url, rest = name.partition("://")
    if is_url and (scheme not in SCHEMES or "::" in rest):
        allowed = ", ".join(f"{each}://" for each in SCHEMES)
        raise RowError(
            "unknown_voice", f"voice {display_name(name)}: must be a path or one URL, not a chain, of {allowed}"
        )
    results: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    attempts = retry_transient(FETCH_S, max_wait_s=5, max_attempts=MAX_ATTEMPTS)

    def work() -> None:
        try:
            results.put(attempts(read_once, name))
        except Exception as error:  # a storage client may raise anything; a voice fails only its own rows
            results.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = results.get(timeout=FETCH_S)
    except queue.Empty:
        result = TimeoutError()
    # Of this wait, or of the HTTP client, whose limit is the same
    if isinstance(result, TimeoutError) and result.errno is None:
        raise RowError("unknown_voice", f"voice {display_name(name)}: no answer within {FETCH_S} s") from None
    if isinstance(result, Exception):
        reason = f"{type(result).__name__}: {one_line(result)}"
        raise RowError("unknown_voice", f"voice {display_name(name)}: can't be read: {reason}") from result
    return result


def read_once(name: str) -> bytes:
    """One attempt to read a voice's bytes; raises what the file system or client raises."""
    if path := local_path(name):
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe blocks until somebody writes to it
            raise ValueError("not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_VOICE_BYTES + 1)
    if name.startswith("http"):
        return asyncio.run(read_http(name))
    fs, path_in_store = fsspec.core.url_to_fs(name)
    with fs.open(path_in_store, "rb") as file:
        return file.read(MAX_VOICE_BYTES + 1)


async def read_http(url: str) -> bytes:
    """One GET by aiohttp: fsspec's own client reports every failure as "not found" and reads more than it is asked."""
    import aiohttp  # takes half a second, and few runs need it

    content = bytearray()
    limit = aiohttp.ClientTimeout(total=FETCH_S)
    async with aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session, session.get(url) as result:
        async for chunk in result.content.iter_any():
            content += chunk
            if len(content) > MAX_VOICE_BYTES:
                break
    return bytes(content)
