"""Finds the OpenMP library whose threads torch computes with."""

import ctypes
import os
from functools import cache
from pathlib import Path

import torch


@cache
def torch_openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP library from torch's wheel for Linux, if torch has loaded it; None elsewhere."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return None
    for path in sorted(Path(torch.__file__).parent.glob("lib/libgomp*.so*")):
        try:
            return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)  # fails unless torch has loaded it
        except OSError:
            continue
    return None
