"""What runs on a robot: ros2 launch skyfog_bringup robot.launch.py connect:=tcp/10.0.0.5:7447,tcp/10.1.0.5:7447"""

from launch import LaunchDescription

from skyfog_bringup.launching import include


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([include("components/robot_proxy.launch.py")])
