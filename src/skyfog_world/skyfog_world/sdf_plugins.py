"""The part of the SDF loader that reads how a model is driven: gz-sim's plugin tags."""

from __future__ import annotations

from skyfog_world.model import DiffDrive, Joint, PositionControl, Servo, TrajectoryControl
from skyfog_world.reader import Element

DRIVE = "gz::sim::systems::DiffDrive"
TRAJECTORIES = "gz::sim::systems::JointTrajectoryController"
POSITION = "gz::sim::systems::JointPositionController"
# Publish what the embedded simulator always publishes; nothing to read in them.
IMPLIED = ("gz::sim::systems::JointStatePublisher", "gz::sim::systems::PosePublisher")

Controls = tuple[DiffDrive | None, TrajectoryControl | None, tuple[PositionControl, ...]]


def read_controls(model: Element, joints: dict[str, Joint]) -> Controls:
    """What the plugins of a model drive. Raises ConfigError where one names a joint that is not there."""
    drive: DiffDrive | None = None
    trajectories: TrajectoryControl | None = None
    positions: list[PositionControl] = []
    driven: list[str] = []
    for plugin in model.children("plugin"):
        kind = plugin.attribute("name")
        if kind == DRIVE and drive is None:
            drive = _drive(plugin, model.attribute("name"), joints)
            driven += [*drive.left, *drive.right]
        elif kind == TRAJECTORIES and trajectories is None:
            trajectories = _trajectories(plugin, model.attribute("name"), joints)
            driven += [servo.joint for servo in trajectories.servos]
        elif kind == POSITION:
            positions.append(_position(plugin, model.attribute("name"), joints))
            driven.append(positions[-1].servo.joint)
        elif kind in (DRIVE, TRAJECTORIES):
            raise plugin.error("a model can have one of these only")
        elif kind not in IMPLIED:
            supported = ", ".join((DRIVE, TRAJECTORIES, POSITION, *IMPLIED))
            plugin.warnings.append(
                f"{plugin.file}: {plugin.place}: this plugin is not supported (supported: {supported})"
            )
    for joint in driven:
        if driven.count(joint) > 1:
            raise model.error(f"joint {joint!r} is driven twice")
    return drive, trajectories, tuple(positions)


def _moving(plugin: Element, name: str, joints: dict[str, Joint]) -> str:
    movable = [joint.name for joint in joints.values() if joint.kind in ("revolute", "prismatic")]
    if name not in movable:
        raise plugin.error(f"there is no joint {name!r} that moves (there are: {', '.join(movable) or 'none'})")
    return name


def _drive(plugin: Element, model: str, joints: dict[str, Joint]) -> DiffDrive:
    plugin.only_knows(
        *("left_joint", "right_joint", "wheel_separation", "wheel_radius", "topic", "odom_topic", "frame_id"),
        *("child_frame_id", "odom_publish_frequency", "tf_topic"),
    )
    sides: dict[str, tuple[str, ...]] = {}
    for tag in ("left_joint", "right_joint"):
        plugin.need(tag)
        found = plugin.children(tag)
        sides[tag] = tuple(_moving(plugin, (child.xml.text or "").strip(), joints) for child in found)
    return DiffDrive(
        left=sides["left_joint"],
        right=sides["right_joint"],
        separation=plugin.number("wheel_separation", above=0),
        radius=plugin.number("wheel_radius", above=0),
        topic=plugin.text("topic", f"model/{model}/cmd_vel").strip("/"),
        odom_topic=plugin.text("odom_topic", f"model/{model}/odometry").strip("/"),
        frame_id=plugin.text("frame_id", f"{model}/odom"),
        child_frame_id=plugin.text("child_frame_id", f"{model}/base_link"),
        odom_hz=plugin.number("odom_publish_frequency", 50.0, above=0),
    )


def _trajectories(plugin: Element, model: str, joints: dict[str, Joint]) -> TrajectoryControl:
    """Each <joint_name> may be followed by its gains, in the order of the names, as in gz-sim."""
    names = [_moving(plugin, (child.xml.text or "").strip(), joints) for child in plugin.children("joint_name")]
    if not names:
        raise plugin.error("needs at least one <joint_name>")
    p_gains = _each(plugin, "position_p_gain", len(names))
    d_gains = _each(plugin, "position_d_gain", len(names))
    starts = _each(plugin, "initial_position", len(names), signed=True)
    servos = tuple(Servo(name, p, d, start) for name, p, d, start in zip(names, p_gains, d_gains, starts, strict=True))
    return TrajectoryControl(plugin.text("topic", f"model/{model}/joint_trajectory").strip("/"), servos)


def _each(plugin: Element, tag: str, count: int, *, signed: bool = False) -> tuple[float, ...]:
    """One number a joint, at least 0 unless `signed`; none at all means 0 for every one."""
    found = plugin.children(tag)
    if not found:
        return (0.0,) * count
    if len(found) != count:
        raise plugin.error(f"has {len(found)} <{tag}> for {count} <joint_name>")
    return tuple(child.value(signed=signed) for child in found)


def _position(plugin: Element, model: str, joints: dict[str, Joint]) -> PositionControl:
    plugin.only_knows("joint_name", "topic", "p_gain", "i_gain", "d_gain", "initial_position", "cmd_max", "cmd_min")
    name = _moving(plugin, plugin.text("joint_name"), joints)
    servo = Servo(
        name,
        plugin.number("p_gain", 1.0, low=0),
        plugin.number("d_gain", 0.1, low=0),
        plugin.number("initial_position", 0.0),
    )
    return PositionControl(plugin.text("topic", f"model/{model}/joint/{name}/0/cmd_pos").strip("/"), servo)
