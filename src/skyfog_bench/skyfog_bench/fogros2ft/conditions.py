"""What goes wrong: for each replica on its own, good and bad episodes of its network path and of its processor.

Both are two-state Markov processes in continuous time, so the length of an episode has no memory.

network     good and slow. Rate and delay are published figures: 4G uplink of one provider, mean and fifth percentile
            (13.4 and 2.5 Mbit/s), and a 5G driving study's ping, median and P99 (32 and 109 ms), as `net/` of the
            project's traces quotes them. A path is a replica's own: where the robot's own access is what is slow, no
            choice of replica helps, here or in FogROS2-FT.
contention  other processes on the replica's core, as many as when the slow-down was recorded.

That bad episodes last 5 s and take a tenth of the time is our assumption; the paper gives no figures for either.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from random import Random

from skyfog_core.rng import stream
from skyfog_core.units import MS, S

BAD_S, GOOD_S = 5.0, 45.0
NEVER: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PathState:
    """A network path in one state, the same both ways."""

    bits_per_s: float
    round_trip_ns: int

    def way_ns(self, size: int) -> int:
        """One way, for a message of `size` bytes."""
        return self.round_trip_ns // 2 + round(8 * size / self.bits_per_s * S)


GOOD_PATH = PathState(13.4e6, 32 * MS)
SLOW_PATH = PathState(2.5e6, 109 * MS)


@dataclass(frozen=True, slots=True)
class Episodes:
    """When bad episodes begin and end, in turn: times in ns, rising."""

    switches_ns: tuple[int, ...] = NEVER
    bad_at_first: bool = False

    def bad(self, at_ns: int) -> bool:
        return self.bad_at_first != bool(bisect_right(self.switches_ns, at_ns) % 2)

    def bad_share(self, until_ns: int) -> float:
        """Of the time from 0 to `until_ns`."""
        bad_ns, last_ns, bad = 0, 0, self.bad_at_first
        for switch_ns in (*(s for s in self.switches_ns if s < until_ns), until_ns):
            bad_ns += (switch_ns - last_ns) * bad
            last_ns, bad = switch_ns, not bad
        return bad_ns / until_ns


ALWAYS_GOOD, ALWAYS_BAD = Episodes(), Episodes(bad_at_first=True)


def draw_episodes(random: Random, until_ns: int, good_s: float = GOOD_S, bad_s: float = BAD_S) -> Episodes:
    """Episodes up to `until_ns`, begun in a state as common as it is in the long run."""
    bad = bad_at_first = random.random() < bad_s / (good_s + bad_s)
    switches, now_ns = [], 0
    while now_ns < until_ns:
        now_ns += max(1, round(random.expovariate(1.0 / (bad_s if bad else good_s)) * S))
        switches.append(now_ns)
        bad = not bad
    return Episodes(tuple(switches), bad_at_first)


@dataclass(frozen=True, slots=True)
class Condition:
    """Which of the two troubles there are."""

    name: str
    network: bool
    contention: bool


BOTH = Condition("both", network=True, contention=True)
NETWORK = Condition("network", network=True, contention=False)
CONTENTION = Condition("contention", network=False, contention=True)


@dataclass(frozen=True, slots=True)
class Weather:
    """The episodes of one replica."""

    network: Episodes = ALWAYS_GOOD
    contention: Episodes = ALWAYS_GOOD
    later_ns: int = 0  # added on the way to it
    good: PathState = GOOD_PATH

    def way_ns(self, size: int, at_ns: int) -> int:
        """How long a message that is sent at `at_ns` takes, one way."""
        return (SLOW_PATH if self.network.bad(at_ns) else self.good).way_ns(size)


def draw_weather(seed: int, replica: int, condition: Condition, until_ns: int) -> Weather:
    """The same for one seed and replica, however many other replicas there are."""

    def episodes(kind: str, wanted: bool) -> Episodes:
        return draw_episodes(stream(seed, kind, str(replica)), until_ns) if wanted else ALWAYS_GOOD

    return Weather(episodes("network", condition.network), episodes("contention", condition.contention))
