"""The embedded simulator as a node: the topics that Gazebo gives through ros_gz_bridge, under the same names."""

from __future__ import annotations

import queue
import sys
from pathlib import Path
from typing import Any

import structlog
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from geometry_msgs.msg import Twist
from rclpy.node import Node
from std_msgs.msg import Float64
from trajectory_msgs.msg import JointTrajectory

from skyfog_core.config.world import WorldConfig
from skyfog_core.errors import ConfigError, InvalidRequest, SkyfogError, Status
from skyfog_core.extras import need
from skyfog_core.nodes.main import run
from skyfog_core.nodes.parameters import NODE_OPTIONS, blame, declare
from skyfog_interfaces.srv import ResetWorld
from skyfog_world.model import Model, PositionControl
from skyfog_world.nodes.messages import to_trajectory
from skyfog_world.sdf import load
from skyfog_world.worlds import FOLDER, find_world

log = structlog.get_logger()

RESET_LIMIT_S = 20.0
WATCH_S = 0.2
QUEUE = 10


class WorldNode(Node):
    """Parameters in, a running world out; orders go to the physics thread."""

    def __init__(self) -> None:
        super().__init__("world", **NODE_OPTIONS)
        config = declare(self, WorldConfig)
        need("world", "mujoco")
        from skyfog_world.live import LiveWorld  # noqa: PLC0415 - imports mujoco
        from skyfog_world.mujoco_sim import Simulation  # noqa: PLC0415
        from skyfog_world.nodes.publishing import Publisher  # noqa: PLC0415

        with blame("world"):
            world = load(find_world(config.world, installed_worlds()))
        for warning in world.warnings:
            log.warning("not_supported", what=warning)
        with blame("scene_seed" if config.scene_seed else "world"):
            simulation = Simulation(world, seed=config.scene_seed, shadows=config.shadows)
        publisher = Publisher(self, world, config.model_states_hz)
        self._live = LiveWorld(
            simulation,
            publisher,
            real_time_factor=config.real_time_factor,
            state_hz=config.state_hz,
            shadows=config.shadows,
        )
        for model in world.models.values():
            self._listen(model)
        self.create_service(ResetWorld, "~/reset", self._reset)
        self.create_timer(WATCH_S, self._watch)
        self._live.start()
        log.info(
            "world_ready",
            world=world.name,
            models=len(world.models),
            sensors=[sensor.topic for _, _, sensor in world.sensors()],
            step_ms=world.step_s * 1e3,
            traffic=simulation.traffic_source,
        )

    def destroy_node(self) -> None:
        self._live.close()
        super().destroy_node()

    def _listen(self, model: Model) -> None:
        name = model.name
        if model.drive is not None:
            self.create_subscription(Twist, model.drive.topic, lambda twist: self._drive(name, twist), QUEUE)
        if model.trajectories is not None:
            self.create_subscription(
                JointTrajectory, model.trajectories.topic, lambda message: self._follow(name, message), QUEUE
            )
        for control in model.positions:
            self._listen_to_position(name, control)

    def _listen_to_position(self, model: str, control: PositionControl) -> None:
        def heard(message: Float64) -> None:
            self._order(model, lambda simulation: simulation.go_to(model, control.servo.joint, message.data))

        self.create_subscription(Float64, control.topic, heard, QUEUE)

    def _drive(self, model: str, twist: Twist) -> None:
        linear, angular = twist.linear.x, twist.angular.z
        self._order(model, lambda simulation: simulation.drive(model, linear, angular))

    def _follow(self, model: str, message: JointTrajectory) -> None:
        try:
            trajectory = to_trajectory(message)
        except InvalidRequest as error:
            self._refuse(model, error)
            return
        self._order(model, lambda simulation: simulation.follow(model, trajectory))

    def _order(self, model: str, act: Any) -> None:
        def done(answer: Any) -> None:
            error = answer.exception()
            if error is not None:
                self._refuse(model, error)

        try:
            self._live.order(act).add_done_callback(done)
        except queue.Full:
            self._refuse(model, SkyfogError("too many orders wait"))

    def _refuse(self, model: str, error: BaseException) -> None:
        log.warning("order_refused", model=model, why=str(error))

    def _reset(self, request: ResetWorld.Request, response: ResetWorld.Response) -> ResetWorld.Response:
        try:
            self._live.reset(int(request.seed)).result(RESET_LIMIT_S)
        except ConfigError as error:
            response.status.code, response.status.message = int(Status.INVALID_REQUEST), str(error)
        except (TimeoutError, queue.Full) as error:
            response.status.code = int(Status.OUTCOME_UNKNOWN)
            response.status.message = f"not reset within {RESET_LIMIT_S:.0f} s {error}".strip()
        return response

    def _watch(self) -> None:
        """A world that failed must not look like one that stands still."""
        if self._live.fault is not None:
            raise SystemExit(1)


def installed_worlds() -> Path:
    """Where the build installs worlds. Raises ConfigError where there is no build."""
    try:
        return Path(get_package_share_directory("skyfog_bringup")) / FOLDER
    except PackageNotFoundError:
        raise ConfigError("skyfog_bringup is not installed: build the workspace and source it") from None


def main() -> None:
    """Entry point of `ros2 run skyfog_world world`."""
    sys.exit(run("world", lambda: [WorldNode()]))


if __name__ == "__main__":
    main()
