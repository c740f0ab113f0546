"""gz-sim with a world of ours, and the bridge to ROS. Not run here: it needs ros_gz, which Ubuntu 24.04 has."""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from skyfog_bringup.launching import WORLDS, include_from, share


def gazebo(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    world = LaunchConfiguration("world").perform(context)
    bridge = share() / "config" / "base" / f"gz_bridge_{world}.yaml"
    return [
        SetEnvironmentVariable("GZ_SIM_RESOURCE_PATH", str(share() / "sim_worlds" / "models")),
        include_from("ros_gz_sim", "gz_sim.launch.py", gz_args=f"-r {share() / 'sim_worlds' / world}.sdf"),
        Node(
            package="ros_gz_bridge",
            executable="parameter_bridge",
            parameters=[{"config_file": str(bridge)}],
            output="screen",
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    world = DeclareLaunchArgument("world", default_value="warehouse", choices=WORLDS, description="which sim_worlds/")
    return LaunchDescription([world, OpaqueFunction(function=gazebo)])
