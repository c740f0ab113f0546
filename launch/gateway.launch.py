"""The cloud's end of cars' uplinks, beside cloud.launch.py: ros2 launch skyfog_bringup gateway.launch.py config:=FILE

Any number may run; a car takes one that answers, and goes on with another when it dies.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

from skyfog_bringup.launching import AGAIN_S, END_LIMIT_S, end_if_wrong, share


def generate_launch_description() -> LaunchDescription:
    default = str(share() / "config" / "gateways" / "local.yaml")
    gateway = ExecuteProcess(
        cmd=["skyfog", "uplink", "gateway", "--config", LaunchConfiguration("config")],
        name="gateway",
        output="screen",
        sigterm_timeout=str(END_LIMIT_S),
        sigkill_timeout=str(END_LIMIT_S),
        respawn=True,
        respawn_delay=AGAIN_S,
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("config", default_value=default, description="file with the gateway's settings"),
            gateway,
            end_if_wrong(gateway, "gateway"),
        ]
    )
