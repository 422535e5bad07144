"""What memory is free, how freed memory is kept for the next layer, and how files' pages are let go."""

import ctypes
import mmap
import re
import sys
from pathlib import Path

import torch
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_THRESHOLD = 32 << 20  # bytes; glibc takes no more


def free_bytes(device: torch.device) -> int | None:
    """What can still be allocated there without swapping; None where the system doesn't say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return int(found[1]) << 10 if found else None


def keep_freed_memory() -> None:
    """Not back to the system, from where it would come again as zeroed pages.

    glibc maps each large tensor anew, and the kernel zeroes it: 6 to 11 % of the fine stage's time (docs/log.md).

    For the whole process, once; does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)


def release_mapped_pages(weight: Tensor) -> None:
    """Of a weight that is read no more: pages that are mapped from a file leave this process.

    They stay in the system's page cache, for other actors, and would come back if they were read. Does nothing for
    memory of another kind, nor where the system doesn't say what is mapped from where.
    """
    try:
        held = re.findall(r"^(\w+)-(\w+) \S+ \w+ \S+ \d+ +/", Path("/proc/self/maps").read_text(), re.MULTILINE)
    except OSError:
        return
    first = -(-weight.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages only: others lie beside it
    end = (weight.data_ptr() + weight.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < end and any(int(low, 16) <= first and end <= int(high, 16) for low, high in held):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED)
