"""A simulated world, and with services:=true the robot's services: ros2 launch skyfog_bringup sim.launch.py"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction
from launch.conditions import IfCondition, UnlessCondition
from launch.substitutions import LaunchConfiguration

from skyfog_bringup.launching import WORLDS, FreeEndpoint, arguments_of, include_with
from skyfog_core.config.world import WorldConfig

OF_WORLD = ("real_time_factor", "scene_seed", "shadows")


def generate_launch_description() -> LaunchDescription:
    world, endpoint = LaunchConfiguration("world"), LaunchConfiguration("endpoint")
    given = {name: LaunchConfiguration(name) for name in OF_WORLD}
    gazebo, services = LaunchConfiguration("use_gazebo"), LaunchConfiguration("services")
    return LaunchDescription(
        [
            DeclareLaunchArgument("world", default_value="warehouse", choices=WORLDS, description="which sim_worlds/"),
            *arguments_of(WorldConfig, *OF_WORLD),
            DeclareLaunchArgument("use_gazebo", default_value="false", description="gz-sim through ros_gz instead"),
            DeclareLaunchArgument("services", default_value="false", description="also a robot proxy and a replica"),
            DeclareLaunchArgument("endpoint", default_value=FreeEndpoint(), description="where those two meet"),
            GroupAction(
                [include_with("components/world.launch.py", world=world, **given)],
                condition=UnlessCondition(gazebo),
            ),
            GroupAction([include_with("components/gazebo.launch.py", world=world)], condition=IfCondition(gazebo)),
            GroupAction(
                [
                    include_with("robot.launch.py", listen=endpoint),
                    include_with("cloud.launch.py", namespace="replica_0", connect=endpoint),
                ],
                condition=IfCondition(services),
            ),
        ]
    )
