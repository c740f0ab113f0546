"""A robot with a camera, and replicas in several zones, on this machine: ros2 launch skyfog_bringup demo.launch.py"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from skyfog_bringup.launching import FreeEndpoint, arguments_of, configured, include_with
from skyfog_core.config.demo import DemoConfig

FROM_DEMO = ("replicas", "rate", "image", "seed")


def fleet(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    demo = configured(context, DemoConfig, *FROM_DEMO)
    endpoint = LaunchConfiguration("endpoint")
    robot = include_with("robot.launch.py", listen=endpoint, trace=LaunchConfiguration("trace"))
    replicas = [
        include_with(
            "cloud.launch.py",
            namespace=f"replica_{index}",
            zone=zone.zone,
            replica=index,
            added_latency_ms=zone.added_latency_ms,
            connect=endpoint,
        )
        for index, zone in enumerate(demo.zones[: demo.replicas])
    ]
    camera = include_with(
        "components/camera.launch.py",
        rate_hz=demo.rate,
        image=demo.image,
        seed=demo.seed,
        record=LaunchConfiguration("record"),
    )
    return [robot, *replicas, camera]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *arguments_of(DemoConfig, *FROM_DEMO),
            DeclareLaunchArgument("endpoint", default_value=FreeEndpoint(), description="where the fleet meets"),
            DeclareLaunchArgument("trace", default_value="", description="JSON-lines file of the robot's decisions"),
            DeclareLaunchArgument("record", default_value="", description="JSON-lines file of the camera's answers"),
            OpaqueFunction(function=fleet),
        ]
    )
