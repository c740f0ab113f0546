"""The service `generate`: text from a language model, as a node of its own or embedded in a replica."""

from __future__ import annotations

import sys
import time
from typing import Any

import structlog
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from skyfog_core import extras
from skyfog_core.cancel import Cancellation
from skyfog_core.config.inference import GenerateConfig
from skyfog_core.errors import InvalidRequest, RequestError, ServiceFailed, Status
from skyfog_core.nodes.diagnostics import DiagnosticsPublisher
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare
from skyfog_core.units import MS
from skyfog_inference.continuation import finish_of
from skyfog_inference.diagnosis import diagnose
from skyfog_inference.request import FinishReason, SamplingParams
from skyfog_inference.served import NEEDS, Served, load
from skyfog_interfaces.srv import Generate

log = structlog.get_logger()

NAME = "generate"
DIAGNOSTICS_S = 1.0
WARM_UP_TOKENS = 2  # the second one is the first decode


class GenerateService:
    """A service callback for skyfog_interfaces/srv/Generate. Stateless; any thread may call it; it never raises.

    `cancellable` is what a replica calls: a request that lost stops being computed.
    """

    srv_type = Generate
    name = NAME

    def __init__(self, node: Node) -> None:
        """Read the node's parameters and load the model. Raises ConfigError that names file, key and bound."""
        config = declare(node, GenerateConfig)
        extras.need("inference", *NEEDS)
        with blame("model"):
            self._served = load(config)
        self.calls = config.calls
        node.context.on_shutdown(self._served.close)
        self._diagnostics = DiagnosticsPublisher(node, self._served.name)
        self._before = self._served.metrics()
        node.create_timer(DIAGNOSTICS_S, self._diagnose)
        log.info("model_ready", model=self._served.name, context=self._served.context)

    def __call__(self, request: Any, response: Any) -> Any:
        return self.cancellable(request, response, Cancellation())

    def cancellable(self, request: Any, response: Any, cancellation: Cancellation) -> Any:
        """Answer in `response`; soon and with a failure once `cancellation` is set."""
        try:
            self._answer(request, response, cancellation)
        except RequestError as error:
            return _without_result(error.status, str(error))
        except Exception as error:  # the robot must hear of it, and the next request must be served
            log.exception("request_failed")
            return _without_result(Status.FAILED, f"{type(error).__name__}: {error}")
        return response

    def warm_up(self) -> None:
        """A few tokens, so that the first request does not wait for what is only made once. Raises where it fails."""
        params = SamplingParams(max_tokens=WARM_UP_TOKENS, temperature=0, ignore_eos=True)
        self._served.submit(self._served.encode("Hello"), params).result()

    def _answer(self, request: Any, response: Any, cancellation: Cancellation) -> None:
        """Raises RequestError."""
        began_ns = time.monotonic_ns()
        served: Served = self._served
        if request.model not in {"", served.name}:
            raise InvalidRequest(f"model: there is no {request.model!r}; there is {served.name!r}")
        prompt = _prompt_of(request, served)
        stream = served.submit([*prompt, *request.generated], params_of(request))
        cancellation.on_cancel(stream.close)
        try:
            events, text = stream.result()
        finally:
            stream.close()
        took_ms = (time.monotonic_ns() - began_ns) / MS
        drawn = [event for event in events if event.token is not None]
        response.text = _sendable(text)
        response.tokens = [event.token for event in drawn]
        response.pieces = [_sendable(event.text) for event in drawn]
        response.logprobs = [event.logprob for event in drawn]
        room = served.context - len(prompt) - len(request.generated)
        response.finish_reason = _finish(events[-1].finish, len(drawn), request.max_tokens, room)
        response.prompt_tokens = len(prompt)
        response.model_name = served.name
        response.total_ms = took_ms
        usage = stream.usage
        if usage is not None:
            response.cached_tokens = usage.cached
            response.queue_ms = (usage.begun_ns or 0) / MS
            response.first_token_ms = (usage.first_token_ns or 0) / MS
        response.status.code = int(Status.OK)

    def _diagnose(self) -> None:
        now = self._served.metrics()
        self._diagnostics.publish({"engine": diagnose(self._before, now, self._served.unwell())})
        self._before = now


def _prompt_of(request: Any, served: Served) -> list[int]:
    """Raises InvalidRequest."""
    if bool(request.prompt) == bool(request.messages):
        given = "both" if request.prompt else "neither"
        raise InvalidRequest(f"{given} of prompt and messages given; exactly one must be")
    if request.prompt:
        return served.encode(request.prompt)
    return served.encode_chat([{"role": message.role, "content": message.content} for message in request.messages])


def params_of(request: Any) -> SamplingParams:
    """Raises InvalidRequest that names the field."""
    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        stop=tuple(request.stop),
        ignore_eos=request.ignore_eos,
        logprobs=0,
        skip=len(request.generated),
        partial=request.partial,
    )


def _sendable(text: str) -> str:
    """ROS cuts a text at its first NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _finish(reason: FinishReason | None, drawn: int, asked: int, room: int) -> str:
    """As Generate.srv has it."""
    if reason is None:
        raise ServiceFailed("the text ended without a reason")
    return finish_of(reason.value, drawn, asked, room)


def _without_result(status: Status, message: str) -> Any:
    """A response of its own: nothing of a half-filled one may be taken for a result."""
    response = Generate.Response()
    response.status.code, response.status.message = int(status), message
    return response


class GenerateNode(Node):
    """The service without replicas or proxies."""

    def __init__(self) -> None:
        super().__init__(NAME, **NODE_OPTIONS)
        service = GenerateService(self)
        service.warm_up()
        self.create_service(Generate, NAME, service, callback_group=ReentrantCallbackGroup())
        self.threads = service.calls + 1


def main() -> None:
    """Entry point of `ros2 run skyfog_inference generate`."""
    sys.exit(run(NAME, lambda: [GenerateNode()], threads=lambda nodes: nodes[0].threads))


if __name__ == "__main__":
    main()
