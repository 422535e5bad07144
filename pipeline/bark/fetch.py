"""The bytes of a voice that a row names: at a path or URL that nobody checked, read within limits of size and time."""

import asyncio
import errno
import queue
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import tenacity

from pipeline.errors import RowError, one_line, redact

MAX_VOICE_BYTES = 16 * 2**20  # packed and unpacked; Suno's largest preset holds 58 kB
FETCH_S = 30  # for one voice, all tries together: meanwhile its shard waits
# No others, and none inside another: fsspec knows some that run code, read archives or fetch without a limit
SCHEMES = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "file", "memory")
# Where clients define their errors, as in `shards/storage.py`, on which this room may not lean
CLIENTS = {"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "requests", "urllib3"}
LASTING = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError, ValueError)


def set_fsspec_defaults(urls: Iterable[str], options: dict[str, Any]) -> None:
    """Read voices that lie in the same kinds of storage as `urls` with these options of fsspec, in this process."""
    for protocol in map(fsspec.utils.get_protocol, urls) if options else ():
        fsspec.config.conf[protocol] = fsspec.config.conf.get(protocol, {}) | options  # over the user's own


def local_path(name: str) -> Path | None:
    """Of a path or a `file://` URL; None for any other URL."""
    scheme, is_url, rest = name.partition("://")
    return Path(rest if is_url else name).expanduser() if scheme == "file" or not is_url else None


def shown(name: str) -> str:
    """A voice's name for a message: one line, not too long, no secrets."""
    name = " ".join(redact(name).splitlines())
    return name if len(name) <= 200 else f"{name[:100]}...{name[-97:]}"


def fetch_voice(name: str) -> bytes:
    """What lies at a path or URL, cut after `MAX_VOICE_BYTES` and one more.

    Raises:
        RowError: `unknown_voice`, naming it.

    In a thread, which is left behind if it hangs: not every client can be told how long it may take."""
    scheme, is_url, rest = name.partition("://")
    if is_url and (scheme not in SCHEMES or "::" in rest):
        allowed = ", ".join(f"{each}://" for each in SCHEMES)
        raise RowError("unknown_voice", f"voice {shown(name)}: must be a path or one URL, not a chain, of {allowed}")
    answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_random_exponential(multiplier=0.3, max=5),
        stop=tenacity.stop_after_attempt(5) | tenacity.stop_after_delay(FETCH_S),
        reraise=True,
    )

    def work() -> None:
        try:
            answers.put(tries(read_once, name))
        except Exception as error:  # a storage client may raise anything; no voice is worth the other rows
            answers.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = answers.get(timeout=FETCH_S)
    except queue.Empty:
        raise RowError("unknown_voice", f"voice {shown(name)}: no answer within {FETCH_S} s") from None
    if isinstance(result, Exception):
        reason = f"{type(result).__name__}: {one_line(result)}"
        raise RowError("unknown_voice", f"voice {shown(name)}: can't be read: {reason}") from result
    return result


def read_once(name: str) -> bytes:
    if path := local_path(name):
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe waits for who writes to it
            raise ValueError("not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_VOICE_BYTES + 1)
    if name.startswith("http"):
        return asyncio.run(read_http(name))
    fs, where = fsspec.core.url_to_fs(name)
    with fs.open(where, "rb") as file:
        return file.read(MAX_VOICE_BYTES + 1)


async def read_http(url: str) -> bytes:
    """fsspec's own client says "not found" of any fault, and takes more than it asked for."""
    import aiohttp  # half a second, which few need

    content = bytearray()
    limit = aiohttp.ClientTimeout(total=FETCH_S)
    async with aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session, session.get(url) as result:
        async for chunk in result.content.iter_any():
            content += chunk
            if len(content) > MAX_VOICE_BYTES:
                break
    return bytes(content)


def is_transient(error: BaseException) -> bool:
    """Worth another try: a busy or broken server, a lost connection; not what is missing or forbidden."""
    status = getattr(error, "status", None) or getattr(error, "status_code", None) or getattr(error, "code", None)
    if isinstance(status, int):
        return status in (408, 429) or status >= 500
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return False
    if isinstance(error, LASTING) or any(w in type(error).__name__ for w in ("Credential", "Token", "Authentication")):
        return False
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in CLIENTS
