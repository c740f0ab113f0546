"""What options really need here: bytes of each image of the film, times from a run. For car and simulation alike.

An option that a run has hardly used takes the times of its service's other options, or else of all: what the model sees
has one size, whatever was sent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from skyfog_bench.measure import quantile
from skyfog_bench.processes import BenchError
from skyfog_bench.uplink_live.film import file_of
from skyfog_bench.uplink_live.record import Line, Run
from skyfog_uplink.encode import encode
from skyfog_uplink.policy.frames import Outcome
from skyfog_uplink.policy.model import Distribution, Table

ENOUGH = 20  # frames of an option, for a distribution of its own
VALUES = 100  # of a distribution, at most
ENVELOPE_BYTES = 128  # of a request around its image; put right by the frames of a run
LEVELS = (0.5, 0.9, 0.99)


def film_bytes(table: Table, film: Path) -> dict[str, np.ndarray]:
    """By service, [frames, options] bytes of each image in each option."""
    return {service.name: _sizes(service.options, file_of(film, service.name)) for service in table.services}


def _sizes(options: Sequence[Any], path: Path) -> np.ndarray:
    video = cv2.VideoCapture(str(path))
    rows = []
    while True:
        good, image = video.read()
        if not good:
            break
        bgr = np.asarray(image, np.uint8)
        rows.append([len(encode(bgr, option)) + ENVELOPE_BYTES for option in options])
    if not rows:
        raise BenchError(f"{path} holds no images")
    return np.array(rows)


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds, as a run found them."""

    pre: Mapping[tuple[str, int], Sequence[float]]  # by service and option: from the capture to the shaper
    cloud: Mapping[tuple[str, int], Sequence[float]]  # from a frame's last byte in to its answer out
    floor: Mapping[str, Sequence[float]]  # by service: from the capture to the car's own answer


def times(table: Table, run: Run) -> Times:
    """Raises BenchError where a service had no answer of one kind at all."""
    keys = [(service.name, at) for service in table.services for at in range(len(service.options))]
    pre = _filled(keys, run.ended, "pre_ms")
    cloud = _filled(keys, [line for line in run.ended if line["outcome"] == Outcome.ON_TIME.value], "cloud_ms")
    floor = {
        service.name: [one.floor_ms for one in run.seen if one.service == at and one.floor_ms is not None]
        for at, service in enumerate(table.services)
    }
    if not all(floor.values()):
        raise BenchError(f"the model on the car answered nothing for {', '.join(n for n, f in floor.items() if not f)}")
    return Times(pre, cloud, floor)


def _filled(keys: Sequence[tuple[str, int]], ended: Sequence[Line], what: str) -> dict[tuple[str, int], list[float]]:
    own: dict[tuple[str, int], list[float]] = {key: [] for key in keys}
    for line in ended:
        if line[what] is not None:
            own[line["service"], line["option"]].append(line[what])
    every = [ms for found in own.values() for ms in found]
    if not every:
        raise BenchError(f"no frame of the run has a {what}")
    filled = {}
    for service, option in keys:
        alike = [ms for (name, _), found in own.items() if name == service for ms in found]
        candidates = (own[service, option], alike, every)
        filled[service, option] = next((found for found in candidates if len(found) >= ENOUGH), every)
    return filled


def measured_table(table: Table, sizes: Mapping[str, np.ndarray], found: Times) -> Table:
    """The table with distributions as they were measured."""
    services = []
    for service in table.services:
        options = tuple(
            dataclasses.replace(
                option,
                bytes=distribution(sizes[service.name][:, at].tolist()),
                pre_ms=distribution(found.pre[service.name, at]),
                exec_ms=distribution(found.cloud[service.name, at]),
            )
            for at, option in enumerate(service.options)
        )
        floor = dataclasses.replace(service.floor, exec_ms=distribution(found.floor[service.name]))
        services.append(dataclasses.replace(service, options=options, floor=floor))
    return dataclasses.replace(table, services=tuple(services))


def distribution(samples: Sequence[float]) -> Distribution:
    """Of equal shares; of many samples, quantiles."""
    count = min(len(samples), VALUES)
    values = [quantile(samples, (at + 0.5) / count) for at in range(count)]
    return Distribution(tuple(values), (1 / count,) * count)


def write(table: Table, path: Path) -> None:
    """As a file that the nodes load."""
    services = {
        service.name: {
            "cloud": service.cloud,
            "type": service.type,
            "rate_hz": service.rate_hz,
            "slo_ms": service.slo_ms,
            "target": service.target,
            "weight": service.weight,
            "floor": {
                "model": service.floor.model,
                "accuracy": service.floor.accuracy,
                "exec_ms": _quantiles(service.floor.exec_ms, service.slo_ms),
                "source": "measured in this run",
            },
            "options": [
                {
                    **{key: getattr(option, key) for key in _SAME},
                    "bytes": _quantiles(option.bytes),
                    "pre_ms": _quantiles(option.pre_ms),
                    "exec_ms": _quantiles(option.exec_ms),
                    "source": "measured in this run",
                }
                for option in service.options
            ],
        }
        for service in table.services
    }
    values = {"name": table.name, "source": "bench uplink_live, warm-up", "services": services}
    path.write_text(yaml.safe_dump(values, sort_keys=False))


_SAME = ("name", "model", "accuracy", "codec", "quality", "width", "height")


def _quantiles(found: Distribution, most: float = float("inf")) -> dict[str, float]:
    """`most`: a floor that is late at times is a floor all the same, and a table must say that it can be in time."""
    return {f"p{level * 100:.0f}": min(found.quantile(level), most) for level in LEVELS}
