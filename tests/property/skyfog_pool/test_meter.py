"""The load meter under any reports: each request is counted once, and what strangers send harms nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skyfog_core.units import S
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.load import MOST_LATENCIES, ReplicaLoad, RobotLoad
from skyfog_pool.policy.meter import WINDOW_NS, LoadMeter

ANY = st.integers(-(2**63), 2**64 - 1)
ROBOT_LOADS = st.builds(
    RobotLoad,
    boot=st.integers(0, 2),
    requests=ANY,
    failed=ANY,
    over_slo=ANY,
    answered=ANY,
    latency_us=st.lists(ANY, max_size=9).map(tuple),
    replicas=st.dictionaries(st.sampled_from(["a/p-1", "b/p-2", "p-3", "a/p-", "x"]), ANY),
)
REPLICA_LOADS = st.builds(
    ReplicaLoad, boot=st.integers(0, 2), finished=ANY, busy_us=ANY, queued=ANY, running=ANY, draining=st.booleans()
)


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Steps of two robots: `ask` a request, `tell` the load, `restart`, all within a minute."""
    return draw(st.lists(st.tuples(st.sampled_from("rs"), st.sampled_from(["ask", "tell", "restart"])), max_size=150))


@given(lives())
def test_each_request_that_was_told_of_is_counted_once(steps: list[tuple[str, str]]) -> None:
    meter, now_ns = LoadMeter("p"), 0
    boot, asked, told = {"r": 1, "s": 1}, {"r": 0, "s": 0}, {"r": 0, "s": 0}
    for robot in "rs":
        meter.on_robot_load(robot, RobotLoad(boot=1), 0)
    expected = 0
    for robot, step in steps:
        now_ns += WINDOW_NS // 200
        if step == "ask":
            asked[robot] += 1
        elif step == "restart":
            boot[robot], asked[robot], told[robot] = boot[robot] + 1, 0, 0
        else:
            expected += asked[robot] - told[robot]
            told[robot] = asked[robot]
            took = tuple([1_000] * min(asked[robot], MOST_LATENCIES))
            report = RobotLoad(
                boot=boot[robot], requests=asked[robot], answered=asked[robot], latency_us=took, over_slo=0
            )
            meter.on_robot_load(robot, report, now_ns)
    load = meter.load(now_ns)
    assert load is not None
    assert load.requests == expected
    assert load.over_slo == (0.0 if expected else None)
    empty = meter.load(now_ns + WINDOW_NS)
    assert empty is not None
    assert empty.requests == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.one_of(ROBOT_LOADS, REPLICA_LOADS)), max_size=30))
def test_what_comes_out_is_in_bounds_whatever_goes_in(reports: list[tuple[int, RobotLoad | ReplicaLoad]]) -> None:
    meter, now_ns = LoadMeter("p", slo_ms=5.0), 0
    for seconds, report in reports:
        now_ns += seconds * S
        if isinstance(report, RobotLoad):
            meter.on_robot_load("r", report, now_ns)
        else:
            meter.on_replica_load(ReplicaKey("a", "p-1"), report, now_ns)
        load = meter.load(now_ns)
        assert load is not None
        assert 0 < load.window_ns <= WINDOW_NS
        assert min(load.requests, load.queued, load.running) >= 0
        assert load.over_slo is None or 0.0 <= load.over_slo <= 1.0
        assert load.service_ms is None or load.service_ms >= 0.0
        assert (load.p50_ms is None) == (load.p99_ms is None)
        assert load.p50_ms is None or load.p99_ms is None or load.p50_ms <= load.p99_ms
        assert set(load.latency_ms or {}) <= {1, 2, 3}
