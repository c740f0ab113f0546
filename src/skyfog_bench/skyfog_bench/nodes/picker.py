"""Sets a simulated scene, asks for it to be picked, and says what became of it; commands as in skyfog_bench.serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future as Answer
from typing import Any

from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from skyfog_bench.nodes.serving import run
from skyfog_interfaces.action import PickPlace
from skyfog_interfaces.msg import ModelStates
from skyfog_interfaces.srv import ResetWorld

CALL_LIMIT_S = 30.0


class Picker:
    """A user of the pick_place action."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor) -> None:
        self._executor = executor
        self._reset = node.create_client(ResetWorld, "/world/reset")
        self._action = ActionClient(node, PickPlace, "/pick_place")
        self._states: ModelStates | None = None
        self._fresh = threading.Event()
        node.create_subscription(ModelStates, "/world/model_states", self._on_states, 10)

    def wait(self, limit_s: float) -> dict[str, Any]:
        """Until the world and the action are there. Raises TimeoutError."""
        until = time.monotonic() + limit_s
        for what, there in (
            ("/world/reset", self._reset.wait_for_service),
            ("/pick_place", self._action.wait_for_server),
        ):
            if not there(timeout_sec=max(0.1, until - time.monotonic())):
                raise TimeoutError(f"nobody offers {what} after {limit_s:.0f} s")
        return {}

    def scene(self, seed: int, limit_s: float) -> dict[str, Any]:
        """Lay the scene of `seed`, have it picked; returns the action's result and where every model is then."""
        reset = self._ask(lambda: self._reset.call_async(ResetWorld.Request(seed=seed)), CALL_LIMIT_S)
        if reset.status.code != reset.status.OK:
            raise RuntimeError(f"the world was not reset: {reset.status.message}")
        goal = PickPlace.Goal(time_limit_s=limit_s)
        handle = self._ask(lambda: self._action.send_goal_async(goal), CALL_LIMIT_S)
        if not handle.accepted:
            raise RuntimeError("the goal was not accepted")
        result = self._ask(handle.get_result_async, limit_s + CALL_LIMIT_S).result
        return {
            "status": int(result.status.code),
            "message": result.status.message,
            "placed": list(result.placed_names),
            "left": int(result.left),
            "failures": list(result.failures),
            "rounds": int(result.rounds),
            "seconds": float(result.seconds),
            "poses": self._poses(),
        }

    def _ask(self, send: Callable[[], Any], limit_s: float) -> Any:
        """The answer. Sent from the executor's own thread: an action client loses one that comes before it returns."""
        return _done(_done(self._executor.create_task(send), CALL_LIMIT_S), limit_s)

    def _on_states(self, message: ModelStates) -> None:
        self._states = message
        self._fresh.set()

    def _poses(self) -> dict[str, list[float]]:
        """[x, y, z] of each model in the world, as of now."""
        self._fresh.clear()
        if not self._fresh.wait(CALL_LIMIT_S) or self._states is None:
            raise TimeoutError(f"no /world/model_states within {CALL_LIMIT_S:.0f} s")
        places = [(pose.position.x, pose.position.y, pose.position.z) for pose in self._states.poses]
        return {name: list(place) for name, place in zip(self._states.names, places, strict=True)}


def _done(future: Any, limit_s: float) -> Any:
    """The result of an rclpy future that the spinning thread completes."""
    answer: Answer[Any] = Answer()
    future.add_done_callback(lambda done: answer.set_result(done.result()))
    return answer.result(limit_s)


def _commands(node: Node, executor: SingleThreadedExecutor) -> dict[str, Callable[..., Any]]:
    picker = Picker(node, executor)
    return {"wait": picker.wait, "scene": picker.scene}


def main() -> None:
    """Serve commands until standard input ends."""
    run("bench_picker", _commands)


if __name__ == "__main__":
    main()
