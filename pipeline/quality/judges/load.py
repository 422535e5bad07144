"""Loads the judges of a run, and says which package is missing or which file is wrong."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, one_line
from pipeline.quality.judges.clip import Judge
from pipeline.quality.judges.settings import POCKETSPHINX, JudgeSettings


def load_judges(
    settings: JudgeSettings, device: str = "cpu", threads: int = 1, slots: int = 1, reference: Any = lambda voice: None
) -> dict[str, Judge]:
    """The configured judges by name.

    Args:
        device: `cpu`, `cuda` or `cuda:N`, where a judge has no device of its own.
        slots: clips that are judged at the same time.
        reference: from a voice's name to its samples (N,) at 24 kHz, for the judge of speakers.

    Raises:
        ConfigError: a package or a model is missing, damaged or of another kind. It names the key and what to do.
    """
    return {name: load(name, settings, device, threads, slots, reference) for name in settings.names}


def check_judges(settings: JudgeSettings) -> None:
    """Load all judges once, on the CPU, so that what is missing is known before anything starts; raises ConfigError."""
    if settings.asr:
        here = settings.asr.model_copy(update={"device": "cpu", "compute_type": "default"})
        settings = settings.model_copy(update={"asr": here})
    load_judges(settings)


def load(name: str, settings: JudgeSettings, device: str, threads: int, slots: int, reference: Any) -> Judge:
    makers: dict[str, Callable[[], Judge]] = {
        "vad": lambda: make_vad(settings),
        "dnsmos": lambda: make_dnsmos(threads),
        "asr": lambda: make_asr(settings, device, threads, slots),
        "speaker": lambda: make_speaker(device, reference),
    }
    try:
        return makers[name]()
    except ImportError as error:
        extra = f"pip install 'barkery[{name}]'"
        raise ConfigError(f"judges.{name}: {error.name or error} is not installed: {extra}") from error
    except ConfigError as error:
        raise ConfigError(f"judges.{name}: {error}") from error
    except (
        RuntimeError,
        ValueError,
        OSError,
        KeyError,
        TypeError,
    ) as error:  # ctranslate2's, onnxruntime's and the hub's
        where = f".model {settings.asr.model}" if name == "asr" and settings.asr else ""
        raise ConfigError(f"judges.{name}{where}: can't be loaded: {one_line(error)}") from error


def make_vad(settings: JudgeSettings) -> Judge:
    from pipeline.quality.judges.vad import Vad

    assert settings.vad
    return Vad(settings.vad.threshold)


def make_dnsmos(threads: int) -> Judge:
    from pipeline.quality.judges.dnsmos import Dnsmos

    return Dnsmos(threads)


def make_asr(settings: JudgeSettings, device: str, threads: int, slots: int) -> Judge:
    import jiwer  # noqa: F401  # an import error here names the missing package

    from pipeline.quality.judges.asr import Asr

    assert settings.asr
    chosen = device if settings.asr.device == "auto" else settings.asr.device
    return Asr(settings.asr, chosen, threads, slots)


def make_speaker(device: str, reference: Any) -> Judge:
    from pipeline.quality.judges.speaker import Speaker

    return Speaker(device, reference)


def fingerprint(settings: JudgeSettings) -> dict[str, Any]:
    """What decides the judges' scores, with a hash of a recognizer's local files; empty without judges."""
    identity = settings.identity
    if settings.asr:
        folder = Path(settings.asr.model).expanduser()
        identity["asr"]["model"] = settings.asr.model
        if settings.asr.model != POCKETSPHINX and folder.is_dir():
            identity["asr"]["model"] = f"sha256:{hash_folder(folder)}"
    return identity


def hash_folder(folder: Path) -> str:
    """A hash of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
