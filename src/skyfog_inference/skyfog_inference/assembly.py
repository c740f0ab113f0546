"""From an EngineConfig to a running engine: model, caches, attention, runner, scheduler."""

from __future__ import annotations

import structlog
import torch

from skyfog_core.config.inference import EngineConfig
from skyfog_core.errors import ConfigError
from skyfog_inference.attention.choose import choose
from skyfog_inference.blocks import BLOCK_SIZE
from skyfog_inference.engine import Engine
from skyfog_inference.kv_cache import KVCache, block_bytes
from skyfog_inference.models.load import DTYPES, Model, choose_device, load
from skyfog_inference.runner.base import Runner
from skyfog_inference.runner.single import Side, SingleRunner
from skyfog_inference.scheduler.base import Scheduler
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.served import Served

log = structlog.get_logger()

MB = 1 << 20


def serve(config: EngineConfig) -> Served:
    """Read the model and start its engine. Raises ConfigError that names what is wrong."""
    if config.threads:
        torch.set_num_threads(config.threads)
    model = load(config.model, config.dtype, config.device)
    context = _context(config, model)
    runner = _runner(config, model)
    engine = Engine(
        _scheduler(config, runner),
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


def _context(config: EngineConfig, model: Model) -> int:
    """Tokens of the longest sequence."""
    longest = model.config.max_positions
    if config.max_context > longest:
        raise ConfigError(f"max_context: should be at most the model's {longest}, not {config.max_context}")
    return config.max_context or longest


def _runner(config: EngineConfig, model: Model) -> Runner:
    device = choose_device(config.device)
    weights = model.weights.top.embedding.dtype
    dtype = DTYPES[config.kv_dtype] if config.kv_dtype != "auto" else weights
    size = block_bytes(model.config, dtype)
    if config.device_kv_mb * MB < size:
        raise ConfigError(f"device_kv_mb: a block of {BLOCK_SIZE} tokens needs {size / MB:.1f} MB")
    blocks = config.device_kv_mb * MB // size
    sides = [Side(KVCache(model.config, blocks, dtype, device), choose(device, dtype))]
    host_blocks = config.host_kv_mb * MB // size
    if host_blocks:
        cpu = torch.device("cpu")
        cache = KVCache(model.config, host_blocks, dtype, cpu, pinned=device.type == "cuda")
        sides.append(Side(cache, choose(cpu, dtype, config.host_threads or None)))
    return SingleRunner(model.config, model.weights, *sides)


def _scheduler(config: EngineConfig, runner: Runner) -> Scheduler:
    if config.scheduler != "fcfs":
        raise ConfigError(f"scheduler: {config.scheduler} is not there yet; take fcfs")
    return FcfsScheduler(
        runner.device_blocks,
        runner.host_blocks,
        max_batched_tokens=config.max_batched_tokens,
        max_sequences=config.max_sequences,
        prefix_sharing=config.prefix_sharing,
    )
