"""What runs on a robot: ros2 launch skyfog_bringup robot.launch.py connect:=tcp/10.0.0.5:7447,tcp/10.1.0.5:7447"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration

from skyfog_bringup.launching import include, include_with


def generate_launch_description() -> LaunchDescription:
    action = include_with("components/generate_action.launch.py", profile=LaunchConfiguration("profile"))
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "language", default_value="false", choices=["true", "false"], description="offer the action generate"
            ),
            include("components/robot_proxy.launch.py"),
            GroupAction([action], condition=IfCondition(LaunchConfiguration("language"))),
        ]
    )
