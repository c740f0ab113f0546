"""The Hierarchical Roofline Model (MoE-Lightning, section 3): how fast a computation is whose data is elsewhere.

Level i is the upper one (`device`: a GPU, or here the cores and their RAM), level j the lower one (`host`: the CPU of
that GPU, or here the disk, which computes nothing). `I_x^i` is the operational intensity of computation x at level i:
operations over bytes that are read at that level. Everything in FLOP/s, bytes/s, bytes and FLOP/byte. Pure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skyfog_core.errors import ConfigError
from skyfog_inference.models.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Level:
    """A memory and the processor beside it."""

    name: str
    flops: float  # peak, of the type that the model is in; 0: nothing computes here
    bandwidth: float  # bytes/s of the processor to its memory
    memory: float  # bytes


@dataclass(frozen=True, slots=True)
class Machine:
    """Two levels and the link between them."""

    name: str
    device: Level
    host: Level
    link: float  # bytes/s from host to device


def local(level: Level, intensity: float) -> float:
    """What is attainable where all data is on this level (equation 8): min(P_peak, B * I)."""
    return min(level.flops, level.bandwidth * intensity)


def attainable(machine: Machine, device_intensity: float, host_intensity: float) -> float:
    """What is attainable on the device with data from the host (equation 7): a third roof, the link's."""
    return min(local(machine.device, device_intensity), machine.link * host_intensity)


def first_turning_point(machine: Machine) -> float:
    """P1 as an intensity at the host (equation 9): below it, computing where the data is beats moving the data.

    I = min(P^j, B^j I) / B^{j,i}. Where the link is at least as fast as the host's memory it is 0: moving always pays.
    """
    return machine.host.flops / machine.link if machine.host.bandwidth > machine.link else 0.0


def second_turning_point(machine: Machine, device_intensity: float) -> float:
    """P2 as an intensity at the host (equation 10): below it, the link bounds the computation."""
    return local(machine.device, device_intensity) / machine.link


def balance_point(machine: Machine, device_intensity: float) -> float:
    """Where link and device memory bound alike (equation 11): B^i I^i = B^{j,i} I^j."""
    return machine.device.bandwidth * device_intensity / machine.link


def attention_intensity(model: ModelConfig, kv_bytes: float) -> float:
    """Decode attention: 4 operations a query head for 2 numbers a key-value head, whatever batch and context are."""
    return 2 * model.heads / model.kv_heads / kv_bytes


def experts_intensity(model: ModelConfig, tokens: float, weight_bytes: float) -> float:
    """The feed-forward part for so many tokens, which read every expert's weights once."""
    experts, chosen = max(model.experts, 1), model.experts_per_token or 1
    return 2 * tokens * chosen / experts / weight_bytes


def load_machine(path: Path) -> Machine:
    """The machine that `skyfog infer profile` measured. Raises ConfigError that names file and key."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from None
    try:
        return parse_machine(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_machine(document: object) -> Machine:
    """Section `machine` of a profile. Raises ConfigError that names the key."""
    machine = _section(document, "machine", "")
    device, host = (_level(machine, name) for name in ("device", "host"))
    name = machine.get("name")
    if not isinstance(name, str):
        raise ConfigError("machine.name: should be a text")
    return Machine(name, device, host, _number(machine, "link", "machine.", above_zero=True))


def machine_document(machine: Machine) -> dict[str, Any]:
    """What `parse_machine` reads."""
    levels = {
        name: {"name": level.name, "flops": level.flops, "bandwidth": level.bandwidth, "memory": level.memory}
        for name, level in (("device", machine.device), ("host", machine.host))
    }
    return {"name": machine.name, **levels, "link": machine.link}


def _level(machine: Mapping[str, Any], key: str) -> Level:
    level, at = _section(machine, key, "machine."), f"machine.{key}."
    name = level.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"{at}name: should be a text")
    flops = _number(level, "flops", at, above_zero=key == "device")
    rest = (_number(level, figure, at, above_zero=True) for figure in ("bandwidth", "memory"))
    return Level(name, flops, *rest)


def _section(document: object, key: str, at: str) -> Mapping[str, Any]:
    section = document.get(key) if isinstance(document, Mapping) else None
    if not isinstance(section, Mapping):
        raise ConfigError(f"{at}{key}: this section is missing; `skyfog infer profile` writes it")
    return section


def _number(section: Mapping[str, Any], key: str, at: str, *, above_zero: bool) -> float:
    value = section.get(key)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(value, int | float) and number and (value > 0 or (value == 0 and not above_zero)):
        return float(value)
    raise ConfigError(f"{at}{key}: should be a number {'above' if above_zero else 'of at least'} 0, not {value!r}")
