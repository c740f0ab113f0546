"""The benchmarks by name, and how each is run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from skyfog_bench import faults, overhead, perception, pick_place, planning, scale, soak, tail, uplink_solve, world
from skyfog_bench.fleet import environment
from skyfog_bench.fogros2ft import bench as fogros2ft
from skyfog_bench.inference import attention as inference_attention
from skyfog_bench.inference import memory as inference_memory
from skyfog_bench.inference import neo as inference_neo
from skyfog_bench.inference import offload as inference_offload
from skyfog_bench.inference import simulator as inference_sim
from skyfog_bench.pool import bench as pool
from skyfog_bench.pool_live import bench as pool_live
from skyfog_bench.processes import BenchError, Processes
from skyfog_bench.report import Report
from skyfog_bench.uplink import bench as uplink
from skyfog_bench.uplink_live import bench as uplink_live


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark: `run(processes, size, seed, say)` with one of the two sizes."""

    run: Callable[..., Report]
    full: Any
    quick: Any  # ends within 50 s
    draws: bool = False  # it takes `out` too, a path beside which it writes pictures and data


BENCHES: dict[str, Bench] = {
    "overhead": Bench(overhead.run, overhead.FULL, overhead.QUICK),
    "soak": Bench(soak.run, soak.FULL, soak.QUICK),
    "faults": Bench(faults.run, faults.FULL, faults.QUICK),
    "tail": Bench(tail.run, tail.FULL, tail.QUICK),
    "pick_place": Bench(pick_place.run, pick_place.FULL, pick_place.QUICK),
    "world": Bench(world.run, world.FULL, world.QUICK),
    "perception": Bench(perception.run, perception.FULL, perception.QUICK),
    "planning": Bench(planning.run, planning.FULL, planning.QUICK),
    "fogros2ft": Bench(fogros2ft.run, fogros2ft.FULL, fogros2ft.QUICK, draws=True),
    "scale": Bench(scale.run, scale.FULL, scale.QUICK),
    "pool": Bench(pool.run, pool.FULL, pool.QUICK, draws=True),
    "pool_live": Bench(pool_live.run, pool_live.FULL, pool_live.QUICK, draws=True),
    "uplink": Bench(uplink.run, uplink.FULL, uplink.QUICK, draws=True),
    "uplink_live": Bench(uplink_live.run, uplink_live.FULL, uplink_live.QUICK, draws=True),
    "inference_attention": Bench(inference_attention.run, inference_attention.FULL, inference_attention.QUICK),
    "inference_memory": Bench(inference_memory.run, inference_memory.FULL, inference_memory.QUICK),
    "inference_neo": Bench(inference_neo.run, inference_neo.FULL, inference_neo.QUICK, draws=True),
    "uplink_solve": Bench(uplink_solve.run, uplink_solve.FULL, uplink_solve.QUICK),
    "inference_offload": Bench(inference_offload.run, inference_offload.FULL, inference_offload.QUICK, draws=True),
    "inference_sim": Bench(inference_sim.run, inference_sim.FULL, inference_sim.QUICK, draws=True),
}


def run(name: str, size: Any, seed: int, say: Callable[[str], None], out: Path | None = None) -> dict[str, Any]:
    """Run a benchmark and return its report as plain JSON. Every process that it started has ended then.

    `out` is where the report is going to be written: some write pictures and data beside it.

    Raises BenchError where a process does not do its part; the message ends with the tail of its log.
    """
    if name not in BENCHES:
        raise BenchError(f"no benchmark {name!r} (there are: {', '.join(BENCHES)})")
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Processes(environment()) as processes:
            bench = BENCHES[name]
            more = {"out": out} if bench.draws else {}
            report = bench.run(processes, size, seed, say, **more)
        return report.as_json()
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
