"""Measures an option table: what each way to send an image costs in bytes and ms, and what its answer is worth.

Accuracy is agreement with the answer of the first model about the captured image, uncompressed and in full size. What
a model answers, and how answers agree, is behind `Model` and `Task`: this package knows no model.

    captured image -- first model ----------------------------> reference --+
          |-- encode, as the car does -- decode, model, as the cloud does --> agreement, bytes, pre_ms, exec_ms
          +-- model on the car -------------------------------------------> the floor's
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from skyfog_core.units import ns_to_ms
from skyfog_uplink.encode import Bgr, decode, encode
from skyfog_uplink.policy.model import Option, constant

Counts = npt.NDArray[np.int64]
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
WITH_QUALITY = ("jpeg", "webp")
NOTHING = constant(0.0)
ENVELOPE_BYTES = 128  # of a request around its image: header, format, threshold, and the chunks' heads


class Model(Protocol):
    """One that can be asked about an image."""

    @property
    def name(self) -> str: ...

    def run(self, image: Bgr) -> Any:
        """Its answer."""
        ...


class Task(Protocol):
    """What the models of a table do."""

    cloud: str  # ROS service that answers
    type: str  # of it

    def compare(self, reference: Any, other: Any) -> Counts:
        """How far two answers about one image agree, in counts that add up over images."""
        ...

    def agreement(self, counts: Counts) -> float:
        """What the counts amount to, 0..1."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to have an image looked at in the cloud, and what was measured of it."""

    model: Model
    option: Option
    sizes: list[int] = field(default_factory=list)
    pre_ms: list[float] = field(default_factory=list)
    exec_ms: list[float] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)


def candidates(
    models: Sequence[Model], codecs: Sequence[str], qualities: Sequence[int], sizes: Sequence[tuple[int, int]]
) -> list[Candidate]:
    """Every model with every codec, quality (where the codec has one) and (width, height); (0, 0): as captured."""
    found = []
    for model, codec, (width, height) in product(models, dict.fromkeys(codecs), dict.fromkeys(sizes)):
        for quality in dict.fromkeys(qualities if codec in WITH_QUALITY else (100,)):
            label = codec + (str(quality) if codec in WITH_QUALITY else "") + (f"_{width}" if width else "")
            name = f"{plain(model.name)}_{label}" if len(models) > 1 else label
            option = Option(name, model.name, 0.0, NOTHING, NOTHING, NOTHING, codec, quality, width, height)
            found.append(Candidate(model, option))
    return found


def plain(name: str) -> str:
    """A name as a table's names are."""
    return re.sub(r"^(?=[^A-Za-z])", "t", re.sub(r"[^A-Za-z0-9_]", "_", name))


@dataclass(frozen=True, slots=True)
class Measured:
    """A table's figures: of each candidate, and of the model on the car, if there is one."""

    candidates: list[Candidate]
    floor: Candidate | None
    images: int


def measure(
    images: Iterable[Bgr],
    task: Task,
    ways: list[Candidate],
    on_car: Model | None,
    now_ns: Callable[[], int],
) -> Measured:
    """Run all on each image. The first candidate's model gives the reference."""
    floor = Candidate(on_car, Option("floor", on_car.name, 0.0, NOTHING, NOTHING, NOTHING)) if on_car else None
    models = {id(way.model): way.model for way in (*ways, *([floor] if floor else []))}.values()
    count = 0
    for image in images:
        if count == 0:
            for model in models:  # the first run of a session allocates
                model.run(image)
        reference = ways[0].model.run(image)
        if floor is not None:
            began_ns = now_ns()
            answer = floor.model.run(image)
            floor.exec_ms.append(ns_to_ms(now_ns() - began_ns))
            floor.counts.append(task.compare(reference, answer))
        for way in ways:
            _measure(way, image, reference, task, now_ns)
        count += 1
    return Measured(ways, floor, count)


def _measure(way: Candidate, image: Bgr, reference: Any, task: Task, now_ns: Callable[[], int]) -> None:
    began_ns = now_ns()
    data = encode(image, way.option)
    sent_ns = now_ns()
    answer = way.model.run(decode(data, way.option, image.shape[0], image.shape[1]))
    done_ns = now_ns()
    way.sizes.append(len(data) + ENVELOPE_BYTES)
    way.pre_ms.append(ns_to_ms(sent_ns - began_ns))
    way.exec_ms.append(ns_to_ms(done_ns - sent_ns))
    way.counts.append(task.compare(reference, answer))


def quantiles(samples: Sequence[float], digits: int) -> dict[str, float]:
    """As an option table has them: rounded, and the least sample that the share does not exceed."""
    ordered = np.quantile(samples, list(QUANTILES.values()), method="inverted_cdf")
    return {name: round(float(value), digits or None) for name, value in zip(QUANTILES, ordered, strict=True)}


def accuracy(task: Task, candidate: Candidate) -> float:
    """Agreement over all images."""
    return round(task.agreement(np.sum(candidate.counts, axis=0)), 4)


def chosen(measured: Measured, task: Task, most: int) -> list[Candidate]:
    """The candidates worth a row, `most` at most, by size.

    First go those that another beats in size, time and accuracy at once; then, one by one, the one whose accuracy is
    least above that of the next smaller one.
    """
    costs = [(*_cost(one), -accuracy(task, one)) for one in measured.candidates]
    kept = [
        (cost[0], -cost[2], one)
        for cost, one in zip(costs, measured.candidates, strict=True)
        if not any(_beats(other, cost) for other in costs)
    ]
    kept.sort(key=lambda each: each[:2])
    while len(kept) > most:
        gains = [after[1] - before[1] for before, after in pairwise(kept)]
        del kept[1 + int(np.argmin(gains))]
    return [one for _, _, one in kept]


def _cost(candidate: Candidate) -> tuple[float, float]:
    """Bytes, and ms besides the link."""
    return float(np.mean(candidate.sizes)), float(np.mean(candidate.pre_ms) + np.mean(candidate.exec_ms))


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def row(task: Task, candidate: Candidate) -> dict[str, Any]:
    """An option as an option table has it."""
    option = candidate.option
    size = {"width": option.width, "height": option.height} if option.width else {}
    quality = {"quality": option.quality} if option.codec in WITH_QUALITY else {}
    return {
        "name": option.name,
        "model": option.model,
        "accuracy": accuracy(task, candidate),
        "bytes": quantiles(candidate.sizes, 0),
        "pre_ms": quantiles(candidate.pre_ms, 2),
        "exec_ms": quantiles(candidate.exec_ms, 2),
        "codec": option.codec,
        **quality,
        **size,
        "source": "measured",
    }


def table_values(
    measured: Measured, task: Task, most: int, name: str, source: str, services: Sequence[str], **plain_keys: float
) -> dict[str, Any]:
    """The whole table, as UplinkTableSpec reads it; the services after the first are like it."""
    first, *others = services
    floor: dict[str, Any] = {"model": "none", "accuracy": 0.0, "exec_ms": 0.0, "source": "no model on the car"}
    if measured.floor is not None:
        floor = {
            "model": measured.floor.model.name,
            "accuracy": accuracy(task, measured.floor),
            "exec_ms": quantiles(measured.floor.exec_ms, 2),
            "source": "measured",
        }
    whole = {
        "cloud": task.cloud,
        "type": task.type,
        **plain_keys,
        "floor": floor,
        "options": [row(task, one) for one in chosen(measured, task, most)],
    }
    return {"name": name, "source": source, "services": {first: whole, **{each: {"like": first} for each in others}}}
