"""Defaults that the config and the Python interface share, and what `auto` means in both."""

PAUSE_S = 0.25  # silence between the segments of a long text


def resolve_device(device: str, has_gpu: bool) -> str:
    """`auto` is `cuda` with a GPU (an actor's share, or this machine's), else `cpu`; anything else stays as it is."""
    return device if device != "auto" else "cuda" if has_gpu else "cpu"


def resolve_dtype(dtype: str, device: str) -> str:
    """`auto` is `bfloat16` on CUDA and `float32` on a CPU; `device` is a resolved one, such as `cuda:1`."""
    return dtype if dtype != "auto" else "bfloat16" if device.startswith("cuda") else "float32"
