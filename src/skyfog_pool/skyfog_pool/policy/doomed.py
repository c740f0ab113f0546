"""Replicas whose machines the cloud is about to take, and that take requests until then: `on_notice: serve`.

Such a replica counts no more towards what is wanted, and its replacement starts at the notice. It serves until its last
moment, which its runner and the pool's policy know each for itself, or until as many others are ready as are wanted.
"""

from __future__ import annotations

from collections.abc import Iterable

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.lifecycle import SERVING, State
from skyfog_pool.policy.view import Replica

SAFETY_S = 5.0  # before the machine goes at least: clouds are not exact, and a drain takes a moment to arrive
STAYING = SERVING | {State.UNKNOWN}


def serves_for_s(left_s: float | None, drain_s: float) -> float:
    """How long a replica may serve after a notice that leaves its machine `left_s`. 0: it drains at once."""
    return 0.0 if left_s is None else max(0.0, left_s - max(drain_s, SAFETY_S))


def last_moment_ns(who: Replica, config: ReplicaPolicyConfig) -> int | None:
    """When a doomed replica that has not been drained is, at the latest; None: it is not doomed, or leaves already."""
    if not who.is_doomed or who.state not in STAYING:
        return None
    assert who.notice is not None
    if config.on_notice == "drain" or who.notice.at_ns is None:
        return 0
    return who.notice.at_ns - round(max(config.drain_seconds, SAFETY_S) * S)


def serves_ns(who: Replica, config: ReplicaPolicyConfig, now_ns: int) -> int:
    """For how long a doomed replica may go on taking requests; 0: not at all."""
    last_ns = last_moment_ns(who, config)
    return 0 if last_ns is None or not who.takes_requests else max(0, last_ns - now_ns)


def relieved(
    replicas: Iterable[Replica], config: ReplicaPolicyConfig, target: int, now_ns: int
) -> list[tuple[Replica, str]]:
    """Doomed replicas that are to drain now, and why; those first that go first."""
    replicas = list(replicas)
    left = sum(who.takes_requests for who in replicas)
    serving = [(at_ns, who.id, who) for who in replicas if (at_ns := last_moment_ns(who, config)) is not None]
    going: list[tuple[Replica, str]] = []
    for at_ns, _, who in sorted(serving, key=lambda each: each[:2]):
        others = left - who.takes_requests
        if at_ns <= now_ns:
            going.append((who, "the cloud takes its machine"))
        elif others >= target:
            going.append((who, "the cloud takes its machine, and enough others are ready"))
        else:
            continue
        left = others
    return going
