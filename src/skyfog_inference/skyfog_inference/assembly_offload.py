"""A model larger than memory behind the same faces: packed weights streamed from disk, by the roofline's policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from skyfog_core.clock import SteadyClock
from skyfog_core.config.inference import EngineConfig
from skyfog_core.errors import ConfigError
from skyfog_inference import profile
from skyfog_inference.cost.hrm import Machine, load_machine
from skyfog_inference.engine import Engine
from skyfog_inference.models.config import context_within
from skyfog_inference.models.tokenizer import Tokenizer, read_tokenizer
from skyfog_inference.offload import Asked, Offloaded, build
from skyfog_inference.placement.policy import Workload
from skyfog_inference.served import Served
from skyfog_inference.weights.pages import is_packed, read_index

MB = 1 << 20


def tokenizer_of(config: EngineConfig) -> Tokenizer:
    """Of a packed model. Raises ConfigError, also where it is not packed."""
    folder = Path(config.model)
    if not is_packed(folder):
        raise ConfigError(f"model: {folder} is not packed for streaming: skyfog infer pack {folder} PACKED")
    return read_tokenizer(folder, read_index(folder)[0])


def context_of(config: EngineConfig) -> int:
    """Tokens of the longest sequence. Raises ConfigError."""
    return context_within(config.max_context, read_index(Path(config.model))[0].max_positions)


def serve(
    config: EngineConfig,
    tokenizer: Tokenizer,
    memory_mb: int,
    work: Workload,
    requests: int,
    say: Callable[[str], None],
) -> tuple[Served, Offloaded]:
    """Choose a policy for the process's memory and start the engine. Raises ConfigError that names what is wrong."""
    folder = Path(config.model)
    asked = Asked(memory_mb * MB, work, requests, order=config.order)
    made = build(folder, machine_of(config, folder, say), asked)
    say(made.predicted())
    engine = Engine(
        made.scheduler,
        made.runner,
        vocab_size=made.config.vocab_size,
        context=context_of(config),
        eos=made.config.eos_token_ids,
        detokenizer=tokenizer.stream,
        max_waiting=config.max_waiting,
    )
    engine.start()
    return Served(config.served_name or made.config.name, engine, tokenizer), made


def machine_of(config: EngineConfig, folder: Path, say: Callable[[str], None]) -> Machine:
    """From the profile, or where there is none as measured now. Raises ConfigError."""
    if not config.profile:
        say("no profile (skyfog infer profile --out FILE): measuring this machine for a few seconds")
        return profile.measure(folder, profile.QUICK, SteadyClock(), lambda _what: None)[0]
    try:
        return load_machine(Path(config.profile))
    except ConfigError as error:
        raise ConfigError(f"profile: {error}") from None
