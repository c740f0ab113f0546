"""What happens in a world, as ROS messages. Called by the world's two threads."""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry as OdometryMessage
from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState, LaserScan
from tf2_msgs.msg import TFMessage

from skyfog_core.poses import Pose, inverse
from skyfog_core.units import S
from skyfog_interfaces.msg import ModelStates
from skyfog_world.control import Odometry
from skyfog_world.frames import from_rpy
from skyfog_world.live import Due
from skyfog_world.model import WORLD, CameraSpec, Model, Sensor, World
from skyfog_world.mujoco_sim import Simulation
from skyfog_world.nodes.messages import (
    camera_info,
    header,
    image,
    laser_scan,
    pose_message,
    stamp,
    transform,
)
from skyfog_world.sensors import Picture
from skyfog_world.topics import camera_topics
from skyfog_world.tree import Edge, FixedEdge, OdometryEdge, edges

QUEUE = 10


class Publisher:
    """A live.Listener. After the node is gone it says nothing."""

    def __init__(self, node: Node, world: World, model_states_hz: float) -> None:
        self._world = world
        tree = edges(world)
        self._moving: list[Edge] = [edge for edge in tree if not isinstance(edge, FixedEdge)]
        self._clock = node.create_publisher(Clock, "/clock", QUEUE)
        self._tf = node.create_publisher(TFMessage, "/tf", 100)
        self._joints = node.create_publisher(JointState, "joint_states", QUEUE)
        self._models = node.create_publisher(ModelStates, "~/model_states", QUEUE)
        self._model_states = Due(round(S / model_states_hz))
        self._odometry = {
            model.name: (Due(round(S / model.drive.odom_hz)), node.create_publisher(OdometryMessage, topic, QUEUE))
            for model in world.models.values()
            if model.drive is not None and (topic := model.drive.odom_topic)
        }
        self._of_sensors: dict[str, Any] = {}
        for _, _, sensor in world.sensors():
            if isinstance(sensor.spec, CameraSpec):
                colour, depth, info = camera_topics(sensor)
                for topic, kind in ((colour, Image), (depth, Image), (info, CameraInfo)):
                    if topic and topic not in self._of_sensors:
                        self._of_sensors[topic] = node.create_publisher(kind, topic, QUEUE)
            else:
                self._of_sensors[sensor.topic] = node.create_publisher(LaserScan, sensor.topic, QUEUE)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._tf_static = node.create_publisher(TFMessage, "/tf_static", latched)
        fixed = [edge for edge in tree if isinstance(edge, FixedEdge)]
        self._tf_static.publish(TFMessage(transforms=[transform(e.parent, e.child, e.pose, 0) for e in fixed]))

    def ticked(self, now_ns: int) -> None:
        _publish(self._clock, Clock(clock=stamp(now_ns)))

    def states(self, simulation: Simulation) -> None:
        now_ns = simulation.now_ns
        for model in self._world.models.values():
            if model.moves_itself:
                self._tell_joints(simulation, model)
        transforms = [self._moved(simulation, edge) for edge in self._moving]
        if transforms:
            _publish(self._tf, TFMessage(transforms=transforms))
        for name, (due, publisher) in self._odometry.items():
            if _again(due, now_ns):
                _publish(publisher, self._odometry_message(simulation, name))
        if _again(self._model_states, now_ns):
            names = list(self._world.models)
            poses = [pose_message(simulation.model_pose(name)) for name in names]
            _publish(self._models, ModelStates(header=header(WORLD, now_ns), names=names, poses=poses))

    def picture(self, sensor: Sensor, picture: Picture, taken_ns: int) -> None:
        colour, depth, info = camera_topics(sensor)
        _publish(self._of_sensors[info], camera_info(sensor, taken_ns))
        if picture.rgb is not None:
            _publish(self._of_sensors[colour], image(sensor, picture.rgb, "rgb8", taken_ns))
        if picture.depth is not None:
            _publish(self._of_sensors[depth], image(sensor, picture.depth, "32FC1", taken_ns))

    def scanned(self, sensor: Sensor, ranges: Any, taken_ns: int) -> None:
        _publish(self._of_sensors[sensor.topic], laser_scan(sensor, ranges, taken_ns))

    def _tell_joints(self, simulation: Simulation, model: Model) -> None:
        states = simulation.joint_states(model.name)
        message = JointState(header=header("", simulation.now_ns), name=[state.name for state in states])
        message.position = [state.position for state in states]
        message.velocity = [state.velocity for state in states]
        message.effort = [state.effort for state in states]
        _publish(self._joints, message)

    def _moved(self, simulation: Simulation, edge: Edge) -> Any:
        assert not isinstance(edge, FixedEdge)
        if isinstance(edge, OdometryEdge):
            pose = _base(simulation.odometry(edge.model))
        else:
            parent = simulation.link_pose(edge.model, edge.parent_link)
            pose = inverse(parent) @ simulation.link_pose(edge.model, edge.child_link)
        return transform(edge.parent, edge.child, pose, simulation.now_ns)

    def _odometry_message(self, simulation: Simulation, name: str) -> OdometryMessage:
        drive = self._world.models[name].drive
        assert drive is not None
        found = simulation.odometry(name)
        message = OdometryMessage(header=header(drive.frame_id, simulation.now_ns), child_frame_id=drive.child_frame_id)
        message.pose.pose = pose_message(_base(found))
        message.twist.twist = Twist()
        message.twist.twist.linear.x = found.linear
        message.twist.twist.angular.z = found.angular
        return message


def _base(odometry: Odometry) -> Pose:
    return from_rpy(odometry.x, odometry.y, 0, 0, 0, odometry.yaw)


def _again(due: Due, now_ns: int) -> bool:
    """Whether it is due, also after time went back."""
    if due.next_ns > now_ns + due.period_ns:
        due.next_ns = 0
    return due.take(now_ns)


def _publish(publisher: Any, message: Any) -> None:
    try:
        publisher.publish(message)
    except (InvalidHandle, RCLError):
        return  # ROS is shutting down
