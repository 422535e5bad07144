"""Checks of tensors before compiled code gets their addresses: it would read and write whatever is there."""

import torch
from torch import Tensor


def check_tensor(
    name: str, tensor: Tensor, shape: tuple[int, ...], *dtypes: torch.dtype, any_strides: bool = False
) -> None:
    """Check shape, dtype, device and contiguity. With `any_strides` only the last dimension must be contiguous.

    Raises:
        ValueError: one of them differs; names the tensor and both.
    """
    contiguous = tensor.stride(-1) == 1 if any_strides else tensor.is_contiguous()
    if contiguous and tensor.dtype in dtypes and tensor.shape == shape and tensor.device.type == "cpu":
        return
    wanted = "contiguous in its last dimension" if any_strides else "contiguous"
    raise ValueError(
        f"{name} must be {wanted}, on the CPU, of shape {tuple(shape)} and dtype "
        f"{' or '.join(str(dtype) for dtype in dtypes)}; it has shape {tuple(tensor.shape)}, "
        f"strides {tensor.stride()}, dtype {tensor.dtype}, on {tensor.device}"
    )
