"""A cancellation is heard once, by whoever asked before or after it."""

from __future__ import annotations

from skyfog_core import cancel
from skyfog_core.cancel import Cancellation


def test_who_asked_before_is_called_once_and_who_asks_after_at_once() -> None:
    heard: list[str] = []
    cancellation = Cancellation()
    cancellation.on_cancel(lambda: heard.append("before"))
    assert not cancellation.is_set()
    cancellation.cancel()
    cancellation.cancel()
    assert cancellation.is_set()
    cancellation.on_cancel(lambda: heard.append("after"))
    assert heard == ["before", "after"]


def test_work_that_has_ended_is_not_called() -> None:
    heard: list[str] = []
    cancellation = Cancellation()
    cancellation.on_cancel(lambda: heard.append("called"))
    cancellation.forget()
    cancellation.cancel()
    assert heard == []


def test_a_cancellation_is_found_inside_its_block_only() -> None:
    outer, inner = Cancellation(), Cancellation()
    assert cancel.current() is None
    with cancel.by(outer):
        with cancel.by(inner):
            assert cancel.current() is inner
        assert cancel.current() is outer
    assert cancel.current() is None
