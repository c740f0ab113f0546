"""Products with weights. On a CPU, matrices are laid out once as oneDNN wants to read them.

Plain matrices are laid out anew in every call: at 1 to 32 rows, where reading the weights is all there is to do, that
costs a fifth to two thirds of the time.
"""

from __future__ import annotations

import torch
from torch.nn import functional

# oneDNN compiles a kernel for every number of rows and keeps the last 1024, 0.7 MB each: batches of ever new lengths
# would fill memory for hours, and wait a millisecond a layer for the compiler.
ALL_UP_TO = 16  # rows; above it, few numbers are multiplied


def can_pack(weight: torch.Tensor) -> bool:
    """Whether oneDNN multiplies such matrices fast here."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 as below
    return weight.dtype is torch.float32


def pack(weight: torch.Tensor) -> torch.Tensor:
    """[out, in] in oneDNN's layout: of no use but for `linear`. What cannot be packed is returned as it is."""
    if not can_pack(weight):
        return weight
    return torch.ops.mkldnn._reorder_linear_weight(weight)  # noqa: SLF001 torch's compiler calls it; no other name


def linear(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """[rows, in] times a matrix [out, in], packed or plain -> [rows, out]."""
    if not weight.is_mkldnn:
        return functional.linear(rows, weight, bias)
    count = len(rows)
    more = padded(count) - count
    wide = functional.pad(rows, (0, 0, 0, more)) if more else rows
    return torch.ops.mkldnn._linear_pointwise(wide, weight, bias, "none", [], "")[:count]  # noqa: SLF001 as above


def padded(count: int) -> int:
    """The least of the numbers of rows that are multiplied, four an octave above 16, that is not below `count`."""
    if count <= ALL_UP_TO:
        return count
    step = 1 << ((count - 1).bit_length() - 3)
    return -(-count // step) * step
