"""Recorded spot prices: a zstd TSV of AZ id, instance type, product, USD an hour, ISO time (aws-spot-price-history)."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import zstandard

from skyfog_sim.spot_traces import TraceError

PRODUCT = "Linux/UNIX"
# AWS's prefixes of AZ ids; which letter an id has differs from account to account, so that prices go by region.
REGION_OF = {"use1": "us-east-1", "use2": "us-east-2", "usw1": "us-west-1", "usw2": "us-west-2"}
INSTANCE_OF = {
    "v100_1": "p3.2xlarge",
    "v100_8": "p3.16xlarge",
    "k80_1": "p2.xlarge",
    "k80_8": "p2.8xlarge",
    "t4_1": "g4dn.xlarge",
}

Prices = Mapping[tuple[str, str], float]  # region and kind of machine, USD an hour


def read_prices(path: Path) -> Prices:
    """Median over zones and changes, by region and kind, of the kinds above. Raises TraceError."""
    kind_of = {instance: kind for kind, instance in INSTANCE_OF.items()}
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8"), 1):
                parts = line.rstrip("\n").split("\t")
                if len(parts) != 5:
                    raise TraceError(f"{path}:{number}: {len(parts)} columns, not zone, type, product, price and time")
                zone, instance, product, price, _ = parts
                region = REGION_OF.get(zone.partition("-")[0])
                if product == PRODUCT and instance in kind_of and region is not None:
                    found[region, kind_of[instance]].append(_usd(price, path, number))
    except (OSError, zstandard.ZstdError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: no prices to be read: {error}") from None
    return {key: median(prices) for key, prices in found.items()}


def _usd(text: str, path: Path, number: int) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0.0 < price < 1e4:
        raise TraceError(f"{path}:{number}: the price is {text!r}, not USD an hour")
    return price
