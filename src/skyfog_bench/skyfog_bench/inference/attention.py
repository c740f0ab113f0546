"""`skyfog bench inference_attention`: decode attention on one thread, in GB/s of keys and values.

Our kernel on every instruction set that the CPU has, over blocks in order (as a prefill allocates them) and shuffled;
torch's attention and matrix products over the same keys and values without blocks; and a plain read loop over the same
bytes, which is what memory gives one thread. All take turns, round by round; times are processor time of the thread.
`error` is the largest difference from attention in fp64, for queries in fp32.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from skyfog_bench.measure import Figure, figure, ratio
from skyfog_bench.processes import Processes
from skyfog_bench.report import Goal, Report, at_least
from skyfog_core import extras

OF_BANDWIDTH = 0.85
READ, IN_ORDER = "read loop", "blocks in order"


@dataclass(frozen=True, slots=True)
class Case:
    """Heads and the type of queries and cache."""

    name: str
    kv_heads: int
    group: int
    head_dim: int
    dtype: str
    goal: bool = False


CASES = (
    Case("GQA 4", 8, 4, 64, "bfloat16", goal=True),
    Case("GQA 4", 4, 4, 128, "bfloat16", goal=True),
    Case("GQA 4", 8, 4, 64, "float32"),
    Case("MHA", 16, 1, 64, "bfloat16"),
    Case("MHA", 16, 1, 64, "float32"),
)


@dataclass(frozen=True, slots=True)
class Size:
    """What is run."""

    sequences: int
    context: int  # tokens of each
    rounds: int


FULL = Size(sequences=16, context=2_048, rounds=15)
QUICK = Size(sequences=8, context=2_048, rounds=5)


def run(_processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Raises ConfigError where torch is not there, NoKernel where there is no kernel."""
    extras.need("inference", "torch")
    report = Report("inference_attention", seed)
    with _one_thread():
        for case in CASES:
            say(f"{case.name}, head_dim {case.head_dim}, {case.dtype} …")
            rows, goals = measured(case, size, seed)
            report.rows += rows
            report.goals += goals
    return report


def measured(case: Case, size: Size, seed: int) -> tuple[list[dict[str, Any]], list[Goal]]:
    """The rows of one case, and its goal."""
    from skyfog_inference.attention.build import usable_isas  # noqa: PLC0415 - an extra

    ways, gigabytes, errors = ways_of(case, size, seed)
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(size.rounds + 1):  # the first warms up
        for name, way in ways.items():
            begun = time.thread_time()
            way()
            if number:
                took[name].append(time.thread_time() - begun)
    rows = [_row(case, name, figure([gigabytes / s for s in spans]), errors.get(name)) for name, spans in took.items()]
    if not case.goal:
        return rows, []
    best = f"{usable_isas()[0]}, {IN_ORDER}"
    share = ratio([[s] for s in took[READ]], [[s] for s in took[best]])
    name = f"{case.name}, head_dim {case.head_dim}, {case.dtype}: share of the read loop's rate"
    return rows, [at_least(name, OF_BANDWIDTH, share)]


def _row(case: Case, name: str, rate: Figure, error: float | None) -> dict[str, Any]:
    return {
        "heads": case.name,
        "head_dim": case.head_dim,
        "type": case.dtype,
        "way": name,
        "gb_s": rate.value,
        "low": rate.low,
        "high": rate.high,
        "error": None if error is None else f"{error:.1e}",
    }


Ways = dict[str, Callable[[], Any]]


def ways_of(case: Case, size: Size, seed: int) -> tuple[Ways, float, dict[str, float]]:
    """What computes the same, by name; GB of keys and values; errors of ours."""
    import torch  # noqa: PLC0415 - an extra

    from skyfog_inference.attention.base import Rows  # noqa: PLC0415 - an extra
    from skyfog_inference.attention.build import library, usable_isas  # noqa: PLC0415
    from skyfog_inference.attention.cpu import CpuAttention  # noqa: PLC0415

    dtype, source = getattr(torch, case.dtype), torch.Generator().manual_seed(seed)
    blocks, heads = size.sequences * size.context // 16, case.kv_heads * case.group
    shape = (blocks, case.kv_heads, 16, case.head_dim)
    keys, values = (torch.randn(shape, generator=source).to(dtype) for _ in "kv")
    query = torch.randn(size.sequences, heads, case.head_dim, generator=source).to(dtype)
    out, scale = torch.empty_like(query), case.head_dim**-0.5
    starts = torch.arange(size.sequences + 1, dtype=torch.int32)
    lengths = torch.full((size.sequences,), size.context, dtype=torch.int32)
    order = {IN_ORDER: torch.arange(blocks), "blocks shuffled": torch.randperm(blocks, generator=source)}
    ways: Ways = {}
    errors: dict[str, float] = {}
    tables = {name: Rows(starts, lengths, table.int().view(len(lengths), -1)) for name, table in order.items()}
    for isa in usable_isas():
        attention = CpuAttention(1, isa)
        for name, rows in tables.items():
            ways[f"{isa}, {name}"] = partial(attention, query, keys, values, rows, scale, out)
        errors[f"{isa}, {IN_ORDER}"] = _error(attention, query, keys, values, tables[IN_ORDER], scale)
    ways |= torch_ways(case, size, query, keys, values)
    read = ctypes.CDLL(str(library(usable_isas()[0]))).skyfog_read
    read.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    ways[READ] = lambda: [read(part.data_ptr(), part.nbytes) for part in (keys, values)]
    return ways, 2 * keys.nbytes / 1e9, errors


def _error(attention: Any, query: Any, keys: Any, values: Any, rows: Any, scale: float) -> float:
    """Of the first sequence's attention with queries in fp32."""
    import torch  # noqa: PLC0415 - an extra

    wide = query.float()
    out = torch.empty_like(wide)
    attention(wide, keys, values, rows, scale, out)
    key, value = (cache[rows.tables[0].long()].transpose(0, 1).flatten(1, 2).double() for cache in (keys, values))
    grouped = query[0].double().view(key.shape[0], -1, key.shape[2])
    exact = torch.softmax(grouped @ key.transpose(1, 2) * scale, dim=-1) @ value
    return float((out[0].double() - exact.flatten(0, 1)).abs().max())


def torch_ways(case: Case, size: Size, query: Any, keys: Any, values: Any) -> Ways:
    """torch's, over keys and values [sequences, kv_heads, context, head_dim]."""
    import torch  # noqa: PLC0415 - an extra

    attend = torch.nn.functional.scaled_dot_product_attention
    shape = (size.sequences, -1, case.kv_heads, 16, case.head_dim)
    key, value = (cache.view(shape).transpose(1, 2).flatten(2, 3).contiguous() for cache in (keys, values))
    one = query[:, :, None]
    grouped = query.view(size.sequences, case.kv_heads, case.group, case.head_dim)
    scale = case.head_dim**-0.5

    def products() -> Any:
        return torch.softmax(grouped @ key.transpose(2, 3) * scale, dim=-1) @ value

    ways: Ways = {"torch SDPA": lambda: attend(one, key, value, enable_gqa=case.group > 1), "torch matmul": products}
    if case.group > 1:
        ways["torch SDPA, group as queries"] = lambda: attend(grouped, key, value)
    return ways


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch  # noqa: PLC0415 - an extra

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
