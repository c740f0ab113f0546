"""NEO's part of the assembly: its two workers, and the table of times that its scheduler decides by."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog
import torch

from skyfog_core.clock import SteadyClock
from skyfog_core.config.inference import EngineConfig
from skyfog_core.errors import ConfigError
from skyfog_inference.cost.table import StageTable, load_table
from skyfog_inference.models.load import Model
from skyfog_inference.profile import cpu_name
from skyfog_inference.profile_neo import QUICK, Grid, measure_stages
from skyfog_inference.runner.pipeline import PipelineRunner
from skyfog_inference.runner.single import Side, SingleRunner
from skyfog_inference.scheduler.neo import NeoScheduler
from skyfog_inference.scheduler.neo_rules import NeoConfig

log = structlog.get_logger()


def threads(config: EngineConfig, device: torch.device) -> tuple[int, int]:
    """Of the device's worker, where that is a CPU, and of the host's. What is not given is an even share."""
    cores = len(os.sched_getaffinity(0))
    if device.type != "cpu":
        return config.threads or cores, config.host_threads or cores
    mine = config.threads or max(1, cores // 2 if not config.host_threads else cores - config.host_threads)
    return mine, config.host_threads or max(1, cores - mine)


def assemble(
    config: EngineConfig, model: Model, device: Side, host: Side | None
) -> tuple[NeoScheduler, PipelineRunner]:
    """Scheduler and runner; measures a table where the configuration names none. Raises ConfigError."""
    if host is None:
        raise ConfigError("host_kv_mb: the scheduler neo keeps a part of the keys and values on the host; 0 is too few")
    table = load_table(Path(config.profile), model=model.config.name, dtype=dtype_of(model)) if config.profile else None
    if table is None:
        table = measure(config, model, device, host, QUICK, lambda text: log.info("profile", doing=text))
    elif table.machine != machine():
        log.warning("profile_of_another_machine", profile=config.profile, measured=table.machine, here=machine())
    on_cpu = device.cache.keys.device.type == "cpu"
    limits = NeoConfig(
        max_sequences=config.max_sequences,
        max_batched_tokens=config.max_batched_tokens,
    )
    if on_cpu:  # nothing is launched, and nothing crosses a bus
        limits = replace(limits, launch_ms=table.launch_ms)
    scheduler = NeoScheduler(limits, table, device.cache.blocks, host.cache.blocks, sharing=config.prefix_sharing)
    return scheduler, PipelineRunner(model.config, model.weights, device, host)


def measure(
    config: EngineConfig, model: Model, device: Side, host: Side, grid: Grid, say: Callable[[str], None]
) -> StageTable:
    """The times of the stages on these two sides, whose caches are overwritten."""
    place = device.cache.keys.device
    mine, hosts = threads(config, place)
    return measure_stages(
        SingleRunner(model.config, model.weights, device, host),
        machine=machine(),
        dtype=dtype_of(model),
        device_threads=mine if place.type == "cpu" else 0,
        host_threads=hosts,
        grid=grid,
        clock=SteadyClock(),
        say=say,
    )


def dtype_of(model: Model) -> str:
    """Of the weights."""
    return str(model.weights.top.embedding.dtype).removeprefix("torch.")


def machine() -> str:
    """What a table's times depend on: the processor, and the accelerator where there is one."""
    return f"{cpu_name()} with {torch.cuda.get_device_name()}" if torch.cuda.is_available() else cpu_name()
