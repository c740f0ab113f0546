"""The estimator over links whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from skyfog_core.config.uplink import EstimatorConfig
from skyfog_core.units import MS, US, S
from skyfog_sim.uplink_link import LTE_RTT, Course, of_function, of_rates
from skyfog_uplink.policy.estimate import MAX_OPEN, SMALL_BYTES, LinkEstimator
from skyfog_uplink.policy.link import LEVELS, LinkState
from support.uplink_probe import MEDIAN, Sender

MBIT = 1e6
LOW = LEVELS.index(0.05)


def estimator() -> LinkEstimator:
    return LinkEstimator(EstimatorConfig())


def steady(mbps: float) -> Course:
    return of_rates("steady", [mbps * MBIT] * 60, 1_000)


def median_mbps(sender: Sender) -> float:
    return sender.estimator.state(sender.now_ns).rates_bps[MEDIAN] / MBIT


@pytest.mark.parametrize("mbps", [0.8, 4.0, 20.0, 100.0])
@pytest.mark.parametrize("load", [0.2, 0.7, 2.0])
def test_the_rate_of_a_steady_link_is_found_at_any_load(mbps: float, load: float) -> None:
    sender = Sender(steady(mbps), estimator(), int(mbps * MBIT / 8 * 0.1 * load)).run(20)
    rates = sender.estimator.state(sender.now_ns).rates_bps
    # Frames of one chunk and less on a slow link cannot be told from the way's delay so well.
    assert rates[MEDIAN] == pytest.approx(mbps * MBIT, rel=0.15 if sender.frame_bytes > 10_000 else 0.4)
    if sender.frame_bytes > 10_000:
        assert rates[LOW] > 0.6 * mbps * MBIT


def test_what_is_sent_at_its_own_pace_is_not_taken_for_the_links() -> None:
    """A chunk every 20 ms over a way with jitter: each leaves before the one before it has come, and meets no queue."""
    rtt = LTE_RTT.draw(30 * S, 3)
    sender = Sender(steady(30.0), estimator(), 8_000, every_ns=20 * MS, rtt=rtt).run(20)
    assert median_mbps(sender) > 5.0  # sent: 3.2; more cannot be told from chunks that meet no queue
    sender.frame_bytes = 60_000
    assert median_mbps(sender.run(22)) > 20.0


def test_jitter_between_chunks_that_meet_no_queue_is_no_service() -> None:
    """2 kB every 4 ms: with jitter each is still on its way when the next leaves, though the link is long idle."""
    sender = Sender(steady(30.0), estimator(), 60_000, rtt=LTE_RTT.draw(30 * S, 3)).run(5)
    assert median_mbps(sender) > 20
    sender.frame_bytes, sender.every_ns = 2_000, 4 * MS
    assert median_mbps(sender.run(8)) > 12


def test_a_ping_behind_a_chunk_is_no_round_trip_where_jitter_hides_the_queue() -> None:
    link, seq = estimator(), 0
    link.on_connected(0)

    def there_and_back(size: int, sent_ns: int, up_ms: int) -> None:
        nonlocal seq
        link.on_sent(seq, size, sent_ns)
        acks.append((seq, (sent_ns + up_ms * MS) // US, sent_ns + (up_ms + 15) * MS))
        seq += 1

    for at in range(130):
        acks: list[tuple[int, int, int]] = []
        if at < 100:
            there_and_back(40, at * 200 * MS, 75 if at % 5 == 0 else 15)
        else:
            there_and_back(8_192, at * 200 * MS, 79)
            there_and_back(40, at * 200 * MS + 10 * MS, 70)
        for ack in acks:
            link.on_ack(*ack)
    assert link.state(26 * S).rtts_ms[1] < 45


def test_a_step_down_lowers_the_state_before_the_chunk_is_through() -> None:
    course = of_function("step", lambda t: 20 * MBIT if t < 10 else 0.2 * MBIT, 20)
    sender = Sender(course, estimator(), 100_000).run(10)
    before = median_mbps(sender)
    sender.run(10.15)
    assert before == pytest.approx(20, rel=0.2)
    assert median_mbps(sender) < 0.5 * before
    assert sender.estimator.state(sender.now_ns).queue_growth > 0


def test_a_step_up_is_seen_by_the_next_frames() -> None:
    course = of_function("step", lambda t: (2 if t < 10 else 20) * MBIT, 20)
    sender = Sender(course, estimator(), 20_000).run(9.9)
    assert median_mbps(sender) == pytest.approx(2, rel=0.2)
    assert median_mbps(sender.run(10.5)) > 7
    assert median_mbps(sender.run(11.5)) > 12


def test_bursts_of_a_cellular_scheduler_are_no_rate_of_their_own() -> None:
    """Sixteen packets at once every 16 ms: 12 Mbit/s."""
    course = of_function("bursts", lambda t: 192 * MBIT if round(t * 1_000) % 16 == 0 else 0.0, 30)
    sender = Sender(course, estimator(), 60_000).run(20)
    assert median_mbps(sender) == pytest.approx(12, rel=0.3)


def test_gaps_are_in_the_low_quantiles() -> None:
    """A tenth of all time the link stands still, for 150 ms each."""
    course = of_function("gaps", lambda t: 0.0 if t % 1.5 < 0.15 else 8 * MBIT, 30)
    sender = Sender(course, estimator(), 80_000).run(30)
    rates = sender.estimator.state(sender.now_ns).rates_bps
    assert rates[LOW] < 3 * MBIT
    assert rates[MEDIAN] > 5 * MBIT


@pytest.mark.parametrize("drift", [-2e-4, 0.0, 2e-4])
@pytest.mark.parametrize("offset_ns", [0, 86_400 * S])
def test_the_gateways_clock_may_differ_and_drift(drift: float, offset_ns: int) -> None:
    sender = Sender(steady(8.0), estimator(), 50_000, drift=drift, offset_ns=offset_ns).run(30)
    state = sender.estimator.state(sender.now_ns)
    assert state.rates_bps[MEDIAN] == pytest.approx(8 * MBIT, rel=0.15)
    assert state.rtt_min_ms == pytest.approx(30, abs=6)
    assert not sender.estimator.ignored


def test_round_trips_are_those_without_a_queue_of_ours() -> None:
    sender = Sender(steady(1.0), estimator(), 30_000).run(20)  # 2.4 times what the link takes
    state = sender.estimator.state(sender.now_ns)
    assert state.rtt_min_ms == pytest.approx(30, abs=3)
    assert state.rtts_ms[0] < 60
    assert state.queue_ms > 20


def test_round_trips_follow_a_spell_of_delay() -> None:
    sender = Sender(steady(10.0), estimator(), 20_000, rtt=LTE_RTT.draw(120 * S, 5))
    within, seen = [0, 0], 0

    def watch(now_ns: int, sent: bool) -> None:
        nonlocal seen
        if sent and now_ns > 10 * S:
            rtts = sender.estimator.state(now_ns).rtts_ms
            took = 2 * sender.rtt.one_way_ns(now_ns + 75 * MS) / MS
            seen += 1
            within[0] += took <= rtts[0]
            within[1] += took <= rtts[-1]

    sender.watch = watch
    sender.run(60)
    assert within[0] / seen == pytest.approx(0.5, abs=0.15)
    assert within[1] / seen > 0.97


def test_an_outage_is_seen_within_200_ms_and_its_end_at_the_first_acknowledgement() -> None:
    course = of_function("outage", lambda t: 0.0 if 5 <= t < 7 else 5 * MBIT, 10)
    sender = Sender(course, estimator(), 30_000)
    ups: list[tuple[float, bool]] = []
    sender.watch = lambda now_ns, _: ups.append((now_ns / S, sender.estimator.state(now_ns).up))
    sender.run(9)
    gone = next(at for at, up in ups if at > 4.9 and not up)
    back = next(at for at, up in ups if at > gone and up)
    assert 5.15 < gone < 5.26  # what came last was under way for a moment yet
    assert 7.0 <= back < 7.05


def test_on_timer_tells_of_an_outage_once_and_the_timer_is_set_for_it() -> None:
    link = estimator()
    link.on_connected(0)
    link.on_sent(0, 40, 0)
    link.on_ack(0, 1_000, 30 * MS)
    link.on_sent(1, 40, 40 * MS)
    due_ns = link.next_timer_ns()
    assert due_ns is not None
    assert not link.on_timer(due_ns - 2)
    assert link.state(due_ns - 2).up
    assert link.on_timer(due_ns)
    assert not link.on_timer(due_ns + 1)
    assert link.next_timer_ns() is None
    assert not link.state(due_ns).up
    assert due_ns - 40 * MS <= 201 * MS


def test_a_chunk_that_takes_far_too_long_is_told_once_before_an_outage() -> None:
    sender = Sender(of_function("stop", lambda t: 20 * MBIT if t < 5 else 0.0, 20), estimator(), 100_000).run(5.001)
    link = sender.estimator
    due_ns = link.next_timer_ns()
    assert due_ns is not None
    assert due_ns < 5.1 * S
    assert link.on_timer(due_ns)
    assert not link.on_timer(due_ns + MS)
    assert link.state(due_ns + MS).up


def test_nothing_is_up_before_the_first_acknowledgement_and_after_a_disconnect() -> None:
    link = estimator()
    assert not link.state(0).up
    assert not link.ping_due(0)
    link.on_connected(0)
    assert link.ping_due(0)
    assert not link.state(0).up
    link.on_sent(0, 40, 0)
    link.on_ack(0, 5, 20 * MS)
    assert link.state(20 * MS).up
    link.on_sent(1, 40, 25 * MS)
    link.on_disconnected(30 * MS)
    state = link.state(30 * MS)
    assert (state.up, state.in_flight_bytes, link.lost) == (False, 0, 1)


def test_pings_are_rare_in_an_outage() -> None:
    link = estimator()
    link.on_connected(0)
    pings = 0
    for now_ns in range(0, 60 * S, MS):
        if link.ping_due(now_ns):
            link.on_sent(pings, 40, now_ns)
            pings += 1
    assert 200 < pings < 300
    link.check()


def test_what_a_later_acknowledgement_passes_over_is_lost() -> None:
    link = estimator()
    link.on_connected(0)
    for seq in range(6):
        link.on_sent(seq, 1_000, seq * MS)
    link.on_ack(5, 10_000, 40 * MS)
    assert link.lost == 3
    assert link.state(40 * MS).in_flight_bytes == 2_000  # 3 and 4 may yet be out of order
    assert link.state(40 * MS).loss > 0
    link.check()


def heard(link: LinkEstimator, seq: int, now_ns: int, received_us: float | None = None) -> LinkState:
    """A ping there and back, 30 ms."""
    link.on_sent(seq, 40, now_ns)
    link.on_ack(seq, (now_ns + 15 * MS) // US if received_us is None else received_us, now_ns + 30 * MS)  # type: ignore[arg-type]
    return link.state(now_ns + 30 * MS)


@pytest.mark.parametrize(
    ("cause", "act"),
    [
        ("ack", lambda link: link.on_ack(999, 1, 900 * MS)),  # unknown
        ("ack", lambda link: link.on_ack(3, 45_000, 900 * MS)),  # a second time
        ("sent", lambda link: link.on_sent(3, 10, 900 * MS)),
        ("sent", lambda link: link.on_sent(500, -1, 900 * MS)),
        ("sent", lambda link: link.on_sent(500, math.nan, 900 * MS)),
        ("received", lambda link: heard(link, 500, 900 * MS, received_us=-1)),
        ("received", lambda link: heard(link, 500, 900 * MS, received_us=math.nan)),
        ("received", lambda link: heard(link, 500, 900 * MS, received_us=math.inf)),
    ],
)
def test_garbage_is_counted_and_changes_nothing(cause: str, act: Callable[[LinkEstimator], object]) -> None:
    link = estimator()
    link.on_connected(0)
    for seq in range(10):
        before = heard(link, seq, seq * 50 * MS)
    act(link)
    assert link.ignored[cause] == 1
    after = link.state(930 * MS)
    assert after.up
    assert after.rtts_ms == before.rtts_ms
    assert after.rates_bps[0] == pytest.approx(before.rates_bps[0], rel=0.2)  # it is older by now
    link.check()


@pytest.mark.parametrize("jump_us", [-10_000_000, 10_000_000])
def test_a_jump_of_the_gateways_clock_is_no_delay(jump_us: int) -> None:
    link = estimator()
    link.on_connected(0)
    for seq in range(40):
        state = heard(link, seq, seq * 50 * MS, 20_000_000 + seq * 50_000 + (jump_us if seq >= 20 else 0))
        assert state.up
        assert state.rtts_ms[-1] < 60
    assert link.ignored == {"jump": 1}


@pytest.mark.parametrize("jump_ns", [-30 * S, 60 * S])
def test_a_jump_of_the_cars_clock_costs_a_moment(jump_ns: int) -> None:
    link = estimator()
    link.on_connected(100 * S)
    for seq in range(60):
        state = heard(link, seq, 100 * S + seq * 50 * MS)
    link.on_sent(60, 8_000, 104 * S)
    for seq in range(61, 120):
        state = heard(link, seq, 100 * S + seq * 50 * MS + jump_ns, 200_000_000 + seq * 50_000)
    assert state.up
    assert state.valid()
    assert state.rtts_ms[0] < 60
    link.check()


def test_an_hour_of_silence_with_pings_keeps_memory_bounded() -> None:
    link = estimator()
    link.on_connected(0)
    for seq in range(3 * MAX_OPEN):
        link.on_sent(seq, 40 if seq % 2 else 8_000, seq * 50 * MS)
        link.on_timer(seq * 50 * MS)
    assert len(link._open) == MAX_OPEN
    assert len(link._rates._asked) <= 1_000
    link.check()


def test_memory_of_a_long_drive_is_bounded() -> None:
    course = of_function("wild", lambda t: (2 + 8 * (t % 1)) * MBIT, 60)
    sender = Sender(course, estimator(), 60_000).run(60)
    capacity, analogues = sender.estimator._capacity, sender.estimator._rates._analogues
    assert len(capacity._ends_ns) == len(capacity._sums) < 6_000
    assert len(analogues) <= 1_000
    assert sender.frame_bytes > SMALL_BYTES


def test_uncertainty_widens_in_silence() -> None:
    """After a quiet while the link is told between what it was last and what it is over the long run."""
    course = of_function("slow then fast", lambda t: (4 if t % 20 < 19 else 20) * MBIT, 60)
    sender = Sender(course, estimator(), 40_000).run(19.9)
    link, now_ns = sender.estimator, sender.now_ns
    fresh = link.state(now_ns).rates_bps[MEDIAN]
    seq = sender._seq
    for at in range(40):
        stale = heard(link, seq + at, now_ns + 100 * MS + at * 50 * MS)
    assert 3 * MBIT < stale.rates_bps[MEDIAN] < fresh
