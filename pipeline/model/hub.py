"""Where a model lies: a local folder, or a hub id fetched once into the cache and used offline from then on."""

from collections.abc import Sequence
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

    `revision` is a commit, tag or branch. A pinned commit that is in the cache is used without the network;
    `HF_HUB_OFFLINE=1` forbids the network altogether, `HF_HOME` names the cache.

    Raises:
        CheckpointError: no such folder, no such repository or revision, or no network and nothing cached.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if name_or_path in BUILT_IN:
        return BUILT_IN[name_or_path]
    if name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1:
        raise CheckpointError(f"model {name_or_path!r}: no such folder")
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
    return folder
