"""Where a model lies: a local folder, or a hub id fetched once into the cache and used offline from then on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pipeline.errors import CheckpointError, one_line

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
