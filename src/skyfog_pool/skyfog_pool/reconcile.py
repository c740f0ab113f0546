"""What the store says against what the provider has: pure, and the same at a controller's start as later.

A machine belongs to the replica whose token it carries. So:

    decided, no machine, nobody asks now      ask again, with the same token
    a machine that nobody decided, or whose
    replica has ended                         give it back: it would cost for ever
    a machine that is gone, or not told of    what it was lost to, or that it went as we wished

A listing is older than its arrival: of a replica that changed after the call began it proves nothing by its silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from skyfog_core.units import S
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.market import Market
from skyfog_pool.provider.base import Ending, Instance, Phase

SETTLE_NS = 30 * S  # for how long a provider may not tell of a machine that it has just made


@dataclass(frozen=True, slots=True)
class Known:
    """A live replica, as the store has it."""

    replica: int
    token: str
    market: Market
    state: State
    instance: str = ""
    asked_ns: int = 0  # when its machine was last asked for, or first seen
    changed_ns: int = 0  # when anything of it last changed
    asking: bool = False  # a launch is under way


# Findings


@dataclass(frozen=True, slots=True)
class Has:
    """The replica's machine exists, as told: perhaps one that is to go, and stays."""

    replica: int
    instance: Instance


@dataclass(frozen=True, slots=True)
class Gone:
    """The replica has no machine any more."""

    replica: int
    ending: Ending


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Nobody has answered for the replica's machine, and nobody is asking."""

    replica: int


@dataclass(frozen=True, slots=True)
class Leak:
    """A machine that no live replica has."""

    instance: Instance


Finding = Has | Gone | AskAgain | Leak


def reconcile(
    known: Iterable[Known],
    instances: Sequence[Instance],
    listed_ns: int,
    now_ns: int,
    settle_ns: int = SETTLE_NS,
) -> list[Finding]:
    """What a listing of all machines of the pool, asked for at `listed_ns`, says."""
    by_token: dict[str, list[Instance]] = {}
    for instance in instances:
        by_token.setdefault(instance.token, []).append(instance)
    findings: list[Finding] = []
    for who in known:
        found = by_token.pop(who.token, [])
        mine = _mine(who, found)
        findings += [Leak(other) for other in found if other is not mine and _alive(other)]
        if mine is None:
            findings += _absent(who, listed_ns, now_ns, settle_ns)
        else:
            findings += _present(who, mine)
    findings += [Leak(instance) for rest in by_token.values() for instance in rest if _alive(instance)]
    return findings


def _alive(instance: Instance) -> bool:
    return instance.phase in {Phase.PENDING, Phase.RUNNING}


def _mine(who: Known, found: Sequence[Instance]) -> Instance | None:
    """The replica's machine of those with its token: the one it has, else a living one, else the first by id.

    A provider that looks and then makes may make two for one token when asked twice at once.
    """
    order = sorted(found, key=lambda instance: (instance.id != who.instance, not _alive(instance), instance.id))
    return order[0] if order else None


def _present(who: Known, mine: Instance) -> list[Finding]:
    if mine.phase is Phase.GONE:
        # A launch under way may yet be answered with this machine; its end is told again by the next listing.
        return [] if who.asking else [Gone(who.replica, mine.ending)]
    return [Has(who.replica, mine)]


def _absent(who: Known, listed_ns: int, now_ns: int, settle_ns: int) -> list[Finding]:
    if who.asking or who.changed_ns >= listed_ns:
        return []
    settled = now_ns - who.asked_ns >= settle_ns
    if who.instance:  # it had one
        return [Gone(who.replica, Ending.NONE)] if settled or who.state is State.SHUTTING_DOWN else []
    if who.state in {State.PENDING, State.PROVISIONING}:
        return [AskAgain(who.replica)]
    return [Gone(who.replica, Ending.NONE)] if settled else []
