"""A service inside the replica: what it says, and what it is told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from skyfog_core.cancel import Cancellation
from skyfog_core.errors import NotExecuted, Status
from skyfog_core.nodes.relay import to_cdr
from skyfog_interfaces.srv import Echo
from skyfog_router.nodes.handlers import EmbeddedHandler
from skyfog_router.replica import Result
from support.processes import LIMIT_S

X, Y = b"x" * 16, b"y" * 16
REQUEST = to_cdr(Echo.Request(data=b"abc"))


class Stoppable:
    """Waits until it is cancelled, and then does as it was told."""

    def __init__(self, then: Callable[[Any], Any]) -> None:
        self._then = then
        self.began = threading.Event()

    def __call__(self, _request: Any, _response: Any) -> Any:
        raise AssertionError("cancellable is there")

    def cancellable(self, _request: Any, response: Any, cancellation: Cancellation) -> Any:
        cancelled = threading.Event()
        cancellation.on_cancel(cancelled.set)
        self.began.set()
        assert cancelled.wait(LIMIT_S)
        return self._then(response)


@contextmanager
def handler_of(callback: Any, threads: int = 1) -> Iterator[EmbeddedHandler]:
    handler = EmbeddedHandler(Echo, callback, threads)
    try:
        yield handler
    finally:
        handler.close()


def started(handler: EmbeddedHandler, request_id: bytes = X) -> queue.SimpleQueue[Result]:
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    handler.start(request_id, REQUEST, results.put)
    return results


def not_begun(_response: Any) -> Any:
    raise NotExecuted("it still waited")


def answers_not_executed(response: Any) -> Any:
    response.status.code, response.status.message = int(Status.NOT_EXECUTED), "it still waited"
    return response


@pytest.mark.parametrize("then", [not_begun, answers_not_executed])
def test_what_was_withdrawn_before_it_began_is_not_executed(then: Callable[[Any], Any]) -> None:
    service = Stoppable(then)
    with handler_of(service) as handler:
        results = started(handler)
        assert service.began.wait(LIMIT_S)
        handler.stop(X)
        result = results.get(timeout=LIMIT_S)
    assert (result.status, result.message) == (Status.NOT_EXECUTED, "it still waited")


def test_what_was_stopped_while_it_ran_has_no_result_whatever_it_returns() -> None:
    service = Stoppable(lambda response: response)
    with handler_of(service) as handler:
        results = started(handler)
        assert service.began.wait(LIMIT_S)
        handler.stop(X)
        assert results.get(timeout=LIMIT_S).status is Status.OUTCOME_UNKNOWN


def test_what_is_withdrawn_before_a_thread_is_free_never_runs() -> None:
    service = Stoppable(lambda response: response)
    with handler_of(service) as handler:
        started(handler, X)
        results = started(handler, Y)
        assert service.began.wait(LIMIT_S)
        handler.stop(Y)
        handler.stop(X)
        assert results.get(timeout=LIMIT_S).status is Status.NOT_EXECUTED


def test_a_service_that_answers_not_executed_says_so_to_the_fleet() -> None:
    with handler_of(lambda _request, response: answers_not_executed(response)) as handler:
        result = started(handler).get(timeout=LIMIT_S)
    assert (result.status, result.payload, result.message) == (Status.NOT_EXECUTED, b"", "it still waited")


@pytest.mark.parametrize("code", [Status.OK, Status.FAILED, Status.INVALID_REQUEST])
def test_any_other_status_is_for_the_client(code: Status) -> None:
    def callback(_request: Any, response: Any) -> Any:
        response.status.code = int(code)
        return response

    with handler_of(callback) as handler:
        assert started(handler).get(timeout=LIMIT_S).status is Status.OK
