"""Free memory, and how this process gets and returns it: malloc's thresholds, anonymous and file-backed pages."""

import ctypes
import math
import mmap
import re
import sys
from pathlib import Path

import torch
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
MAX_MMAP_THRESHOLD = 32 << 20  # bytes; glibc accepts no more
TRIM_THRESHOLD = 1 << 30  # bytes


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a device without swapping; None where the system doesn't tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return int(found[1]) << 10 if found else None


def keep_freed_memory() -> None:
    """Make malloc reuse freed memory instead of returning it to the system, for the whole process.

    By default glibc maps each large tensor anew, and the kernel fills it with zeros: 6 to 11 % of the fine stage's
    time (docs/log.md). Does nothing with another C library.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, MAX_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def anonymous_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A CPU tensor of zeros in an anonymous mapping of its own.

    Untouched pages cost nothing, and freed pages return to the system at once, which malloc's don't after
    `keep_freed_memory`. An ordinary tensor where the system has no such mappings.
    """
    if not (hasattr(mmap, "MAP_PRIVATE") and hasattr(mmap, "MAP_ANONYMOUS")):
        return torch.zeros(shape, dtype=dtype)
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


def release_mapped_pages(weight: Tensor) -> None:
    """madvise(DONTNEED) the file-backed pages of an unused weight: they leave this process's memory.

    They stay in the system's page cache for other processes, and are mapped again if they are read. Does nothing for
    memory that is not mapped from a file, nor where the system doesn't tell or has no such call.
    """
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is None:
        return
    file_backed = re.findall(r"^(\w+)-(\w+) \S+ \w+ \S+ \d+ +/", maps, re.MULTILINE)
    first = -(-weight.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages only: other data shares the edges
    end = (weight.data_ptr() + weight.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < end and any(int(low, 16) <= first and end <= int(high, 16) for low, high in file_backed):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), advice)
