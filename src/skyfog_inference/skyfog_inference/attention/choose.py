"""Which attention back end a device and a type of cache get."""

from __future__ import annotations

import structlog
import torch

from skyfog_inference.attention.base import Attention
from skyfog_inference.attention.build import NoKernel
from skyfog_inference.attention.cpu import KERNEL_TYPES, CpuAttention
from skyfog_inference.attention.torch import TorchAttention

log = structlog.get_logger(__name__)


def choose(device: torch.device, dtype: torch.dtype, threads: int | None = None) -> Attention:
    """The C++ kernel on a CPU with a cache of bf16 or fp32; torch's operations else, or where there is no compiler.

    `threads` None: as many as torch has when it is called.
    """
    if device.type != "cpu" or dtype not in KERNEL_TYPES:
        return TorchAttention()
    try:
        return CpuAttention(threads)
    except NoKernel as error:
        log.warning("attention_without_kernel", reason=str(error))
        return TorchAttention()
