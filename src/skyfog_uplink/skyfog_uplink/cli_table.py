"""What `skyfog uplink table` prints. Pure: a table in, text out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid
from rich.text import Text

from skyfog_core.errors import ConfigError
from skyfog_uplink.policy.formulate import Formulation, staircase
from skyfog_uplink.policy.link import RTT_LEVELS
from skyfog_uplink.policy.model import Distribution, Option, Service, Table

MOST_RTT_MS = 600_000.0


def parse_rtts(text: str) -> tuple[float, ...]:
    """`50`, or quantiles `50,60,80,110` at RTT_LEVELS. Raises ConfigError."""
    allowed = f"one number of ms, or {len(RTT_LEVELS)} that do not fall, within 0 and {MOST_RTT_MS:g}"
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) == 1:
        numbers *= len(RTT_LEVELS)
    good = len(numbers) == len(RTT_LEVELS) and all(0 <= number <= MOST_RTT_MS for number in numbers)
    if not good or list(numbers) != sorted(numbers):
        raise ConfigError(f"--rtt: should be {allowed}, not {text!r}")
    return numbers


def show(table: Table, rtts_ms: Sequence[float]) -> Iterator[Text | Grid]:
    """The table's services, those with the same options together, and its scenes."""
    yield Text(f"{table.name}: {table.source}", overflow="fold")
    needed = Formulation(table).exactly(rtts_ms).needed_bps
    alike: dict[Any, list[int]] = {}
    for row, service in enumerate(table.services):
        alike.setdefault((service.slo_ms, service.target, service.floor, service.options), []).append(row)
    for rows in alike.values():
        services = [table.services[row] for row in rows]
        yield Text("\n".join(map(_title, services)), style="bold")
        yield _options(services[0], needed[rows[0]].tolist(), rtts_ms)
    for scene in table.scenes:
        weights = ", ".join(f"{name} x{factor:g}" for name, factor in scene.weights.items())
        above = "" if scene.above_mps is None else f" from {scene.above_mps:g} m/s"
        below = "" if scene.below_mps is None else f" below {scene.below_mps:g} m/s"
        yield Text(f"scene {scene.name}{above}{below}: {weights}", overflow="fold")


def _title(service: Service) -> str:
    return (
        f"{service.name}: {service.cloud}, {service.rate_hz:g} Hz, {100 * service.target:g} % within"
        f" {service.slo_ms:g} ms, weight {service.weight:g}"
    )


def _options(service: Service, needed: Sequence[float], rtts_ms: Sequence[float]) -> Grid:
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("option", "model", "sent"):
        grid.add_column(name, overflow="fold")
    for name in ("accuracy", "kB", "before ms", "cloud ms", "Mbit/s at RTT " + _rtt(rtts_ms)):
        grid.add_column(name, justify="right")
    grid.add_column("")
    floor = service.floor
    grid.add_row("on the car", floor.model, "", f"{floor.accuracy:.3f}", "", _span(floor.exec_ms), "", "", "floor")
    useful = {step.option for step in staircase(service, needed)}
    for at, option in enumerate(service.options):
        why = "" if at in useful else _useless(service, needed, at)
        rate = "never" if math.isinf(needed[at]) else _short(needed[at] / 1e6)
        amounts = (_span(option.bytes, 1e3), _span(option.pre_ms), _span(option.exec_ms))
        style = "" if at in useful else "dim"
        grid.add_row(
            option.name, option.model, _sent(option), f"{option.accuracy:.3f}", *amounts, rate, why, style=style
        )
    return grid


def _useless(service: Service, needed: Sequence[float], at: int) -> str:
    if math.isinf(needed[at]):
        return "never in time"
    if service.accuracy(at) <= service.floor.accuracy:
        return "no better than the floor"
    better = [
        other
        for other in range(len(needed))
        if other != at and needed[other] <= needed[at] and service.accuracy(other) >= service.accuracy(at)
    ]
    return f"below {service.options[better[0]].name}"


def _rtt(rtts_ms: Sequence[float]) -> str:
    return "..".join(f"{rtt:g}" for rtt in sorted({rtts_ms[0], rtts_ms[-1]}))


def _span(amount: Distribution, unit: float = 1.0) -> str:
    """Median and 99 %, where they differ."""
    middle, high = (_short(amount.quantile(share) / unit) for share in (0.5, 0.99))
    return middle if middle == high else f"{middle}..{high}"


def _short(value: float) -> str:
    """Three figures, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sent(option: Option) -> str:
    if option.codec == "none":
        return ""
    quality = f" {option.quality}" if option.codec in {"jpeg", "webp"} else ""
    size = f" {option.width}x{option.height}" if option.width else ""
    return f"{option.codec}{quality}{size}"


def as_json(table: Table, rtts_ms: Sequence[float]) -> str:
    """Services and options with what they need, for other programs."""
    needed = Formulation(table).exactly(rtts_ms).needed_bps.tolist()
    services = [
        {
            "name": service.name,
            "rate_hz": service.rate_hz,
            "slo_ms": service.slo_ms,
            "target": service.target,
            "weight": service.weight,
            "floor": {"model": service.floor.model, "accuracy": service.floor.accuracy},
            "options": [
                {
                    "name": option.name,
                    "model": option.model,
                    "accuracy": option.accuracy,
                    "bytes": option.bytes.mean,
                    "needed_bps": None if math.isinf(rate) else rate,
                }
                for option, rate in zip(service.options, rates, strict=False)  # the array is as wide as the longest
            ],
        }
        for service, rates in zip(table.services, needed, strict=True)
    ]
    return json.dumps({"name": table.name, "rtts_ms": list(rtts_ms), "services": services})
