"""What a live run wrote down, and what it comes to.

Three sources: the cameras name each image (`shots`), the recorder writes the topics, and the shaper's trace tells how
each offloaded frame ended. Times are the machine's steady clock; images are joined by their stamps.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from skyfog_core.units import S
from skyfog_uplink.policy.frames import MISSES, Outcome
from skyfog_uplink.policy.model import FLOOR, Table

Line = Mapping[str, Any]
MISSED = frozenset(outcome.value for outcome in MISSES)


def lines(path: Path) -> list[Line]:
    """The lines of a JSON-lines file; a last one that is being written is left out."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one image: its answers that were published within the SLO."""

    service: int  # in the table's order
    shot_ns: int
    floor_ms: float | None
    option: int  # best of the cloud's; FLOOR: none
    cloud_ms: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """What was written down between two moments."""

    begin_ns: int
    end_ns: int
    seen: Sequence[Seen]
    ended: Sequence[Line]  # offloaded frames, by the shaper's trace
    plans: Sequence[Line]
    links: Sequence[Line]
    states: Sequence[Line]

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.begin_ns) / S


def cut(
    table: Table,
    begin_ns: int,
    end_ns: int,
    shots: Mapping[str, Sequence[Line]],
    heard: Sequence[Line],
    traced: Sequence[Line],
) -> Run:
    """The run between two moments. `shots` by service; `heard` by the recorder; `traced` by the shaper.

    Plans also hold the one that was in force at the begin.
    """

    def between(found: Iterable[Line], key: str) -> list[Line]:
        return [line for line in found if begin_ns <= line[key] < end_ns]

    by_kind: dict[str, list[Line]] = {}
    for line in heard:
        by_kind.setdefault(line["kind"], []).append(line)
    plans = by_kind.get("plan", [])
    first = max((at for at, line in enumerate(plans) if line["at_ns"] <= begin_ns), default=0)
    answers: dict[tuple[str, int], list[Line]] = {}
    for line in by_kind.get("answer", []):
        answers.setdefault((line["service"], line["stamp_ns"]), []).append(line)
    seen = [
        _seen(table, at, shot, answers.get((service.name, shot["stamp_ns"]), []))
        for at, service in enumerate(table.services)
        for shot in between(shots[service.name], "shot_ns")
    ]
    return Run(
        begin_ns,
        end_ns,
        sorted(seen, key=lambda one: one.shot_ns),
        between([line for line in traced if line["event"] == "ended"], "t_ns"),
        [line for line in plans[first:] if line["at_ns"] < end_ns],
        between(by_kind.get("link", []), "at_ns"),
        between(by_kind.get("state", []), "at_ns"),
    )


def _seen(table: Table, at: int, shot: Line, answers: Sequence[Line]) -> Seen:
    service = table.services[at]
    index = {option.name: number for number, option in enumerate(service.options)}
    in_time = [answer for answer in answers if answer["latency_ms"] <= service.slo_ms]
    floor_ms = min((answer["latency_ms"] for answer in in_time if answer["source"] == "car"), default=None)
    cloud = [answer for answer in in_time if answer["source"] == "cloud"]
    best = max(cloud, key=lambda answer: answer["accuracy"], default=None)
    option = FLOOR if best is None else index[best["option"]]
    return Seen(at, shot["shot_ns"], floor_ms, option, None if best is None else best["latency_ms"])


@dataclass(frozen=True, slots=True)
class Figures:
    """What live run and simulation are compared by."""

    utility: float  # mean over the images of accuracy times weight, weights normalised
    met: float  # share of images that were answered within the SLO, by whomever
    offloaded: float  # share of images whose answer in time came from the cloud
    missed: float  # share of offloaded frames of which a byte was sent and whose answer was not in time
    withheld: float  # share of frames that were to be offloaded and of which no byte was sent
    flaps: float  # changes of a service's option, a minute
    sent_mbps: float  # probes included
    probes: float  # share of the bytes that were probes


