"""Asks for the table to be cleared, and tells how it goes: an ordinary user of the pick_place action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from skyfog_core.errors import NoReplica, NotExecuted
from skyfog_interfaces.action import PickPlace

FIND_LIMIT_S = 10.0
CANCEL_LIMIT_S = 30.0
BEYOND_S = 60.0  # the action ends by itself within its own limit; this is for what goes wrong with it


def pick(class_names: list[str], time_limit_s: float, say: Callable[[str], None]) -> Any:
    """The action's result. Ctrl-C withdraws the goal.

    Raises NoReplica where nobody offers the action, NotExecuted where it refuses or does not answer.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # else Ctrl-C ends ROS before the goal is withdrawn
    node = Node("skyfog_pick_place")
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def until(future: Future, limit_s: float) -> Any:
        executor.spin_until_future_complete(future, limit_s)
        if not future.done():
            raise NotExecuted(f"/pick_place did not answer within {limit_s:.0f} s")
        return future.result()

    def tell(message: Any) -> None:
        at = message.feedback
        say(f"{at.stage:10} {at.object:12} {at.placed} placed, {at.remaining} left")

    try:
        client = ActionClient(node, PickPlace, "/pick_place")
        if not client.wait_for_server(FIND_LIMIT_S):
            raise NoReplica(f"nobody offers /pick_place after {FIND_LIMIT_S:.0f} s; tabletop.launch.py starts it")
        goal = PickPlace.Goal(class_names=class_names, time_limit_s=time_limit_s)
        handle = until(client.send_goal_async(goal, tell), FIND_LIMIT_S)
        if not handle.accepted:
            raise NotExecuted("refused: another goal is being worked on")
        result = handle.get_result_async()
        try:
            return until(result, time_limit_s + BEYOND_S).result
        except KeyboardInterrupt:
            say("withdrawing …")
            until(handle.cancel_goal_async(), CANCEL_LIMIT_S)
            return until(result, CANCEL_LIMIT_S).result
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
