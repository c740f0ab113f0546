"""The motion planning service: a node of its own with an action beside it, or embedded in a replica."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import structlog
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from skyfog_core import extras
from skyfog_core.cancel import Cancellation
from skyfog_core.config.planning import PlanConfig
from skyfog_core.errors import Status
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare
from skyfog_interfaces.action import PlanMotion as PlanMotionAction
from skyfog_interfaces.srv import PlanMotion
from skyfog_planning.nodes.convert import fill, problem_of, refuse
from skyfog_planning.options import Options
from skyfog_planning.problem import Code, PlanError, Progress
from skyfog_planning.workers import Pool

log = structlog.get_logger()

NAME = "plan_motion"
CANCELING_LIMIT_S = 2.0
CANCELING_STEP_S = 0.005


class PlanService:
    """A service callback for skyfog_interfaces/srv/PlanMotion. Stateless; never raises; any thread may call it.

    `cancellable` is what a replica calls, so that a request which lost is stopped; the plain call cannot be stopped.
    """

    def __init__(self, node: Node) -> None:
        """Read the node's parameters and start the workers. Raises ConfigError that names file, key and bound."""
        config = declare(node, PlanConfig)
        extras.need("planning", "ompl", "pinocchio", "coal", "toppra", "pyroboplan")
        options = Options(
            **{name: getattr(config, name) for name in Options.__dataclass_fields__ if hasattr(config, name)}
        )
        with blame("robots"):
            self._pool = Pool(config.workers, config.robots, options, config.grace_s)
        self._budgets = (config.time_budget_s, config.max_time_budget_s)
        self._limit = 2 * config.workers
        self._running = 0
        self._lock = threading.Lock()
        self.workers = config.workers
        node.context.on_shutdown(self._pool.close)
        log.info("planner_ready", robots=config.robots, workers=config.workers, planner=config.planner)

    def __call__(self, request: Any, response: Any) -> Any:
        return self.cancellable(request, response, Cancellation())

    def cancellable(
        self, request: Any, response: Any, cancellation: Cancellation, report: Any = lambda _progress: None
    ) -> Any:
        """Answer in `response`, the service's or the action's; ends early when `cancellation` is set."""
        with self._lock:
            if self._running >= self._limit:
                response.status.code = int(Status.NOT_EXECUTED)
                response.status.message = f"{self._running} requests are planned or wait already"
                return response
            self._running += 1
        try:
            fill(response, self._pool.plan(problem_of(request, *self._budgets), cancellation, report))
        except PlanError as error:
            refuse(response, error)
        except Exception as error:  # the robot must hear of it, and the next request must be served
            log.exception("plan_failed")
            refuse(response, PlanError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
        finally:
            with self._lock:
                self._running -= 1
        return response


class PlanAction:
    """The action of the same name, on the same workers."""

    def __init__(self, node: Node, service: PlanService, group: ReentrantCallbackGroup) -> None:
        self._service = service
        self._cancellations: dict[bytes, Cancellation] = {}
        self._server = ActionServer(
            node,
            PlanMotionAction,
            NAME,
            self._execute,
            callback_group=group,
            goal_callback=lambda _goal: GoalResponse.ACCEPT,
            cancel_callback=self._cancel,
        )

    def _execute(self, handle: Any) -> Any:
        cancellation = self._cancellations.setdefault(bytes(handle.goal_id.uuid), Cancellation())

        def report(progress: Progress) -> None:
            feedback = PlanMotionAction.Feedback()
            feedback.best_path_length_rad = progress.best_path_length_rad
            feedback.iterations = progress.iterations
            feedback.elapsed_s = progress.elapsed_s
            handle.publish_feedback(feedback)

        try:
            result = self._service.cancellable(handle.request, PlanMotionAction.Result(), cancellation, report)
        finally:
            self._cancellations.pop(bytes(handle.goal_id.uuid), None)
        if result.code == Code.WITHDRAWN and _canceling(handle):
            handle.canceled()
        elif result.code == Code.SUCCESS and result.status.code == Status.OK:
            handle.succeed()
        else:
            handle.abort()
        return result

    def _cancel(self, handle: Any) -> CancelResponse:
        self._cancellations.setdefault(bytes(handle.goal_id.uuid), Cancellation()).cancel()
        return CancelResponse.ACCEPT


def _canceling(handle: Any) -> bool:
    """Whether the goal's state says so too; it does soon after the cancel callback has returned, in another thread."""
    ends = time.monotonic() + CANCELING_LIMIT_S
    while not handle.is_cancel_requested and time.monotonic() < ends:
        time.sleep(CANCELING_STEP_S)
    return bool(handle.is_cancel_requested)


class PlanNode(Node):
    """The service and the action without replicas or proxies."""

    def __init__(self) -> None:
        super().__init__("plan", **NODE_OPTIONS)
        service = PlanService(self)
        group = ReentrantCallbackGroup()
        self.create_service(PlanMotion, NAME, service, callback_group=group)
        self.threads = 2 * service.workers + 4  # a request each, and some to refuse and cancel
        self._action = PlanAction(self, service, group)


def main() -> None:
    """Entry point of `ros2 run skyfog_planning plan`."""
    sys.exit(run("plan", lambda: [PlanNode()], threads=lambda nodes: nodes[0].threads))


if __name__ == "__main__":
    main()
