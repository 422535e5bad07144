"""Freed memory is kept for the next layer instead of going back to the system and coming again as zeroed pages."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_THRESHOLD = 32 << 20  # bytes; glibc takes no more


def keep_freed_memory() -> None:
    """glibc maps each large tensor anew, and the kernel zeroes it: 6 to 11 % of the fine stage's time (docs/log.md).

    For the whole process, once; does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
