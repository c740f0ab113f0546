"""Recorded spot markets: how many machines could be had (SkyServe's traces, github skypilot-org/spot-traces)."""

from __future__ import annotations

import json
import re
from pathlib import Path

from skyfog_core.errors import SkyfogError
from skyfog_core.units import S
from skyfog_pool.policy.market import Zone
from skyfog_sim.market import MarketTrace, ZoneMarket, constant, steps

FILE = re.compile(r"(?P<region>[a-z]+-[a-z]+-\d)(?P<letter>[a-z])_(?P<gpu>[a-z0-9]+)_(?P<count>\d+)\.json")

# USD an hour for Linux: AWS's list of on-demand prices for us-east-1, us-east-2 and us-west-2, which were the same in
# 2022 and 2023; spot as seen on 2022-05-31 (github ericpauley/aws-spot-price-history), the level of most zones.
ON_DEMAND = {"v100_1": 3.06, "v100_8": 24.48, "k80_1": 0.90, "k80_8": 7.20, "t4_1": 0.526}
SPOT = {"v100_1": 0.918, "v100_8": 9.74, "k80_1": 0.27, "k80_8": 2.16, "t4_1": 0.1578}


class TraceError(SkyfogError):
    """A trace cannot be used; the message says which file and why."""


def read_zone(path: Path) -> tuple[Zone, str, list[int], int]:
    """Zone, kind of machine, capacity at each tick, and ns between ticks. Raises TraceError."""
    name = FILE.fullmatch(path.name)
    if name is None:
        raise TraceError(f"{path}: the name is not ZONE_GPU_COUNT.json, as us-west-2a_v100_1.json")
    try:
        content = json.loads(path.read_text())
        gap_s, samples = content["metadata"]["gap_seconds"], content["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{path}: not a trace: {error!r}") from None
    kind = f"{name['gpu']}_{name['count']}"
    if kind not in ON_DEMAND:
        raise TraceError(f"{path}: no price is known of {kind} (there are: {', '.join(ON_DEMAND)})")
    if not isinstance(gap_s, int | float) or isinstance(gap_s, bool) or gap_s <= 0:
        raise TraceError(f"{path}: gap_seconds is {gap_s!r}, not a number above 0")
    if not isinstance(samples, list) or not samples:
        raise TraceError(f"{path}: data is not a list with samples")
    for i, sample in enumerate(samples):
        if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
            raise TraceError(f"{path}: data[{i}] is {sample!r}, not a whole number of machines")
    region = name["region"]
    return Zone(region + name["letter"], region, "aws"), kind, samples, round(gap_s * S)


def read_market(folder: Path, kind: str | None = None) -> MarketTrace:
    """All zones of a folder, or those of one kind of machine (`v100_1`); clipped to the shortest. Raises TraceError."""
    found = [read_zone(path) for path in sorted(folder.glob("*.json"))]
    found = [entry for entry in found if kind in {None, entry[1]}]
    if not found:
        raise TraceError(f"{folder}: no trace{'' if kind is None else f' of {kind}'} in it")
    several = len({kind for _, kind, _, _ in found}) > 1
    length_ns = min(len(samples) * gap_ns for _, _, samples, gap_ns in found)
    zones = [
        ZoneMarket(
            Zone(f"{zone.name}/{kind}", zone.region, zone.cloud) if several else zone,
            steps(samples, gap_ns).clipped(0, length_ns),
            constant(SPOT[kind]),
            ON_DEMAND[kind],
        )
        for zone, kind, samples, gap_ns in found
    ]
    return MarketTrace(folder.name, tuple(zones), length_ns)
