from __future__ import annotations

import pytest

from skyfog_core.units import MS, S
from skyfog_router.policy.pacing import BURST, GAP_NS_A_CLIENT, MAX_DELAY_NS, Pacer


def sent_at(pacer: Pacer, count: int, clients: int) -> list[tuple[int, int]]:
    """Hand over `count` answers at one instant; (time, answer) of each as the timers let them go."""
    now = S
    sent = [(now, a) for i in range(count) for a in pacer.on_answer(i, lambda: clients, now)]
    while (due := pacer.next_timer_ns()) is not None:
        assert due > now, "a timer that is due already would spin"
        now = due
        sent += [(now, answer) for answer in pacer.on_timer(lambda: clients, now)]
    return sent


def test_a_lone_clients_answers_leave_at_once() -> None:
    assert sent_at(Pacer(), 200, clients=1) == [(S, i) for i in range(200)]


def test_several_clients_get_a_burst_at_once_and_the_rest_one_by_one_in_order() -> None:
    sent = sent_at(Pacer(), 50, clients=10)
    assert [answer for _, answer in sent] == list(range(50))
    assert [at for at, _ in sent[:BURST]] == [S] * BURST
    gaps = [b - a for (a, _), (b, _) in zip(sent[BURST - 1 :], sent[BURST:], strict=False)]
    assert gaps == [10 * GAP_NS_A_CLIENT] * (50 - BURST)


def test_a_long_queue_leaves_faster() -> None:
    sent = sent_at(Pacer(), 1_000, clients=100)
    gaps = [b - a for (a, _), (b, _) in zip(sent[BURST:], sent[BURST + 1 :], strict=False)]
    assert gaps[0] <= MAX_DELAY_NS // 900
    assert gaps[-1] > gaps[0]


def test_a_steady_stream_below_the_pace_is_never_delayed() -> None:
    pacer = Pacer()
    for i in range(100):
        now = S + i * 6 * MS
        assert pacer.on_answer(i, lambda: 10, now) == [i]


def test_clients_are_counted_again_after_a_while() -> None:
    pacer = Pacer()
    counts = iter([1, 10])
    for i in range(20):
        assert pacer.on_answer(i, lambda: next(counts), S) == [i]
    later = 2 * S
    assert [pacer.on_answer(i, lambda: next(counts), later) for i in range(BURST + 1)][-1] == []


def test_what_waits_is_handed_out_when_the_service_closes() -> None:
    pacer = Pacer()
    for i in range(BURST + 3):
        pacer.on_answer(i, lambda: 10, S)
    assert pacer.drain() == [BURST, BURST + 1, BURST + 2]
    assert pacer.next_timer_ns() is None


@pytest.mark.parametrize("clients", [2, 10])
def test_nothing_is_lost_or_doubled(clients: int) -> None:
    sent = sent_at(Pacer(), 333, clients)
    assert sorted(answer for _, answer in sent) == list(range(333))
