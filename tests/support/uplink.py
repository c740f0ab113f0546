"""Doubles and small tables for tests of the uplink."""

from __future__ import annotations

from dataclasses import replace

from skyfog_core.units import MS
from skyfog_uplink.policy.frames import Frame
from skyfog_uplink.policy.link import LEVELS, RTT_LEVELS, LinkState, down
from skyfog_uplink.policy.model import FLOOR, Floor, Option, Service, Table, constant
from skyfog_uplink.policy.plan import Grant, Plan


def option(name: str = "cloud", size: float = 10_000, exec_ms: float = 20, accuracy: float = 0.6) -> Option:
    return Option(name, "model", accuracy, constant(size), constant(0), constant(exec_ms))


def service(name: str = "a", slo_ms: float = 150, rate_hz: float = 10, *options: Option) -> Service:
    floor = Floor("small", 0.3, constant(30))
    return Service(name, f"/{name}", "t/srv/T", rate_hz, slo_ms, 0.95, 1.0, floor, options or (option(),))


def table(*services: Service) -> Table:
    return Table("test", "", services or (service(),))


def plan(*grants: Grant, number: int = 0) -> Plan:
    return Plan(number, 0, sum(grant.rate_bps for grant in grants), grants, 0.0)


def grant(name: str = "a", rate_bps: float = 8e6, option: int = 0, probe_bps: float = 0.0) -> Grant:
    return Grant(name, option, rate_bps, probe=0 if probe_bps else FLOOR, probe_bps=probe_bps)


def frame(
    number: int, name: str = "a", at_ns: int = 0, slo_ms: float = 150, size: int = 10_000, **more: object
) -> Frame:
    return Frame(number, name, 0, at_ns, at_ns + int(slo_ms * MS), size, **more)  # type: ignore[arg-type]


def link(rate_bps: float = 8e6, rtt_ms: float = 40.0, now_ns: int = 0) -> LinkState:
    """Known for sure."""
    return LinkState(now_ns, True, (rate_bps,) * len(LEVELS), (rtt_ms,) * len(RTT_LEVELS), rtt_ms, rtt_ms)


class FixedEstimator:
    """Knows what it is told by the test: `known`, until that is changed."""

    def __init__(self, known: LinkState | None = None) -> None:
        self.known = known or link()
        self.sent: list[tuple[int, int]] = []
        self.acked: list[int] = []
        self.ping = False
        self.stepped = False
        self.connected = False

    def on_sent(self, seq: int, size: int, now_ns: int) -> None:
        self.sent.append((seq, size))
        self.ping = False

    def on_ack(self, seq: int, received_us: int, now_ns: int) -> None:
        self.acked.append(seq)

    def on_connected(self, now_ns: int) -> None:
        self.connected = True

    def on_disconnected(self, now_ns: int) -> None:
        self.connected = False

    def state(self, now_ns: int) -> LinkState:
        return replace(self.known, now_ns=now_ns) if self.connected else down(now_ns)

    def ping_due(self, now_ns: int) -> bool:
        return self.ping

    def on_timer(self, now_ns: int) -> bool:
        stepped, self.stepped = self.stepped, False
        return stepped

    def next_timer_ns(self) -> int | None:
        return None

    def check(self) -> None:
        pass
