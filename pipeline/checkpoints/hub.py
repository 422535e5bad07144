"""Finds a model: a built-in one, a local folder, or a hub id, which is downloaded once and used offline afterwards."""

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Thread

from pipeline.errors import CheckpointError, one_line
from pipeline.log import log

# huggingface_hub is imported where it is used: it takes 0.2 s, and built-in models and folders do not need it.

BUILT_IN = {"puppy": Path(__file__).parent / "puppy"}  # small, speaks plain English, needs no download


HUB_TIMEOUT_S = 6  # until the hub counts as unreachable; the hub's own client takes half a minute and a dozen lines


@dataclass(frozen=True)
class Pin:
    """The commit that a hub id means if no revision is given, and the SHA-256 of its weight files."""

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

# Weights in one format only, the best that is offered; never code.
MODEL_FILES = (
    "*.json",
    "*.txt",
    "model*.safetensors",
    "*.npz",
)
PICKLED_WEIGHTS = ("pytorch_model*.bin",)


def resolve(name_or_path: str, revision: str | None = None, files: Sequence[str] = MODEL_FILES) -> Path:
    """Local folder of a model: the path itself, a built-in model's folder, or a snapshot of a hub id.

    `revision` is a commit, tag or branch; the default is the commit in `PINNED`, else `main`. A commit that is complete
    in the cache is used without the network; `HF_HUB_OFFLINE=1` forbids the network altogether, `HF_HOME` is the cache.

    Raises:
        CheckpointError: no such folder, no such repository or revision, the hub can't be reached within
            `HUB_TIMEOUT_S` and nothing is cached, or weights that differ from those of the pinned commit.
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
    hub = Hub(name_or_path, revision)
    folder = hub.snapshot(files)
    if files is MODEL_FILES and not any(folder.glob("*.safetensors")):
        folder = hub.snapshot(
            [*files, *PICKLED_WEIGHTS]
        )  # an older repository: a pickle, which is read as weights only
    if pin and folder.name == pin.commit:
        for name, sha256 in pin.sha256.items():
            check_hash(folder / name, sha256)
    return folder


class Hub:
    """One revision of a repository on the hub and in the local cache."""

    def __init__(self, name: str, revision: str | None):
        self.name = name
        self.revision = revision
        self.title = f"model {name!r} (revision {revision or 'main'})"
        self._asked = False
        self._problem: str | None = None

    def snapshot(self, files: Sequence[str]) -> Path:
        """Local folder with the files of these patterns, downloaded if they are not cached.

        A branch or tag is looked up on the hub; its cached state is used if the hub can't be reached.

        Raises:
            CheckpointError: no such repository or revision, or not cached and the hub can't be reached.
        """
        from huggingface_hub.constants import is_offline_mode
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            cached: Path | None = self._fetch(files, from_cache=True)
        except LocalEntryNotFoundError:
            cached = None
        if cached and (is_offline_mode() or self._is_final()):
            return cached
        problem = "HF_HUB_OFFLINE is set" if is_offline_mode() else self._problem_once(cached is not None)
        if problem is None:
            try:
                return self._fetch(files, from_cache=False)
            except LocalEntryNotFoundError as error:  # lost since it was asked
                problem = one_line(error)
        if cached is None:
            raise CheckpointError(
                f"{self.title}: not in the cache and the hub can't be reached ({problem}); "
                "give a local folder, or download it once on a machine with a network"
            )
        log.warning(f"{self.title}: the hub can't be reached ({problem}); using the cached commit {cached.name}")
        return cached

    def _fetch(self, files: Sequence[str], from_cache: bool) -> Path:
        """Folder of the snapshot, from the cache alone or with downloads.

        Raises:
            LocalEntryNotFoundError: not all of it is in the cache, and the network is not to be used or is down.
            CheckpointError: no such repository or revision, or the hub refuses.
        """
        import httpx2
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            return Path(
                snapshot_download(
                    self.name, revision=self.revision, allow_patterns=list(files), local_files_only=from_cache
                )
            )
        except LocalEntryNotFoundError:
            raise
        except (HfHubHTTPError, HFValidationError) as error:  # among them: repository or revision not found
            reason = one_line(error)
            raise CheckpointError(f"{self.title}: neither a folder nor on the hub: {reason}") from error
        except (OSError, httpx2.HTTPError) as error:
            reason = one_line(error)
            raise CheckpointError(f"{self.title}: the download failed: {reason}; run again to resume it") from error

    def _is_final(self) -> bool:
        """Whether what is cached is all there will ever be: a commit whose list of files is cached, too."""
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        if not re.fullmatch("[0-9a-f]{40}", self.revision or ""):
            return False
        try:
            get_cached_repo_tree(self.name, revision=self.revision)
        except CachedRepoTreeNotFoundError:
            return False
        return True

    def _problem_once(self, is_cached: bool) -> str | None:
        """Why the hub can't be reached, or None. Asks once, and logs one line if something will be downloaded."""
        from huggingface_hub.constants import ENDPOINT

        if not self._asked:
            if not is_cached:
                log.info(f"{self.title}: downloading from {ENDPOINT}")
            self._asked, self._problem = True, hub_problem(f"{ENDPOINT}/api/models/{self.name}")
        return self._problem


def hub_problem(url: str) -> str | None:
    """Ask the hub once. None if it answers; else why not, within `HUB_TIMEOUT_S`.

    In a thread of its own, because looking up a host name has no timeout. Any answer counts, except those that the
    hub's client would retry for half a minute.
    """
    import httpx2
    from huggingface_hub.utils import get_session

    answer: Future[int] = Future()

    def ask() -> None:
        try:
            answer.set_result(get_session().head(url, timeout=HUB_TIMEOUT_S).status_code)
        except httpx2.HTTPError as error:
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    try:
        status = answer.result(HUB_TIMEOUT_S)
    except (TimeoutError, httpx2.TimeoutException):
        return f"no answer within {HUB_TIMEOUT_S} s"
    except httpx2.HTTPError as error:
        return one_line(error)
    return f"HTTP status {status}" if status == 429 or status >= 500 else None


@cache
def check_hash(path: Path, sha256: str) -> None:
    """Compare a file's SHA-256, once per process: a second for bark-small's 1.7 GB.

    Raises:
        CheckpointError: the file is missing or differs.
    """
    if not path.exists():  # this commit's weights in another format, copied into the cache by hand
        raise CheckpointError(f"{path}: is missing; delete that folder, so that it is downloaded again")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{path}: its SHA-256 is {found[:16]}..., must be {sha256[:16]}...: damaged, or not what was published; "
            "delete that folder, so that it is downloaded again"
        )
