"""The oracle and the bound on links that one can reckon by hand, and the peers' parts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from skyfog_sim.uplink_bound import bound
from skyfog_sim.uplink_drive import Drive, drawn, drawn_scenes
from skyfog_sim.uplink_link import fixed_rtt, of_rates
from skyfog_sim.uplink_oracle import oracle
from skyfog_uplink.policy.bbr import Bbr
from skyfog_uplink.policy.model import Distribution, Floor, Option, Scene, Service, Table, constant

MS = 1_000_000


def service(name: str, *options: Option, slo_ms: float = 150.0, weight: float = 1.0) -> Service:
    return Service(name, f"/{name}", "x", 10.0, slo_ms, 0.99, weight, Floor("m", 0.4, constant(10.0)), options)


def option(name: str, accuracy: float, size: float, exec_ms: float = 50.0) -> Option:
    return Option(name, "m", accuracy, constant(size), constant(0.0), constant(exec_ms))


def drive(mbps: float, *services: Service, seconds: float = 20.0) -> Drive:
    course = of_rates("constant", [mbps * 1e6])
    return Drive("d", Table("t", "", services), course, fixed_rtt(20.0), seconds, 1)


def test_what_fits_easily_is_all_taken_and_nothing_can_be_better() -> None:
    found = oracle(drive(50.0, service("one", option("good", 0.6, 10_000))))
    assert found.utility == pytest.approx(0.6, abs=0.005)
    assert found.bound.utility == pytest.approx(0.6, abs=1e-6)


def test_what_can_never_be_in_time_is_not_even_in_the_bound() -> None:
    found = oracle(drive(50.0, service("one", option("slow", 0.9, 1_000, exec_ms=140.0))))
    assert found.utility == found.bound.utility == pytest.approx(0.4)
    assert found.sent_bytes == 0


def test_a_link_for_one_of_two_serves_the_weightier_and_the_bound_agrees() -> None:
    good = option("good", 0.6, 10_000)
    both = [service(name, good, slo_ms=400.0, weight=weight) for name, weight in (("a", 1.0), ("b", 3.0))]
    found = oracle(drive(0.9, *both))  # 0.8 Mbit/s each
    assert found.bound.utility == pytest.approx((0.4 * 1 + 0.6 * 3 + 0.025) / 4, abs=0.01)
    assert 0.53 <= found.utility <= found.bound.utility


def test_the_bound_holds_for_any_prices_and_falls_as_they_are_searched() -> None:
    tight = drive(
        2.0, service("a", option("s", 0.5, 8_000), option("l", 0.6, 30_000)), service("b", option("s", 0.6, 20_000))
    )
    rough, fine = bound(tight, rounds=1), bound(tight, rounds=120)
    assert fine.utility <= rough.utility
    assert oracle(tight).utility <= fine.utility
    assert oracle(tight).utility > 0.9 * fine.utility


def test_draws_run_straight_between_the_values() -> None:
    found = drawn(Distribution((1.0, 2.0, 4.0), (0.5, 0.25, 0.25)), np.array([0.2, 0.5, 0.625, 0.75, 1.0]))
    assert found == pytest.approx([1.0, 1.0, 1.5, 2.0, 4.0])


def test_scenes_follow_each_other_within_their_bounds() -> None:
    table = Table("t", "", (), (Scene("fast", 20.0, None, {}), Scene("slow", None, 5.0, {})))
    found = drawn_scenes(table, 600.0, 1)
    assert len(found) > 8
    assert all(one.name != other.name for one, other in pairwise(found))
    assert all(scene.speed_mps >= 20 if scene.name == "fast" else scene.speed_mps <= 5 for scene in found)


def test_bbr_finds_a_constant_link_and_keeps_twice_what_is_on_its_way() -> None:
    """8 Mbit/s is a byte a microsecond; 40 ms there and back."""
    bbr = Bbr()
    now_ns, through_ns, seq = 0, 0, 0
    flying: list[tuple[int, int]] = []
    while now_ns < 3_000 * MS:
        while bbr.in_flight < bbr.window:
            bbr.on_sent(seq, 1_200, now_ns, app_limited=False)
            through_ns = max(through_ns, now_ns) + 1_200_000
            flying.append((through_ns + 40 * MS, seq))
            seq += 1
        now_ns, acked = flying.pop(0)
        bbr.on_ack(acked, now_ns)
    assert bbr.bandwidth * 1_000 == pytest.approx(1.0, rel=0.02)  # bytes a microsecond
    assert bbr.rtt_min_ns == pytest.approx(41.2 * MS, rel=0.01)
    assert bbr.window == pytest.approx(2 * 41_200, rel=0.05)