def figures(table: Table, run: Run) -> Figures:
    """Of the whole run."""
    weights = [service.weight for service in table.services]
    gained = weight = answered = 0.0
    for one in run.seen:
        service = table.services[one.service]
        weight += weights[one.service]
        is_answered = one.floor_ms is not None or one.option != FLOOR
        answered += is_answered
        gained += weights[one.service] * service.accuracy(one.option) * is_answered
    count = max(1, len(run.seen))
    frames = [line for line in run.ended if not line["probe"]]
    by = Counter(line["outcome"] for line in frames)
    missed = sum(number for outcome, number in by.items() if outcome in MISSED)
    kept = by[Outcome.WITHHELD.value] + by[Outcome.REPLACED.value]
    sent = [(line["bytes"], line["probe"]) for line in run.ended if line["link_ms"] is not None]
    bytes_ = sum(size for size, _ in sent)
    return Figures(
        gained / max(weight, 1e-9),
        answered / count,
        sum(one.option != FLOOR for one in run.seen) / count,
        missed / max(1, missed + by[Outcome.ON_TIME.value]),
        kept / max(1, len(frames)),
        flaps(run.plans) / (run.seconds / 60),
        bytes_ * 8 / run.seconds / 1e6,
        sum(size for size, probe in sent if probe) / max(1, bytes_),
    )


def flaps(plans: Sequence[Line]) -> int:
    """Changes of a service's option from one plan to the next."""
    options = [tuple(grant["option"] for grant in plan["grants"]) for plan in plans]
    return sum(sum(a != b for a, b in zip(one, other, strict=True)) for one, other in pairwise(options))


def outcomes(run: Run) -> Counter[str]:
    """How the frames ended that were to be offloaded, probes not among them."""
    return Counter(line["outcome"] for line in run.ended if not line["probe"])


def service_rows(table: Table, run: Run) -> list[dict[str, Any]]:
    """One row a service."""
    found = []
    for at, service in enumerate(table.services):
        seen = [one for one in run.seen if one.service == at]
        ended = [line for line in run.ended if line["service"] == service.name]
        by = Counter(line["outcome"] for line in ended if not line["probe"])
        floors = sorted(one.floor_ms for one in seen if one.floor_ms is not None)
        clouds = sorted(one.cloud_ms for one in seen if one.cloud_ms is not None)
        found.append(
            {
                "service": service.name,
                "images": len(seen),
                "answered": sum(one.floor_ms is not None or one.option != FLOOR for one in seen),
                "by_cloud": len(clouds),
                "missed": sum(number for outcome, number in by.items() if outcome in MISSED),
                "withheld": by[Outcome.WITHHELD.value] + by[Outcome.REPLACED.value],
                "probes": sum(line["probe"] for line in ended),
                "floor_p50_ms": _quantile(floors, 0.5),
                "floor_p99_ms": _quantile(floors, 0.99),
                "cloud_p50_ms": _quantile(clouds, 0.5),
                "cloud_p99_ms": _quantile(clouds, 0.99),
            }
        )
    return found


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def seconds(table: Table, run: Run, capacity_bps: Any) -> list[dict[str, Any]]:
    """The timeline, one row a second. `capacity_bps(begin_ns, end_ns)` is what the link could have carried."""
    names = [service.name for service in table.services]
    plan_at = [plan["at_ns"] for plan in run.plans]
    found = []
    for second in range(int(run.seconds)):
        begin_ns, end_ns = run.begin_ns + second * S, run.begin_ns + (second + 1) * S
        links = [line for line in run.links if begin_ns <= line["at_ns"] < end_ns]
        ended = [line for line in run.ended if begin_ns <= line["t_ns"] < end_ns]
        seen = [one for one in run.seen if begin_ns <= one.shot_ns < end_ns]
        place = bisect_right(plan_at, end_ns) - 1
        plan = run.plans[place] if place >= 0 else None
        sent = sum(line["bytes"] for line in ended if line["link_ms"] is not None)
        found.append(
            {
                "s": second,
                "link_mbps": capacity_bps(begin_ns, end_ns) / 1e6,
                "up": all(line["up"] for line in links) if links else None,
                "p50_mbps": links[-1]["rate_p50_bps"] / 1e6 if links else None,
                "p05_mbps": links[-1]["rate_p05_bps"] / 1e6 if links else None,
                "budget_mbps": plan["budget_bps"] / 1e6 if plan else None,
                "sent_mbps": sent * 8 / 1e6,
                "rtt_ms": links[-1]["rtt_ms"] if links else None,
                "options": "/".join(str(grant["option"]) for grant in plan["grants"]) if plan else "",
                "images": len(seen),
                "answered": sum(one.floor_ms is not None or one.option != FLOOR for one in seen),
                "by_cloud": sum(one.option != FLOOR for one in seen),
                "missed": sum(line["outcome"] in MISSED for line in ended if not line["probe"]),
            }
        )
    assert all(len(row["options"].split("/")) in (1, len(names)) for row in found)
    return found
