"""Attention on a CPU by the C++ kernel (kernel/attention.cpp), called through ctypes, which releases the GIL."""

from __future__ import annotations

import ctypes

import torch

from skyfog_inference.attention.base import Rows
from skyfog_inference.attention.build import NoKernel, library, usable_isas
from skyfog_inference.blocks import BLOCK_SIZE

MOST_HEAD_DIM = 256
KERNEL_TYPES = (torch.float32, torch.bfloat16)
_FAULTS = {
    1: (ValueError, "the kernel takes no such shape"),
    2: (ValueError, "a block table is too short or names a block beyond the cache"),
    3: (ValueError, "a sequence has more queries than its context has tokens"),
    4: (MemoryError, "no memory for the attention of this batch"),
}


class _Call(ctypes.Structure):
    """As `struct Call` in kernel/attention.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "keys", "values", "out", "starts", "lengths", "tables")),
        ("parallel", ctypes.c_void_p),
        ("query_stride", ctypes.c_int64),
        ("out_stride", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("sequences", "table_width", "blocks", "heads", "kv_heads", "head_dim")),
        *((name, ctypes.c_int32) for name in ("query_is_bf16", "cache_is_bf16", "threads")),
        ("scale", ctypes.c_float),
    )


class CpuAttention:
    """The kernel for one instruction set. A result does not depend on the rest of the batch nor on the threads.

    The threads are those of torch's OpenMP, so that the two do not compete for cores.
    """

    def __init__(self, threads: int | None = None, isa: str | None = None) -> None:
        """`threads` None: as many as torch has; `isa` None: the best. Raises NoKernel where none can be had."""
        self.isa, loaded = _load([isa] if isa else usable_isas())
        self._threads = threads
        self._function = loaded.skyfog_attention
        self._function.argtypes = (ctypes.POINTER(_Call),)
        self._parallel = _openmp()

    def __call__(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: Rows, scale: float, out: torch.Tensor
    ) -> None:
        """See attention/base.py. Raises ValueError for what does not fit together."""
        _check(query, keys, values, rows, scale, out)
        call = _Call(
            query=query.data_ptr(),
            keys=keys.data_ptr(),
            values=values.data_ptr(),
            out=out.data_ptr(),
            starts=rows.starts.data_ptr(),
            lengths=rows.lengths.data_ptr(),
            tables=rows.tables.data_ptr(),
            parallel=self._parallel,
            query_stride=query.stride(0),
            out_stride=out.stride(0),
            sequences=rows.lengths.shape[0],
            table_width=rows.tables.shape[1],
            blocks=keys.shape[0],
            heads=query.shape[1],
            kv_heads=keys.shape[1],
            head_dim=query.shape[2],
            query_is_bf16=query.dtype == torch.bfloat16,
            cache_is_bf16=keys.dtype == torch.bfloat16,
            threads=self._threads or torch.get_num_threads(),
            scale=scale,
        )
        status = self._function(ctypes.byref(call))
        if status:
            kind, message = _FAULTS[status]
            raise kind(message)


def _check(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: Rows, scale: float, out: torch.Tensor
) -> None:
    tokens, heads, head_dim = query.shape
    kv_heads = keys.shape[1]
    shape = (keys.shape[0], kv_heads, BLOCK_SIZE, head_dim)
    tensors = (query, keys, values, out, rows.starts, rows.lengths, rows.tables)
    _need(all(tensor.device.type == "cpu" for tensor in tensors), "the kernel is for tensors in the CPU's memory")
    _need(
        head_dim % 16 == 0 and head_dim <= MOST_HEAD_DIM,
        f"head_dim should be a multiple of 16 up to {MOST_HEAD_DIM}, not {head_dim}",
    )
    _need(heads % kv_heads == 0, f"{heads} heads do not share {kv_heads} key-value heads evenly")
    _need(keys.shape == shape == values.shape, f"keys and values should be one shape: {shape}")
    _need(
        query.dtype in KERNEL_TYPES and out.dtype == query.dtype and out.shape == query.shape,
        f"queries and outputs should be one shape of fp32 or bf16, not {query.dtype} and {out.dtype}",
    )
    _need(
        keys.dtype in KERNEL_TYPES and values.dtype == keys.dtype,
        f"the cache should be fp32 or bf16, not {keys.dtype} and {values.dtype}",
    )
    _need(keys.is_contiguous() and values.is_contiguous(), "keys and values should be contiguous")
    _need(
        query.stride()[1:] == (head_dim, 1) == out.stride()[1:],
        "the heads of queries and outputs should lie one after another",
    )
    _need(scale > 0, f"scale should be above 0, not {scale}")
    _check_rows(rows, tokens)


def _check_rows(rows: Rows, tokens: int) -> None:
    sequences = rows.lengths.shape[0]
    _need(
        rows.starts.shape == (sequences + 1,) and rows.tables.shape == (sequences, rows.tables.shape[1]),
        "starts, lengths and tables are not of the same sequences",
    )
    _need(
        all(part.dtype == torch.int32 and part.is_contiguous() for part in (rows.starts, rows.lengths, rows.tables)),
        "starts, lengths and tables should be contiguous int32",
    )
    _need(
        int(rows.starts[0]) == 0 and int(rows.starts[-1]) == tokens,
        f"starts should go from 0 to the {tokens} queries",
    )


def _need(true: bool, message: str) -> None:
    if not true:
        raise ValueError(message)


def _load(isas: list[str]) -> tuple[str, ctypes.CDLL]:
    """The first of the instruction sets that the compiler knows too."""
    refused: NoKernel | None = None
    for isa in isas:
        try:
            return isa, ctypes.CDLL(str(library(isa)))
        except NoKernel as error:
            refused = refused or error
        except OSError as error:  # a library for another machine, or a folder whose files may not be run
            refused = refused or NoKernel(f"the kernel does not load: {error}")
    raise refused or NoKernel("no instruction set is given")


def _openmp() -> int | None:
    """`GOMP_parallel` of the OpenMP that torch brings; None, and so one thread, where it is another kind."""
    try:
        function = ctypes.CDLL(None).GOMP_parallel
    except AttributeError:
        return None
    return ctypes.cast(function, ctypes.c_void_p).value
