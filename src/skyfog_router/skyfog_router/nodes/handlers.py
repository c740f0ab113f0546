"""How a replica runs its service: forwarded to a ROS node beside it, or inside its own process."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import structlog
from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.node import Node
from rclpy.task import Future

from skyfog_core.cancel import Cancellation
from skyfog_core.errors import ConfigError, InvalidReply, NotExecuted, Status
from skyfog_core.factories import load_factory
from skyfog_core.ids import RequestId
from skyfog_core.nodes.relay import decoder, service_qos, to_cdr
from skyfog_core.nodes.types import has_status
from skyfog_core.units import US
from skyfog_router.replica import Result

log = structlog.get_logger()


class ForwardHandler:
    """Calls an unmodified ROS service. A call that it never answers is given up at the end of its budget.

    ROS cannot withdraw a call: the service behind this runs a loser's request to its end.
    """

    can_abandon = True
    can_stop = False

    def __init__(self, node: Node, srv_type: Any, name: str) -> None:
        self._decode = decoder(srv_type.Request)
        self._has_status = has_status(srv_type)
        self._client = node.create_client(srv_type, name, qos_profile=service_qos())

    def is_ready(self) -> bool:
        """Whether somebody offers the service."""
        return bool(self._client.service_is_ready())

    def start(self, request_id: RequestId, payload: bytes, done: Callable[[Result], None]) -> None:
        began = time.perf_counter_ns()
        try:
            request = self._decode(payload)
            future: Future = self._client.call_async(request)
        except InvalidReply as error:
            done(Result(Status.INVALID_REQUEST, message=str(error)))
            return
        except (RCLError, InvalidHandle) as error:
            done(Result(Status.NOT_EXECUTED, message=f"the service could not be called: {error}"))
            return

        def on_response(finished: Future) -> None:
            done(_result(finished.result(), self._has_status, began))

        # rclpy runs the callbacks of a future that knows its executor in that executor's next round, after a new
        # wait; of one that does not, at once. Ours only encodes and sends.
        future._set_executor = _ignore  # noqa: SLF001
        future.add_done_callback(on_response)

    def stop(self, request_id: RequestId) -> None:
        """A ROS service call cannot be withdrawn."""

    def close(self) -> None:
        """The node destroys its client."""


def _result(response: Any, has_status: bool, began_ns: int) -> Result:
    """A service that answers NOT_EXECUTED says to the fleet, too, that it did not run; all else is for the client."""
    took_us = (time.perf_counter_ns() - began_ns) // US
    if has_status and response.status.code == Status.NOT_EXECUTED:
        return Result(Status.NOT_EXECUTED, message=response.status.message, service_us=took_us)
    return Result(Status.OK, to_cdr(response), service_us=took_us)


def _ignore(_executor: Any) -> None:
    """Keep a future from learning its executor."""


class EmbeddedHandler:
    """Runs a service callback, `(request, response) -> response`, on threads of this process.

    One that can be stopped has a method `cancellable(request, response, cancellation)`, which is called instead. Its
    skyfog_core.cancel.Cancellation is set when nobody wants the result any more; it then returns soon, in any way. A
    service that did not begin says so: it raises NotExecuted, or answers with that status.

    One whose first request takes longer than later ones has a method `warm_up()`, which does what makes the difference,
    and raises where the service cannot work.
    """

    can_abandon = False

    def __init__(self, srv_type: Any, callback: Callable[[Any, Any], Any], threads: int) -> None:
        self._decode = decoder(srv_type.Request)
        self._response_type = srv_type.Response
        self._has_status = has_status(srv_type)
        stoppable = getattr(callback, "cancellable", None)
        self.can_stop = stoppable is not None
        self.warm_up: Callable[[], None] | None = getattr(callback, "warm_up", None)
        self._callback = stoppable or (lambda request, response, _cancellation: callback(request, response))
        self._running: dict[RequestId, Cancellation] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="service")

    def start(self, request_id: RequestId, payload: bytes, done: Callable[[Result], None]) -> None:
        cancellation = self._running[request_id] = Cancellation()
        # In a copy of this context, so that the service finds its request's budget.
        self._pool.submit(copy_context().run, self._run, request_id, cancellation, payload, done)

    def stop(self, request_id: RequestId) -> None:
        cancellation = self._running.get(request_id)
        if cancellation is not None:
            cancellation.cancel()

    @property
    def is_busy(self) -> bool:
        """Whether a thread still runs a request; such a thread keeps Python from ending."""
        return bool(self._running)

    def close(self) -> None:
        for cancellation in list(self._running.values()):
            cancellation.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(
        self, request_id: RequestId, cancellation: Cancellation, payload: bytes, done: Callable[[Result], None]
    ) -> None:
        result = self._call(cancellation, payload)
        del self._running[request_id]
        if cancellation.is_set() and result.status is not Status.NOT_EXECUTED:
            result = Result(Status.OUTCOME_UNKNOWN, message="stopped while it ran: withdrawn, or out of time")
        done(result)

    def _call(self, cancellation: Cancellation, payload: bytes) -> Result:
        if cancellation.is_set():
            return Result(Status.NOT_EXECUTED, message="withdrawn before it began")
        began = time.perf_counter_ns()
        try:
            response = self._callback(self._decode(payload), self._response_type(), cancellation)
            return _result(response, self._has_status, began)
        except InvalidReply as error:
            return Result(Status.INVALID_REQUEST, message=str(error))
        except NotExecuted as error:  # the service itself had no time or no room for it
            return Result(Status.NOT_EXECUTED, message=str(error))
        except Exception as error:
            log.exception("service_failed")
            return Result(Status.FAILED, message=f"{type(error).__name__}: {error}")


def load_embedded(entry: str, node: Node) -> Callable[[Any, Any], Any]:
    """`module:factory` -> factory(node), a service callback. Raises ConfigError that says which half is wrong."""
    factory = load_factory(entry, "embedded", "my_package.service:MyService")
    callback = factory(node)
    if not callable(callback):
        raise ConfigError(f"embedded {entry!r}: it returned {type(callback).__name__}, not a callable")
    return callback  # type: ignore[no-any-return]
