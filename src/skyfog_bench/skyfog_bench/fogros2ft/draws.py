"""Every latency that a request could meet, drawn before anybody is asked: common random numbers.

All policies and all numbers of replicas meet the same world: request r finds the same path, the same load and the same
run of the service at replica j, whoever asks there and when. So differences between cells are the policies' own, and
the least latency over the replicas is known for each request: nobody who asks only these replicas can be faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skyfog_bench.fogros2ft.conditions import Condition, Weather, draw_weather
from skyfog_core.rng import stream
from skyfog_core.units import MS, S

MOST_REPLICAS = 4
JITTER = 0.2  # of the pace, either way, so that calls do not keep step with anything


@dataclass(frozen=True, slots=True)
class Recording:
    """What one service was seen to take."""

    scenario: str
    quiet_ms: tuple[tuple[float, ...], ...]  # [queries][runs], alone on its core
    slowdown: tuple[float, ...]  # contended / quiet, as often as it was recorded
    request_bytes: int
    reply_bytes: int
    can_stop: bool  # whether a run ends when nobody wants it any more


@dataclass(frozen=True, slots=True)
class World:
    """One seed's requests, and what they meet at up to MOST_REPLICAS replicas."""

    recording: Recording
    calls_ns: tuple[int, ...]  # when each request is made
    quiet_ns: tuple[tuple[int, ...], ...]  # [requests][replicas]
    contended_ns: tuple[tuple[int, ...], ...]  # [requests][replicas]
    weather: tuple[Weather, ...]  # [replicas]

    def there_ns(self, replica: int, at_ns: int) -> int:
        """A request's way to a replica."""
        return self.weather[replica].way_ns(self.recording.request_bytes, at_ns) + self.weather[replica].later_ns

    def back_ns(self, replica: int, at_ns: int) -> int:
        """An answer's way."""
        return self.weather[replica].way_ns(self.recording.reply_bytes, at_ns)

    def work_ns(self, request: int, replica: int, at_ns: int) -> int:
        """How long the service takes for a run that begins at `at_ns`; what comes later does not change it."""
        contended = self.weather[replica].contention.bad(at_ns)
        return (self.contended_ns if contended else self.quiet_ns)[request][replica]

    def latency_ns(self, request: int, replica: int) -> int:
        """Of a request that is sent to that replica at once and does not wait there."""
        began_ns = self.calls_ns[request]
        now_ns = began_ns + self.there_ns(replica, began_ns)
        now_ns += self.work_ns(request, replica, now_ns)
        return now_ns + self.back_ns(replica, now_ns) - began_ns

    def least_ns(self, request: int, replicas: int) -> int:
        """The physical limit: the least over the first `replicas` replicas."""
        return min(self.latency_ns(request, replica) for replica in range(replicas))


def draw_world(
    recording: Recording,
    condition: Condition,
    requests: int,
    pace_s: float,
    seed: int,
    weather: Sequence[Weather] | None = None,
) -> World:
    """A world. Queries are the same at all replicas, runs of them are not: no run is used at two replicas.

    Raises ValueError where a query was recorded too seldom for that.
    """
    if min(len(runs) for runs in recording.quiet_ms) < MOST_REPLICAS:
        raise ValueError(f"{recording.scenario}: a query with fewer than {MOST_REPLICAS} runs")
    random = stream(seed, "requests", recording.scenario)
    calls, quiet, contended = [], [], []
    for number in range(requests):
        calls.append(round((number + 1 + JITTER * (2 * random.random() - 1)) * pace_s * S))
        runs = random.sample(random.choice(recording.quiet_ms), MOST_REPLICAS)
        quiet.append(tuple(round(ms * MS) for ms in runs))
        contended.append(tuple(round(ms * random.choice(recording.slowdown) * MS) for ms in runs))
    until_ns = calls[-1] + round(pace_s * S)
    drawn = weather or [draw_weather(seed, replica, condition, until_ns) for replica in range(MOST_REPLICAS)]
    return World(recording, tuple(calls), tuple(quiet), tuple(contended), tuple(drawn))
