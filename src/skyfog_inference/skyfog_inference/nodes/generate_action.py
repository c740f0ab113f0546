"""The action `generate` on a robot: text token by token, through whichever replicas live.

The service of the fleet is asked for a few tokens at a time; what to ask next is the policy's choice (continuation).
"""

from __future__ import annotations

import secrets
import sys
import time
from dataclasses import dataclass
from typing import Any

import structlog
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from rclpy.task import Future

from skyfog_core.config.inference import GenerateActionConfig
from skyfog_core.errors import Status
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, declare
from skyfog_core.nodes.relay import service_qos
from skyfog_core.units import MS, S, ms_to_ns
from skyfog_inference.continuation import Answer, Call, Continuation, Finish, Limits, Wait
from skyfog_interfaces.action import Generate as GenerateAction
from skyfog_interfaces.srv import Generate

log = structlog.get_logger()

NAME = "generate"
COPIED = ("model", "prompt", "messages", "temperature", "top_p", "top_k", "stop", "ignore_eos")


@dataclass(slots=True)
class Wanted:
    """A goal on its way."""

    handle: ServerGoalHandle
    began_ns: int
    cancelled: bool = False
    pause: Future | None = None  # what its coroutine waits for

    def wake(self) -> None:
        """End its wait, if it waits."""
        if self.pause is not None and not self.pause.done():
            self.pause.set_result(None)


class GenerateActionNode(Node):
    """Parameters in, calls made; every choice is the policy's."""

    def __init__(self) -> None:
        super().__init__("generate_action", **NODE_OPTIONS)
        self._config = declare(self, GenerateActionConfig)
        self._limits = Limits(
            self._config.max_call_tokens, ms_to_ns(self._config.pause_ms), round(self._config.patience_s * S)
        )
        self._goals: dict[bytes, Wanted] = {}
        self._client = self.create_client(Generate, self._config.service, qos_profile=service_qos())
        self._server = ActionServer(
            self,
            GenerateAction,
            NAME,
            self._execute,
            goal_callback=self._accept,
            cancel_callback=self._cancel,
            feedback_pub_qos_profile=service_qos(),  # a call's tokens come at once
        )
        log.info("generate_action_ready", service=self._config.service)

    def destroy_node(self) -> None:
        self._server.destroy()
        super().destroy_node()

    def _accept(self, _goal: GenerateAction.Goal) -> GoalResponse:
        if len(self._goals) >= self._config.max_goals:
            log.warning("goal_refused", why=f"{len(self._goals)} texts are on their way already")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        wanted = self._goals.get(bytes(handle.goal_id.uuid))
        if wanted is not None:
            wanted.cancelled = True
            wanted.wake()
        return CancelResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle) -> GenerateAction.Result:
        goal, goal_id = handle.request, bytes(handle.goal_id.uuid)
        wanted = self._goals[goal_id] = Wanted(handle, time.monotonic_ns(), handle.is_cancel_requested)
        result = GenerateAction.Result(seed=goal.seed or secrets.randbits(63) + 1)
        text = Continuation(goal.max_tokens, self._limits, wanted.began_ns)
        try:
            while not isinstance(step := text.next(), Finish):
                if isinstance(step, Wait):
                    await self._rest(wanted, step.ns / S)
                else:
                    await self._call(wanted, text, step, result)
                if wanted.cancelled:
                    text.on_cancel()
        finally:
            del self._goals[goal_id]
        if step.reason == "abort":
            handle.canceled()
        elif step.status == Status.OK:
            handle.succeed()
        else:
            handle.abort()
        result.status.code, result.status.message = int(step.status), step.message
        result.text, result.tokens, result.logprobs = text.text, text.tokens, text.logprobs
        result.finish_reason, result.calls, result.replicas = step.reason, text.calls, text.replicas
        result.total_ms = (time.monotonic_ns() - wanted.began_ns) / MS
        log.info("goal_done", reason=step.reason, tokens=len(text.tokens), calls=text.calls, why=step.message)
        return result

    async def _call(self, wanted: Wanted, text: Continuation, call: Call, result: GenerateAction.Result) -> None:
        """Ask the fleet once and report to the policy; what it says of the whole text goes into `result`."""
        name = self._client.srv_name
        if not self._client.service_is_ready():
            text.on_failure(Status.NOT_EXECUTED, f"nobody offers {name}: is there a robot_proxy?", time.monotonic_ns())
            return
        fields = {field: getattr(wanted.handle.request, field) for field in COPIED}
        future = self._client.call_async(
            Generate.Request(
                **fields, seed=result.seed, generated=text.tokens, max_tokens=call.max_tokens, partial=call.partial
            )
        )
        await self._rest(wanted, self._config.call_limit_s, future)
        now_ns = time.monotonic_ns()
        if not future.done():
            self._client.remove_pending_request(future)
            if not wanted.cancelled:
                late = f"{name}: not within {self._config.call_limit_s:g} s"
                text.on_failure(Status.DEADLINE_EXCEEDED, late, now_ns)
            return
        response = future.result()
        if response.status.code != Status.OK:
            text.on_failure(Status(response.status.code), response.status.message, now_ns)
            return
        first = text.on_answer(
            Answer(
                response.tokens, response.pieces, response.logprobs, response.finish_reason, response.status.replica
            ),
            now_ns,
        )
        if not result.model_name:
            result.model_name, result.prompt_tokens = response.model_name, response.prompt_tokens
            result.first_token_ms = (now_ns - wanted.began_ns) / MS
        for index in range(first, len(text.tokens)):
            at = index - first
            wanted.handle.publish_feedback(
                GenerateAction.Feedback(
                    index=index, token=text.tokens[index], text=response.pieces[at], logprob=response.logprobs[at]
                )
            )

    async def _rest(self, wanted: Wanted, limit_s: float, until: Future | None = None) -> None:
        """Until `until` is done, the goal is cancelled, or `limit_s` are over."""
        pause = wanted.pause = Future(executor=self.executor)

        def end(*_: Any) -> None:
            if not pause.done():
                pause.set_result(None)

        timer = self.create_timer(limit_s, end)
        if until is not None:
            until.add_done_callback(end)
        if wanted.cancelled:
            end()
        try:
            await pause
        finally:
            self.destroy_timer(timer)


def main() -> None:
    """Entry point of `ros2 run skyfog_inference generate_action`."""
    sys.exit(run("generate_action", lambda: [GenerateActionNode()]))


if __name__ == "__main__":
    main()
