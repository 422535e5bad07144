"""Where a model lies: a local folder, or a hub id fetched once into the cache and used offline from then on.

And where a voice lies that a row names: at a path or URL that nobody checked, read within limits of size and time.
"""

import asyncio
import errno
import hashlib
import queue
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import fsspec
import tenacity
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pipeline.errors import CheckpointError, RowError, one_line, redact

BUILT_IN = {"puppy": Path(__file__).parent / "puppy"}  # small, speaks plain English, needs no download


@dataclass(frozen=True)
class Pin:
    """What a hub id means where no revision is asked for: a commit, and the SHA-256 of its weights' files."""

    commit: str
    sha256: dict[str, str] = field(default_factory=dict)


PINNED = {
    "suno/bark": Pin(
        "70a8a7d34168586dc5d028fa9666aceade177992",
        {"pytorch_model.bin": "4e3d407b9b3b619da184c85786c88e5e35f90f9089303e16db696ed0be477989"},
    ),
    "suno/bark-small": Pin(
        "1dbd7a128513b8ae4a4e2130fed57b7ac9da5bcd",
        {"pytorch_model.bin": "f0f7f16b24f65789ce42b3c491aa6a1cdf219f7ef425066fcd194485245e65d9"},
    ),
    "bert-base-multilingual-cased": Pin("3f076fdb1ab68d5b2880cb87a0886f315b8146f8"),  # Suno's tokenizer
}

# Weights once, in the best form offered; never code.
MODEL_FILES = (
    "*.json",
    "*.txt",
    "model*.safetensors",
    "*.npz",
)
PICKLED_WEIGHTS = ("pytorch_model*.bin",)


def resolve(name_or_path: str, revision: str | None = None, files: Sequence[str] = MODEL_FILES) -> Path:
    """Local folder of a model: the path itself, a built-in one's, or a snapshot of a hub id.

    `revision` is a commit, tag or branch; without one, what `PINNED` says, else `main`. A commit that is in the cache
    is used without the network; `HF_HUB_OFFLINE=1` forbids the network altogether, `HF_HOME` names the cache.

    Raises:
        CheckpointError: no such folder, no such repository or revision, no network and nothing cached, or weights
            that are not those of the pinned commit.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if name_or_path in BUILT_IN:
        return BUILT_IN[name_or_path]
    if name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1:
        raise CheckpointError(f"model {name_or_path!r}: no such folder")
    pin = PINNED.get(name_or_path)
    revision = revision or (pin.commit if pin else None)
    try:
        folder = Path(snapshot_download(name_or_path, revision=revision, allow_patterns=list(files)))
        has_weights = any(folder.glob("*.safetensors")) or files is not MODEL_FILES
        if not has_weights:  # an older repository: weights in a pickle, which is read safely
            folder = Path(snapshot_download(name_or_path, revision=revision, allow_patterns=[*files, *PICKLED_WEIGHTS]))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        reason = one_line(error)
        raise CheckpointError(
            f"model {name_or_path!r} (revision {revision or 'main'}): neither a folder nor on the hub: {reason}"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"model {name_or_path!r} (revision {revision or 'main'}): not in the cache and the hub can't be reached; "
            "give a local folder, or fetch it once where there is a network"
        ) from error
    if pin and folder.name == pin.commit:
        for name, sha256 in pin.sha256.items():
            check_hash(folder / name, sha256)
    return folder


@cache
def check_hash(path: Path, sha256: str) -> None:
    """Once per process: a second for bark-small's 1.7 GB. Raises CheckpointError."""
    if not path.exists():  # this commit's weights in another form, put there by hand
        raise CheckpointError(f"{path}: is missing; delete that folder, so that it is fetched again")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{path}: its SHA-256 is {found[:16]}..., must be {sha256[:16]}...: damaged, or not what was published; "
            "delete that folder, so that it is fetched again"
        )


MAX_VOICE_BYTES = 16 * 2**20  # packed and unpacked; Suno's largest preset holds 58 kB
FETCH_S = 30  # for one voice, all tries together: meanwhile its actor waits
# No others, and none inside another: fsspec knows some that run code, read archives or fetch without a limit
SCHEMES = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "file", "memory")
# Where clients define their errors, as in `shards/storage.py`, on which this room may not lean
CLIENTS = {"aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "requests", "urllib3"}
LASTING = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError, ValueError)


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
        retry=tenacity.retry_if_exception(may_pass),
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
        answer = answers.get(timeout=FETCH_S)
    except queue.Empty:
        raise RowError("unknown_voice", f"voice {shown(name)}: no answer within {FETCH_S} s") from None
    if isinstance(answer, Exception):
        reason = f"{type(answer).__name__}: {one_line(answer)}"
        raise RowError("unknown_voice", f"voice {shown(name)}: can't be read: {reason}") from answer
    return answer


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
    async with aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session, session.get(url) as answer:
        async for chunk in answer.content.iter_any():
            content += chunk
            if len(content) > MAX_VOICE_BYTES:
                break
    return bytes(content)


def may_pass(error: BaseException) -> bool:
    """Worth another try: a busy or broken server, a lost connection; not what is missing or forbidden."""
    status = getattr(error, "status", None) or getattr(error, "status_code", None) or getattr(error, "code", None)
    if isinstance(status, int):
        return status in (408, 429) or status >= 500
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return False
    if isinstance(error, LASTING) or any(w in type(error).__name__ for w in ("Credential", "Token", "Authentication")):
        return False
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in CLIENTS
