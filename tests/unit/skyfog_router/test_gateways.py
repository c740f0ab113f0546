"""Which gateway a car talks to."""

from __future__ import annotations

import pytest

from skyfog_core.units import MS
from skyfog_router.policy.gateways import Do, Gateways, Probe, Renew, Turn

SILENT = 100 * MS


def made(*live: str) -> Gateways:
    gateways = Gateways(SILENT)
    for gateway in live:
        gateways.on_token(gateway, live=True)
    return gateways


def turns(actions: list[Do]) -> list[str | None]:
    return [action.gateway for action in actions if isinstance(action, Turn)]


def until(gateways: Gateways, limit_ns: int) -> list[tuple[int, Do]]:
    """What the timers do."""
    done: list[tuple[int, Do]] = []
    while (due := gateways.next_timer_ns()) is not None and due <= limit_ns:
        done += [(due, action) for action in gateways.on_timer(due)]
    return done


def test_the_first_token_is_taken_and_kept() -> None:
    gateways = Gateways(SILENT)
    assert turns(gateways.on_token("b", live=True)) == ["b"]
    assert gateways.on_token("a", live=True) == []
    assert gateways.on_token("b", live=True) == []


def test_when_it_goes_the_lowest_name_that_is_left_is_taken() -> None:
    gateways = made("b", "c", "a")
    assert turns(gateways.on_token("c", live=False)) == []
    assert turns(gateways.on_token("b", live=False)) == ["a"]
    assert turns(gateways.on_token("a", live=False)) == [None]
    assert turns(gateways.on_token("c", live=True)) == ["c"]


def test_who_is_asked_nothing_owes_nothing() -> None:
    gateways = made("a", "b")
    assert gateways.next_timer_ns() is None
    assert gateways.on_timer(10 * SILENT) == []


def test_who_answers_is_kept() -> None:
    gateways = made("a", "b")
    for now_ns in range(0, 10 * SILENT, SILENT // 2):
        gateways.on_sent(now_ns)
        assert gateways.on_heard("a", now_ns + 1) == []
        assert gateways.next_timer_ns() is None


def test_silence_asks_the_others_and_the_first_that_answers_is_taken() -> None:
    gateways = made("a", "b", "c")
    gateways.on_sent(0)
    assert gateways.on_heard("b", SILENT - 1) == [], "it is not silent yet"
    assert until(gateways, SILENT) == [(SILENT, Probe("b")), (SILENT, Probe("c"))]
    assert turns(gateways.on_heard("c", SILENT + 5)) == ["c"]
    assert gateways.next_timer_ns() is None


def test_an_answer_of_the_silent_one_keeps_it() -> None:
    gateways = made("a", "b")
    gateways.on_sent(0)
    until(gateways, SILENT)
    assert gateways.on_heard("a", SILENT + 1) == []
    assert gateways.on_heard("b", SILENT + 2) == []


def test_one_that_has_gone_is_not_taken_for_a_late_answer() -> None:
    gateways = made("a", "b")
    gateways.on_sent(0)
    until(gateways, SILENT)
    gateways.on_token("b", live=False)
    assert gateways.on_heard("b", SILENT + 1) == []


@pytest.mark.parametrize("others", [(), ("b", "c")])
def test_where_nobody_answers_the_links_are_made_anew_once(others: tuple[str, ...]) -> None:
    gateways = made("a", *others)
    gateways.on_sent(0)
    done = [(due, action) for due, action in until(gateways, 100 * SILENT) if not isinstance(action, Probe)]
    assert [type(action) for _, action in done] == [Turn, Renew]
    assert {due for due, _ in done} == {2 * SILENT}
    gateways.on_sent(3 * SILENT)
    assert gateways.next_timer_ns() is None, "nobody is there who could owe an answer"
    assert turns(gateways.on_token("a", live=True)) == ["a"]
