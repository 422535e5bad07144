"""`barkery push`: an export as a dataset repository on the Hugging Face hub."""

from collections import Counter
from pathlib import Path

from pipeline.errors import ConfigError, IncompleteError, one_line
from pipeline.export.job import DONE
from pipeline.export.plan import FOLDER, ExportPlan, open_export
from pipeline.log import log
from pipeline.storage.store import Store

MAX_FILES = 10_000  # in one folder of a repository
CARD = "README.md"


def push(folder: Path, repo_id: str, private: bool = False) -> str:
    """Upload a finished export in the hub's way for large folders; again after a stop, only what is missing.

    Returns:
        The URL of the dataset.

    Raises:
        ConfigError: the folder has no finished export, too many files in one folder, or the hub refuses.
        IncompleteError: the upload stopped; the same call goes on.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    plan = finished_export(folder)
    refuse_full_folders(folder)
    api = HfApi(library_name="barkery")
    try:
        url = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        raise ConfigError(f"{repo_id}: can't be created on the hub: {one_line(error)}") from error
    message = f"{plan.rows:,} clips in format {plan.format}, by Barkery"
    card = (folder / CARD).read_text(encoding="utf-8").replace("THIS_FOLDER", repo_id)
    log.info(f"uploading {plan.rows:,} clips to {url}")
    try:
        ignored = [f"{FOLDER}/**", CARD]  # the card goes last: until then, nobody takes the repository for complete
        api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            ignore_patterns=ignored,
            commit_message=message,
        )
        api.upload_file(
            repo_id=repo_id,
            repo_type="dataset",
            path_or_fileobj=card.encode(),
            path_in_repo=CARD,
            commit_message=message,
        )
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        raise IncompleteError(
            f"{repo_id}: the upload stopped: {one_line(error)}; run the same command again"
        ) from error
    return str(url)


def finished_export(folder: Path) -> ExportPlan:
    """The plan of an export that is complete; raises ConfigError if there is none."""
    store = Store(str(folder.absolute()))
    plan = open_export(store)
    if plan is None:
        raise ConfigError(f"{folder}: is not an export; make one: barkery export OUTPUT hf {folder}")
    if not store.exists(DONE):
        raise ConfigError(f"{folder}: this export is not complete; run its `barkery export` again")
    return plan


def refuse_full_folders(folder: Path) -> None:
    """Raise ConfigError if a folder has more files than the hub takes."""
    counts = Counter(path.parent for path in folder.rglob("*") if path.is_file() and FOLDER not in path.parts)
    if counts and (largest := max(counts, key=lambda each: counts[each])) and counts[largest] > MAX_FILES:
        raise ConfigError(
            f"{largest}: has {counts[largest]:,} files, the hub takes {MAX_FILES:,} in a folder; use the format hf or "
            "webdataset"
        )
