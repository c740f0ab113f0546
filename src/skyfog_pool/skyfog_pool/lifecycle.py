"""The life of one replica, in SkyServe's words, and DRAINING, which SkyServe lacks.

    PENDING -----> PROVISIONING -----> STARTING -----> READY <----> NOT_READY
    decided        provider asked      machine runs,   takes        answers no probe
                                       service warms   requests

    any of them --notice or retire--> DRAINING ----> SHUTTING_DOWN ----> TERMINATED
                                      token dropped  provider asked      machine gone, as we wished

    Ends that we did not wish: PREEMPTED (the market took the machine), FAILED_PROVISION (no machine came),
    FAILED_INITIAL_DELAY (never ready in time), FAILED_PROBING (was ready, then silent for too long), FAILED (the
    service ended by itself), FAILED_CLEANUP (the provider did not take the machine back: it may still cost).

Before the end of a failure the machine is given back (the replica is SHUTTING_DOWN, and knows how it will end), so that
a FAILED_* replica holds none; FAILED_CLEANUP alone does, and is asked back again and again.
"""

from __future__ import annotations

from enum import StrEnum

from skyfog_core.errors import SkyfogError


class State(StrEnum):
    """Of a replica. Names are SkyServe's (SkyPilot 0.14, ReplicaStatus), and DRAINING and TERMINATED."""

    PENDING = "PENDING"
    PROVISIONING = "PROVISIONING"
    STARTING = "STARTING"
    READY = "READY"
    NOT_READY = "NOT_READY"
    DRAINING = "DRAINING"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    TERMINATED = "TERMINATED"
    PREEMPTED = "PREEMPTED"
    FAILED = "FAILED"
    FAILED_INITIAL_DELAY = "FAILED_INITIAL_DELAY"
    FAILED_PROBING = "FAILED_PROBING"
    FAILED_PROVISION = "FAILED_PROVISION"
    FAILED_CLEANUP = "FAILED_CLEANUP"
    UNKNOWN = "UNKNOWN"


LAUNCHING = frozenset({State.PENDING, State.PROVISIONING, State.STARTING})
SERVING = frozenset({*LAUNCHING, State.READY, State.NOT_READY})  # is, or is to be, of use: counts towards the target
LEAVING = frozenset({State.DRAINING, State.SHUTTING_DOWN})
LIVE = SERVING | LEAVING | {State.UNKNOWN, State.FAILED_CLEANUP}  # may hold a machine
FAILURES = frozenset({State.FAILED, State.FAILED_INITIAL_DELAY, State.FAILED_PROBING})  # of the service, not the market
ENDED = frozenset(State) - LIVE

_LOSSES = {State.PREEMPTED, State.FAILED, State.SHUTTING_DOWN, State.UNKNOWN}
NEXT: dict[State, frozenset[State]] = {
    State.PENDING: frozenset({State.PROVISIONING, State.TERMINATED, State.FAILED_PROVISION}),
    State.PROVISIONING: frozenset({State.STARTING, State.FAILED_PROVISION, *_LOSSES}),
    State.STARTING: frozenset({State.READY, State.DRAINING, State.FAILED_INITIAL_DELAY, *_LOSSES}),
    State.READY: frozenset({State.NOT_READY, State.DRAINING, *_LOSSES}),
    State.NOT_READY: frozenset({State.READY, State.DRAINING, State.FAILED_PROBING, *_LOSSES}),
    State.DRAINING: frozenset(_LOSSES),
    State.SHUTTING_DOWN: frozenset({State.TERMINATED, State.PREEMPTED, State.FAILED_CLEANUP, *FAILURES}),
    State.FAILED_CLEANUP: frozenset({State.SHUTTING_DOWN}),
    State.UNKNOWN: frozenset(State) - {State.UNKNOWN, State.PENDING},
}


class BadTransition(SkyfogError):
    """A replica cannot go from one state to the other."""


def step(old: State, new: State) -> State:
    """`new`, where it may follow `old`. Raises BadTransition."""
    if new not in NEXT.get(old, frozenset()):
        raise BadTransition(f"no replica goes from {old} to {new}")
    return new
