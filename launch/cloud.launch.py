"""What runs on a replica's machine: ros2 launch skyfog_bringup cloud.launch.py profile:=lab zone:=us-west-2a"""

from launch import LaunchDescription

from skyfog_bringup.launching import include


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([include("components/replica_proxy.launch.py")])
