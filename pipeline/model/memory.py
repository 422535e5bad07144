"""What memory is free, and how freed memory is kept for the next layer."""

import ctypes
import re
import sys
from pathlib import Path

import torch

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
