"""Drives under faults, drawn from a seed: the link goes, sessions break, gateways restart, clocks jump.

outage    the link carries nothing for a while; the session holds
break     the session breaks, and comes back after a while
restart   the gateway restarts: its frames are forgotten
detour    the round trip is longer for a while
jump      the car's clock jumps, forward or back by up to a minute
flips     the scene changes every 50 ms for a while
rubbish   acknowledgements and answers that answer nothing, or come twice
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from skyfog_core.errors import SkyfogError, Status
from skyfog_core.rng import stream
from skyfog_core.units import MS, S
from skyfog_core.wire.uplink import Ack, Answer
from skyfog_sim.uplink import Contender, UplinkWorld
from skyfog_sim.uplink_check import CheckedTally
from skyfog_sim.uplink_contenders import ours
from skyfog_sim.uplink_drive import Drive, drawn_scenes
from skyfog_sim.uplink_markov import LIKE_RECORDED, PUBLISHED
from skyfog_uplink.policy.model import Table

KINDS = ("outage", "break", "restart", "detour", "jump", "flips", "rubbish")
SECONDS = 6.0
AFTER_NS = 6 * S  # after the drive: everything has ended by then
MOST_MISSED = 0.25  # of short drives with few frames; each fault may cost one more a service
MAX_CALLS = 2_000_000


@dataclass(frozen=True, slots=True)
class Fault:
    """`amount_ns`: of a detour or a jump."""

    kind: str
    at_ns: int
    length_ns: int
    amount_ns: int = 0


@dataclass(frozen=True)
class Draw:
    """A drive and what strikes it."""

    drive: Drive
    faults: tuple[Fault, ...]


@dataclass
class Seen:
    """What seeds met together."""

    seeds: int = 0
    met: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def draw(seed: int, table: Table, kinds: Iterable[str] = KINDS) -> Draw:
    """The same for the same seed."""
    random = stream(seed, "uplink faults")
    link = random.choice([*LIKE_RECORDED.values(), *PUBLISHED])
    course = link.draw(SECONDS, seed)
    chosen = list(kinds)
    faults = tuple(_fault(random.choice(chosen), random) for _ in range(random.randint(0, 4) if chosen else 0))
    gone = [(fault.at_ns, fault.at_ns + fault.length_ns) for fault in faults if fault.kind == "outage"]
    # The course goes on after the drive as it began, so that what is queued then comes through.
    course = course.without(gone, round((SECONDS + AFTER_NS / S) * S))
    drive = Drive(f"seed {seed}", table, course, link.rtt.draw(course.length_ns, seed), SECONDS, seed)
    return Draw(replace(drive, scenes=drawn_scenes(table, SECONDS, seed)), faults)


def _fault(kind: str, random: Random) -> Fault:
    at_ns, length_ns = random.randrange(round(SECONDS * S)), round(random.choice([0.05, 0.3, 1.0, 4.0]) * S)
    if kind == "detour":
        return Fault(kind, at_ns, length_ns, random.randrange(10, 200) * MS)
    if kind == "jump":
        return Fault(kind, at_ns, 0, random.choice([-60_000, -2_000, -30, 30, 2_000, 60_000]) * MS)
    return Fault(kind, at_ns, length_ns)


def inject(world: UplinkWorld, tally: CheckedTally, faults: Iterable[Fault]) -> None:
    """Schedule them."""
    kernel = world.kernel
    random = stream(world.drive.seed, "rubbish")
    for fault in faults:
        begins: dict[str, Callable[[], None]] = {
            "break": world.disconnect,
            "restart": world.restart_gateway,
            "detour": partial(_detour, world, fault.amount_ns),
            "jump": partial(_jump, world, tally, fault.amount_ns),
        }
        ends: dict[str, Callable[[], None]] = {
            "break": world.connect,
            "detour": partial(_detour, world, -fault.amount_ns),
        }
        if fault.kind in begins:
            kernel.at(fault.at_ns, begins[fault.kind])
        if fault.kind in ends:
            kernel.at(fault.at_ns + fault.length_ns, ends[fault.kind])
        for at_ns in range(fault.at_ns, fault.at_ns + fault.length_ns, 50 * MS):
            if fault.kind == "flips" and world.drive.table.scenes:
                scene = random.choice(world.drive.table.scenes)
                kernel.at(at_ns, partial(world.scene, scene.name, 10.0))
            elif fault.kind == "rubbish":
                kernel.at(at_ns, partial(_rubbish, world, random.randrange(2_000)))


def _detour(world: UplinkWorld, by_ns: int) -> None:
    world.up.late_ns += by_ns
    world.down.late_ns += by_ns


def _jump(world: UplinkWorld, tally: CheckedTally, by_ns: int) -> None:
    tally.jumped = True
    world.skew_ns += by_ns
    world.woken()


def _rubbish(world: UplinkWorld, number: int) -> None:
    world.perform(world.sender.on_ack(Ack(seq=number, received_us=number), world.now_ns))
    answer = Answer(frame=number + 1_000_000, status=Status.OK, cloud_us=0)
    world.perform(world.sender.on_answer(answer, world.now_ns))


def replay(
    seed: int, table: Table, contender: Contender | None = None, kinds: Iterable[str] = KINDS
) -> tuple[CheckedTally, str]:
    """Play one seed. Returns what broke, empty if nothing did."""
    drawn = draw(seed, table, kinds)
    tallies: list[CheckedTally] = []

    def tally(drive: Drive, name: str) -> CheckedTally:
        tallies.append(CheckedTally(drive, name))
        return tallies[0]

    world = UplinkWorld(drawn.drive, contender or ours(), tally)
    found = tallies[0]
    try:
        world.start()
        inject(world, found, drawn.faults)
        world.kernel.run(drawn.drive.length_ns + AFTER_NS, MAX_CALLS)
        world.finish()
        found.check_end(len(drawn.faults), MOST_MISSED)
    except (SkyfogError, AssertionError, ValueError, KeyError) as error:
        return found, f"{type(error).__name__}: {error} ({', '.join(f.kind for f in drawn.faults) or 'no fault'})"
    return found, ""


def run(seeds: Iterable[int], table: Table) -> Seen:
    """Play many."""
    seen = Seen()
    for seed in seeds:
        tally, why = replay(seed, table)
        seen.seeds += 1
        for name, count in tally.met.items():
            seen.met[name] = seen.met.get(name, 0) + count
        for fault in draw(seed, table).faults:
            seen.met[fault.kind] = seen.met.get(fault.kind, 0) + 1
        if why:
            seen.failures.append(f"seed {seed}: {why}")
    return seen
