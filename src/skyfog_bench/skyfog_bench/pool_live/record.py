"""What happened in each second of a live run, and what it comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skyfog_bench.fleet import read_trace
from skyfog_bench.measure import quantile
from skyfog_bench.messages import LONE_LANE, lane_of
from skyfog_bench.pace import Call
from skyfog_bench.pool_live.script import Taken
from skyfog_bench.pool_live.stage import ZONES, LivePool
from skyfog_core.units import MS, S
from skyfog_core.wire.keys import ReplicaKey


@dataclass(slots=True)
class Second:
    """One look at the pool."""

    ns: int
    controller: bool
    target: int | None  # as the controller told last
    live: list[ReplicaKey]  # who holds a token
    machines: int
    states: Mapping[int, str]  # by replica
    did: list[str] = field(default_factory=list)  # what the script did since the look before


def look(pool: LivePool, ns: int) -> Second:
    """Now."""
    told = pool.status()
    states = {replica["id"]: replica["state"] for replica in told.get("replicas", [])}
    return Second(ns, pool.controller_lives, told.get("target"), pool.seen.live(), len(pool.machines()), states)


def changes(before: Mapping[int, str], now: Mapping[int, str]) -> list[str]:
    """What became of replicas between two looks, as the controller tells it: `READY 3 4`."""
    by_state: dict[str, list[int]] = {}
    for replica, state in now.items():
        if before.get(replica) != state:
            by_state.setdefault(state, []).append(replica)
    by_state["gone"] = [replica for replica in before if replica not in now]
    return [f"{state} {' '.join(map(str, replicas))}" for state, replicas in by_state.items() if replicas]


def rows(seconds: Sequence[Second], calls: Mapping[str, Sequence[Call]], began_ns: int) -> list[dict[str, Any]]:
    """The timeline: one row a second, with what the calls came to that were due in it.

    `by_zone`: replicas with a token in each of stage.ZONES. Latencies and `failed` are of the idempotent lane, and
    `once` is what failed in the other.
    """
    due = {lane: _by_second(made, began_ns) for lane, made in calls.items()}
    found, states = [], seconds[0].states
    for second in seconds:
        at_s = (second.ns - began_ns) // S
        mine = {lane: made.get(at_s, []) for lane, made in due.items()}
        took_ms = _took_ms(mine["idempotent"])
        zones = Counter(who.zone for who in second.live)
        found.append(
            {
                "s": at_s,
                "controller": "lives" if second.controller else "dead",
                "target": second.target,
                "ready": len(second.live),
                "by_zone": "/".join(str(zones[zone]) for zone in ZONES),
                "machines": second.machines,
                "calls": sum(map(len, mine.values())),
                "failed": sum(map(is_failed, mine["idempotent"])),
                "once": sum(map(is_failed, mine["once"])),
                "p50_ms": quantile(took_ms, 0.5) if took_ms else None,
                "max_ms": max(took_ms, default=None),
                "did": "; ".join(second.did),
                "became": ", ".join(changes(states, second.states)),
            }
        )
        states = second.states
    return found


def _by_second(made: Sequence[Call], began_ns: int) -> dict[int, list[Call]]:
    found: dict[int, list[Call]] = {}
    for call in made:
        found.setdefault((call.due_ns - began_ns) // S, []).append(call)
    return found


def _took_ms(made: Sequence[Call]) -> list[float]:
    return [(call.answered_ns - call.sent_ns) / MS for call in made if call.answered_ns is not None]


def is_failed(call: Call) -> bool:
    """Without an answer, or with one that is not OK."""
    return call.answered_ns is None or call.status != 0


def lane_rows(calls: Mapping[str, Sequence[Call]], ran: Mapping[str, Counter[int]]) -> list[dict[str, Any]]:
    """What each lane's calls came to, and how often they were run."""
    lanes = list(calls)
    runs: dict[str, Counter[int]] = {lane: Counter() for lane in lanes}
    for counted in ran.values():
        for numbered, times in counted.items():
            if lane_of(numbered) != LONE_LANE:
                runs[lanes[lane_of(numbered)]][numbered] += times
    found = []
    for lane, made in calls.items():
        took_ms = _took_ms(made)
        found.append(
            {
                "lane": lane,
                "calls": len(made),
                "lost": sum(call.answered_ns is None for call in made),
                "failed": sum(is_failed(call) for call in made),
                "p50_ms": quantile(took_ms, 0.5) if took_ms else None,
                "p99_ms": quantile(took_ms, 0.99) if took_ms else None,
                "max_ms": max(took_ms, default=None),
                "runs": runs[lane].total(),
                "run_by_several": sum(times > 1 for times in runs[lane].values()),
            }
        )
    return found


def twice(ran: Mapping[str, Counter[int]]) -> int:
    """Calls that one replica ran more than once."""
    return sum(times > 1 for counted in ran.values() for times in counted.values())


def stops(traces: Sequence[Path], taken: Taken) -> Iterator[tuple[ReplicaKey, float, float]]:
    """For each replica that was given notice: ms until the slowest robot knew that it left, and to its last request.

    A replica that never left, because the run ended or it was cut off, is left out.
    """
    events = [[event for event in read_trace(path) if event["event"] in {"sent", "left"}] for path in traces]
    for told_ns, who in taken:
        left: list[int] = []
        sent = [0]
        for robot in events:
            mine = [event for event in robot if event.get("replica") == str(who) and event["t_ns"] >= told_ns]
            gone = next((event["t_ns"] for event in mine if event["event"] == "left"), None)
            if gone is None:
                break
            left.append(gone)
            sent += [event["t_ns"] - told_ns for event in mine if event["event"] == "sent"]
        else:
            yield who, (max(left) - told_ns) / MS, max(sent) / MS


def restored_s(seconds: Sequence[Second], target: int, after_ns: int) -> float | None:
    """From `after_ns` until as many replicas as wanted held their token at every look to come; None: never."""
    good = [second for second in seconds if second.ns >= after_ns]
    while good and len(good[-1].live) >= target:
        good.pop()
    if not good:
        return 0.0
    following = [second.ns for second in seconds if second.ns > good[-1].ns]
    return (following[0] - after_ns) / S if following else None
