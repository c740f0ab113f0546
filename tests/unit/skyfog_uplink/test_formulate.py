"""Probabilities of an answer in time, and the least rate for it, by hand and against TURBO's formula."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from skyfog_uplink.policy.formulate import Formulation, Step, needed_bps, on_time, rtt_distribution, staircase
from skyfog_uplink.policy.model import FLOOR, Distribution, Floor, Option, Service, Table, constant

RTT_50 = (50.0,) * 4


def option(
    name: str, accuracy: float, size: float | Distribution, exec_ms: float | Distribution, pre: float = 0.0
) -> Option:
    amounts = [amount if isinstance(amount, Distribution) else constant(amount) for amount in (size, pre, exec_ms)]
    return Option(name, "m", accuracy, *amounts)


def service(*options: Option, slo_ms: float = 150.0, target: float = 0.99) -> Service:
    floor = Floor("tiny", 0.3, constant(10.0))
    return Service("s", "/s", "a/srv/B", 10.0, slo_ms, target, 1.0, floor, options)


TURBO_D2 = option("d2", 0.4, 0.39e6 / 8, 53.0)
HALVES = Distribution((1_000.0, 2_000.0), (0.5, 0.5))  # bytes
EITHER = Distribution((20.0, 60.0), (0.9, 0.1))  # ms


def test_for_constants_the_need_is_turbo_s_critical_bandwidth() -> None:
    expected = 0.39e6 / (0.150 - 0.050 - 0.053)
    assert needed_bps(TURBO_D2, service(), RTT_50) == pytest.approx(expected, rel=1e-7)
    with_pre = replace(TURBO_D2, pre_ms=constant(7.0))
    assert needed_bps(with_pre, service(), RTT_50) == pytest.approx(0.39e6 / 0.040, rel=1e-7)


def test_a_constant_is_never_in_time_below_its_need_and_always_above() -> None:
    need = needed_bps(TURBO_D2, service(), RTT_50)
    assert on_time(TURBO_D2, service(), need, RTT_50) == 1.0
    assert on_time(TURBO_D2, service(), need * 0.999_999, RTT_50) == 0.0


@pytest.mark.parametrize("exec_ms", [100.0, 170.0])
def test_what_leaves_no_time_for_the_link_is_never_enough(exec_ms: float) -> None:
    late = option("late", 0.4, 1_000.0, exec_ms)
    assert needed_bps(late, service(), RTT_50) == math.inf
    assert on_time(late, service(), 1e15, RTT_50) == 0.0


def test_sizes_and_times_are_taken_together() -> None:
    both = option("o", 0.4, HALVES, EITHER)
    rate = 8 * 1_000 / 0.060  # 60 ms for the small size, 120 ms for the large
    # 150 ms: small and quick 60 + 20, small and slow 60 + 60, large and quick 120 + 20; large and slow is late
    assert on_time(both, service(), rate, (0.0,) * 4) == pytest.approx(0.95)
    assert needed_bps(both, service(target=0.95), (0.0,) * 4) == pytest.approx(8 * 2_000 / 0.130, rel=0.005)
    assert needed_bps(both, service(target=0.96), (0.0,) * 4) == pytest.approx(8 * 2_000 / 0.090, rel=0.005)


def test_no_rate_gives_nothing_and_a_floor_is_always_in_time() -> None:
    needs = Formulation(Table("t", "", (service(TURBO_D2),))).exactly(RTT_50)
    rates = np.array([0.0, -1.0, math.nan, 5e-324, math.inf])
    assert needs.on_time(0, 0, rates).tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert needs.on_time(0, FLOOR, rates).tolist() == [1.0] * 5


def test_many_are_asked_at_once() -> None:
    table = Table("t", "", (service(TURBO_D2), service(option("o", 0.4, HALVES, EITHER), TURBO_D2)))
    needs = Formulation(table).exactly(RTT_50)
    assert needs.needed_bps.shape == (2, 2)
    assert needs.needed_bps[0, 1] == math.inf  # the first service has no second option
    assert needs.on_time(0, 1, 1e9) == 0.0
    rates = np.array([1e5, 1e6, 1e7])
    many = needs.on_time(np.array([[0], [1], [1]]), np.array([[0], [0], [1]]), rates)
    for row, (at, which) in enumerate(((0, 0), (1, 0), (1, 1))):
        one = table.services[at]
        assert many[row] == pytest.approx([on_time(one.options[which], one, rate, RTT_50) for rate in rates])


def test_the_rtt_s_tail_counts() -> None:
    steady, jittery = (50.0,) * 4, (50.0, 55.0, 65.0, 85.0)
    quick = option("quick", 0.4, 10_000.0, 30.0)
    assert needed_bps(quick, service(), jittery) > 1.9 * needed_bps(quick, service(), steady)
    assert needed_bps(quick, service(target=0.5), jittery) == pytest.approx(
        needed_bps(quick, service(target=0.5), steady), rel=0.01
    )


def test_rtt_quantiles_are_kept() -> None:
    rtt = rtt_distribution((50.0, 60.0, 80.0, 110.0))
    assert [rtt.quantile(share) for share in (0.5, 0.75, 0.9, 0.99)] == pytest.approx([50, 60, 80, 110])
    assert rtt.values[0] == pytest.approx(40.0)
    assert rtt.values[-1] == pytest.approx(110 + 30 / 9)
    assert rtt_distribution(RTT_50) == constant(50.0)


def test_what_was_worked_out_is_used_again_while_the_rtt_stays_within_a_ms() -> None:
    formulation = Formulation(Table("t", "", (service(TURBO_D2),)))
    first = formulation.under((49.2, 60.5, 70.0, 99.1))
    assert formulation.under((50.0, 60.9, 69.8, 100.0)) is first
    assert formulation.under((50.1, 60.9, 69.8, 100.0)) is not first
    for rtt in range(100):  # and forgotten in the end
        formulation.under((float(rtt),) * 4)
    assert formulation.under((49.2, 60.5, 70.0, 99.1)) is not first


def test_rounding_up_the_rtt_keeps_the_promise() -> None:
    formulation = Formulation(Table("t", "", (service(TURBO_D2),)))
    rtts = (49.2,) * 4
    assert formulation.under(rtts).needed_bps[0, 0] >= formulation.exactly(rtts).needed_bps[0, 0]


def test_the_staircase_rises_from_the_floor_and_leaves_out_what_is_worse() -> None:
    options = (option("a", 0.5, 1, 1), option("b", 0.4, 1, 1), option("c", 0.6, 1, 1), option("d", 0.2, 1, 1))
    steps = staircase(service(*options), [2e6, 3e6, 5e6, 1e6])
    assert steps == (Step(0.0, FLOOR, 0.3), Step(2e6, 0, 0.5), Step(5e6, 2, 0.6))
    assert staircase(service(*options), [math.inf] * 4) == (Step(0.0, FLOOR, 0.3),)
    assert [step.option for step in staircase(service(*options), [2e6, 3e6, 2e6, 2e6])] == [FLOOR, 2]
