"""What a live run wrote down, and what it comes to.

Three sources: the cameras name each image (`shots`), the recorder writes the topics, and the shaper's trace tells how
each offloaded frame ended. Times are the machine's steady clock; images are joined by their stamps.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from skyfog_bench.processes import BenchError
from skyfog_core.units import S
from skyfog_sim.uplink_result import FLAP_NS
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
    heard: bool  # some answer was published, late ones too

    @property
    def answered(self) -> bool:
        """By whomever."""
        return self.floor_ms is not None or self.option != FLOOR


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


def met_ns(heard: Sequence[Line]) -> int:
    """When the car first knew its link. Raises BenchError where it never did."""
    for line in heard:
        if line["kind"] == "link" and line["up"]:
            return int(line["at_ns"])
    raise BenchError("the car never met a gateway")


def _seen(table: Table, at: int, shot: Line, answers: Sequence[Line]) -> Seen:
    service = table.services[at]
    index = {option.name: number for number, option in enumerate(service.options)}
    in_time = [answer for answer in answers if answer["latency_ms"] <= service.slo_ms]
    floor_ms = min((answer["latency_ms"] for answer in in_time if answer["source"] == "car"), default=None)
    cloud = [answer for answer in in_time if answer["source"] == "cloud"]
    best = max(cloud, key=lambda answer: answer["accuracy"], default=None)
    option = FLOOR if best is None else index[best["option"]]
    return Seen(at, shot["shot_ns"], floor_ms, option, None if best is None else best["latency_ms"], bool(answers))


@dataclass(frozen=True, slots=True)
class Figures:
    """What live run and simulation are compared by. An image is one, however often it was sent."""

    utility: float  # mean over the images of accuracy times weight, weights normalised
    met: float  # share of images that were answered within the SLO, by whomever
    by_cloud: float  # share of images that the cloud answered within the SLO
    offloaded: float  # share of images of whose planned copy a byte was sent
    missed: float  # share of those whose answer was not in time
    withheld: float  # share of copies planned for the cloud of which no byte was sent
    changes: float  # of a service's option, a minute
    flaps: float  # of those, back to where it was within FLAP_NS, a minute


def figures(table: Table, run: Run) -> Figures:
    """Of the whole run."""
    gained = weight = 0.0
    for one in run.seen:
        service = table.services[one.service]
        weight += service.weight
        gained += service.weight * service.accuracy(one.option) * one.answered
    images = max(1, len(run.seen))
    by = outcomes(run)
    missed = sum(number for outcome, number in by.items() if outcome in MISSED)
    sent = missed + by[Outcome.ON_TIME.value]
    changes, flaps = flaps_of([(plan["at_ns"], tuple(g["option"] for g in plan["grants"])) for plan in run.plans])
    minutes = run.seconds / 60
    return Figures(
        utility=gained / max(weight, 1e-9),
        met=sum(one.answered for one in run.seen) / images,
        by_cloud=sum(one.option != FLOOR for one in run.seen) / images,
        offloaded=sent / images,
        missed=missed / max(1, sent),
        withheld=(by[Outcome.WITHHELD.value] + by[Outcome.REPLACED.value]) / max(1, by.total()),
        changes=changes / minutes,
        flaps=flaps / minutes,
    )


def flaps_of(plans: Sequence[tuple[int, tuple[int, ...]]]) -> tuple[int, int]:
    """Changes of a service's option over plans (when, options), and how many of them went back within FLAP_NS."""
    changes = flaps = 0
    left: dict[int, tuple[int, int]] = {}  # by service: when it left which option
    for (_, before), (at_ns, after) in pairwise(plans):
        for service, (old, new) in enumerate(zip(before, after, strict=True)):
            if old == new:
                continue
            changes += 1
            was_ns, was = left.get(service, (-FLAP_NS, old))
            flaps += was == new and at_ns - was_ns < FLAP_NS
            left[service] = at_ns, old
    return changes, flaps


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
                "answered": sum(one.answered for one in seen),
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


def timeline(run: Run, capacity: Callable[[int, int], int] | None) -> list[dict[str, Any]]:
    """One row a second. `capacity(begin_ns, end_ns)` is what the link could have carried, in bits; None: a lot."""
    plan_at = [plan["at_ns"] for plan in run.plans]
    found = []
    for second in range(int(run.seconds)):
        begin_ns, end_ns = run.begin_ns + second * S, run.begin_ns + (second + 1) * S
        links = [line for line in run.links if begin_ns <= line["at_ns"] < end_ns]
        ended = [line for line in run.ended if begin_ns <= line["t_ns"] < end_ns]
        seen = [one for one in run.seen if begin_ns <= one.shot_ns < end_ns]
        place = bisect_right(plan_at, end_ns) - 1
        plan = run.plans[place] if place >= 0 else None
        told = [line["sent_bps"] for line in run.states if begin_ns <= line["at_ns"] < end_ns]
        found.append(
            {
                "s": second,
                "link_mbps": capacity(begin_ns, end_ns) / 1e6 if capacity else None,
                "up": all(line["up"] for line in links) if links else None,
                "p50_mbps": links[-1]["rate_p50_bps"] / 1e6 if links else None,
                "p05_mbps": links[-1]["rate_p05_bps"] / 1e6 if links else None,
                "budget_mbps": plan["budget_bps"] / 1e6 if plan else None,
                "sent_mbps": told[-1] / 1e6 if told else None,
                "rtt_ms": links[-1]["rtt_ms"] if links else None,
                "options": "/".join(str(grant["option"]) for grant in plan["grants"]) if plan else "",
                "images": len(seen),
                "answered": sum(one.answered for one in seen),
                "by_cloud": sum(one.option != FLOOR for one in seen),
                "missed": sum(line["outcome"] in MISSED for line in ended if not line["probe"]),
            }
        )
    return found
