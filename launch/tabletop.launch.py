"""The simulated table, two replicas each of segmentation and planning, and the action that clears the table.

ros2 launch skyfog_bringup tabletop.launch.py
ros2 action send_goal /pick_place skyfog_interfaces/action/PickPlace {}
"""

from launch import LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from skyfog_bringup.launching import FreeEndpoint, include_with, share

ZONES = ("us-west-2a", "us-east-1b")
SERVICES = {
    "segment": ("skyfog_interfaces/srv/Segment", "skyfog_perception.nodes.segment:SegmentService"),
    "plan_motion": ("skyfog_interfaces/srv/PlanMotion", "skyfog_planning.nodes.plan:PlanService"),
}


def fleet(_context: object) -> list[LaunchDescriptionEntity]:
    endpoint = LaunchConfiguration("endpoint")
    replicas = [
        include_with(
            "cloud.launch.py",
            namespace=f"{name}_{index}",
            zone=zone,
            service=f"/{name}",
            type=kind,
            embedded=embedded,
            connect=endpoint,
            params=share() / "config" / "worlds" / "tabletop.yaml",
        )
        for name, (kind, embedded) in SERVICES.items()
        for index, zone in enumerate(ZONES)
    ]
    return [
        include_with(
            "components/world.launch.py",
            world="tabletop",
            real_time_factor=LaunchConfiguration("real_time_factor"),
            scene_seed=LaunchConfiguration("scene_seed"),
        ),
        include_with("robot.launch.py", listen=endpoint),
        *replicas,
        include_with("components/pick_place.launch.py"),
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("endpoint", default_value=FreeEndpoint(), description="where the fleet meets"),
            DeclareLaunchArgument("real_time_factor", default_value="1.0", description="simulated seconds a second"),
            DeclareLaunchArgument(
                "scene_seed", default_value="0", description="where the things lie; 0: as in the file"
            ),
            OpaqueFunction(function=fleet),
        ]
    )
