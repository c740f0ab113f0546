"""From an EngineConfig to a running engine: model, caches, attention, runner, scheduler."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import torch

from skyfog_core.config.inference import EngineConfig
from skyfog_core.errors import ConfigError
from skyfog_inference import assembly_neo
from skyfog_inference.attention.choose import choose
from skyfog_inference.blocks import BLOCK_SIZE
from skyfog_inference.cost.table import StageTable
from skyfog_inference.engine import Engine
from skyfog_inference.kv_cache import KVCache, block_bytes
from skyfog_inference.models.config import context_within
from skyfog_inference.models.load import DTYPES, Model, choose_device, load
from skyfog_inference.profile_neo import Grid
from skyfog_inference.runner.base import Runner
from skyfog_inference.runner.single import Side, SingleRunner
from skyfog_inference.scheduler.base import Scheduler
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.served import Served

log = structlog.get_logger()

MB = 1 << 20


def serve(config: EngineConfig) -> Served:
    """Read the model and start its engine. Raises ConfigError that names what is wrong."""
    device = choose_device(config.device)
    threads, host_threads = _threads(config, device)
    torch.set_num_threads(threads)
    model = load(config.model, config.dtype, config.device)
    context = context_within(config.max_context, model.config.max_positions)
    scheduler, runner = _parts(config, model, _sides(config, model, device, threads, host_threads))
    engine = Engine(
        scheduler,
        runner,
        vocab_size=model.config.vocab_size,
        context=context,
        eos=model.config.eos_token_ids,
        detokenizer=model.tokenizer.stream,
        max_waiting=config.max_waiting,
    )
    engine.start()
    log.info(
        "engine_started",
        model=model.config.name,
        scheduler=config.scheduler,
        context=context,
        device_tokens=runner.device_blocks * BLOCK_SIZE,
        host_tokens=runner.host_blocks * BLOCK_SIZE,
    )
    return Served(config.served_name or model.config.name, engine, model.tokenizer)


def profiled(config: EngineConfig, grid: Grid, say: Callable[[str], None]) -> StageTable:
    """The times by which the scheduler neo decides, measured on the model and the workers that `config` describes.

    Raises ConfigError.
    """
    device = choose_device(config.device)
    threads, host_threads = assembly_neo.threads(config, device)
    torch.set_num_threads(threads)
    model = load(config.model, config.dtype, config.device)
    sides = _sides(config, model, device, threads, host_threads)
    if len(sides) < 2:
        raise ConfigError("host_kv_mb: 0 is too few to measure the host's attention")
    return assembly_neo.measure(config, model, sides[0], sides[1], grid, say)


def _threads(config: EngineConfig, device: torch.device) -> tuple[int, int]:
    """Of torch, and of attention on the host."""
    if config.scheduler == "neo":
        return assembly_neo.threads(config, device)
    threads = config.threads or torch.get_num_threads()
    return threads, config.host_threads or threads


def _sides(config: EngineConfig, model: Model, device: torch.device, threads: int, host_threads: int) -> list[Side]:
    """The device's cache and attention, and the host's where it has any memory for them."""
    dtype = DTYPES[config.kv_dtype] if config.kv_dtype != "auto" else model.weights.top.embedding.dtype
    size = block_bytes(model.config, dtype)
    if config.device_kv_mb * MB < size:
        raise ConfigError(f"device_kv_mb: a block of {BLOCK_SIZE} tokens needs {size / MB:.1f} MB")
    sides = [
        Side(KVCache(model.config, config.device_kv_mb * MB // size, dtype, device), choose(device, dtype, threads))
    ]
    host_blocks = config.host_kv_mb * MB // size
    if host_blocks:
        cpu = torch.device("cpu")
        cache = KVCache(model.config, host_blocks, dtype, cpu, pinned=device.type == "cuda")
        sides.append(Side(cache, choose(cpu, dtype, host_threads)))
    return sides


def _parts(config: EngineConfig, model: Model, sides: list[Side]) -> tuple[Scheduler, Runner]:
    if config.scheduler == "neo":
        return assembly_neo.assemble(config, model, sides[0], sides[1] if len(sides) > 1 else None)
    runner = SingleRunner(model.config, model.weights, sides[0], sides[1] if len(sides) > 1 else None)
    scheduler = FcfsScheduler(
        runner.device_blocks,
        runner.host_blocks,
        max_batched_tokens=config.max_batched_tokens,
        max_sequences=config.max_sequences,
        prefix_sharing=config.prefix_sharing,
    )
    return scheduler, runner
