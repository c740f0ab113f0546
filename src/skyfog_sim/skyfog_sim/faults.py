"""What goes wrong, when, where and for how long: plain data, drawn from a seed and performed by the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from skyfog_core.units import MS, ns_to_ms

FaultKind = Literal[
    "kill",  # the process is gone; another comes after the pause
    "freeze",  # SIGSTOP, SIGCONT after the pause
    "slow",  # the service takes `amount` times as long
    "overload",  # `amount` requests of strangers at once
    "garbage",  # answers are bytes that are no reply
    "failing",  # the service says that it failed
    "declining",  # the service itself says that it did not run
    "drain",  # the token is dropped, and held again after the pause
    "terminate",  # SIGTERM: it finishes what it has, within `amount` ms, and ends; another comes after the pause
    "leak",  # memory is gone after `amount` requests, each slower than the one before; then as kill
    "partition",  # nothing gets through, either way
    "deaf",  # one way: nothing gets to the replica
    "mute",  # one way: nothing gets back from it
    "delay",  # `amount` ms more each way
    "loss",  # `amount` of the messages more are lost
    "offline",  # a robot loses all its links but those on itself
    "reconfigure",  # a robot routes in another way from now on
    "stop",  # a robot's proxy shuts down
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
OF_ROBOTS: frozenset[FaultKind] = frozenset({"offline", "reconfigure", "stop"})
# Whoever asks is told within a round trip, or KILL_NOTICE_NS: a policy that waits for one replica gets on.
PROMPT: frozenset[FaultKind] = frozenset({"kill", "garbage", "declining", "drain", "terminate", "failing"})


@dataclass(frozen=True, slots=True)
class Fault:
    """`target` counts replicas, or robots for those OF_ROBOTS; `zone` widens a fault of links to a whole zone."""

    kind: FaultKind
    at_ns: int
    for_ns: int
    target: int
    amount: float = 0.0
    zone: bool = False

    def __str__(self) -> str:
        amount = f", {self.amount:g}" if self.amount else ""
        where = "robot" if self.kind in OF_ROBOTS else "zone of replica" if self.zone else "replica"
        return f"{self.kind} of {where} {self.target} for {ns_to_ms(self.for_ns):.0f} ms{amount}"


def draw(
    random: Random, kinds: Sequence[FaultKind], targets: Sequence[int], robots: int, until_ns: int, lease_ns: int
) -> tuple[Fault, ...]:
    """Up to six faults before `until_ns`, in order of time; those of links may strike a whole zone."""
    faults = []
    for _ in range(random.randint(1, 6)):
        kind = random.choice(kinds)
        faults.append(
            Fault(
                kind,
                at_ns=random.randint(0, until_ns),
                for_ns=random.choice((random.randint(1, 50), random.randint(50, 2 * lease_ns // MS))) * MS,
                target=random.randrange(robots) if kind in OF_ROBOTS else random.choice(targets),
                amount=_amount(random, kind),
                zone=kind in {"partition", "deaf", "mute", "delay", "loss"} and random.random() < 0.3,
            )
        )
    return tuple(sorted(faults, key=lambda fault: fault.at_ns))


def _amount(random: Random, kind: FaultKind) -> float:
    match kind:
        case "slow":
            return random.choice((2.0, 4.0, 10.0))
        case "overload":
            return float(random.randint(2, 20))
        case "terminate":
            return float(random.choice((0, 20, 300)))
        case "leak":
            return float(random.randint(2, 12))
        case "delay":
            return float(random.choice((20, 100, 200)))
        case "loss":
            return random.choice((0.01, 0.05, 0.3))
    return 0.0
