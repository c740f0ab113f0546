"""A car: its cameras' services on its own model and, as far as its uplink allows, in the cloud.

ros2 launch skyfog_bringup car.launch.py connect:=tcp/10.0.0.5:7450 cameras:=front=/front_camera/image
ros2 launch skyfog_bringup car.launch.py world:=street
ros2 launch skyfog_bringup car.launch.py video:=drive.mp4 cameras:=front=/camera/image
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from skyfog_bringup.launching import WORLDS, arguments_of, include_with, pairs, share, short
from skyfog_core.config.uplink import ShaperNodeConfig

TLS = ("zenoh.tls.ca", "zenoh.tls.certificate", "zenoh.tls.key")
NETWORK = ("fleet", "car", "zenoh.connect", *TLS, "transport", "trace")
CAMERAS = "front=/front_camera/image,left=/left_camera/image,right=/right_camera/image"

IMAGES_ONLY = share() / "config" / "cameras" / "images_only.yaml"


def car(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    table, model = LaunchConfiguration("table"), LaunchConfiguration("on_car_model")
    world, video = (LaunchConfiguration(name).perform(context) for name in ("world", "video"))
    cameras = pairs(LaunchConfiguration("cameras").perform(context), "cameras", "service=topic")
    clients = [
        include_with(
            "components/car_client.launch.py", node=f"{service}_client", table=table, service=service, image=topic
        )
        for service, topic in cameras.items()
    ]
    return [
        include_with("components/on_car.launch.py", namespace="on_car", model=model),
        include_with("components/allocator.launch.py", table=table),
        include_with(
            "components/shaper.launch.py",
            table=table,
            **{short(name): LaunchConfiguration(short(name)) for name in NETWORK},
        ),
        *clients,
        *([include_with("components/world.launch.py", world=world)] if world else []),
        *([include_with("components/camera.launch.py", image=video, params=IMAGES_ONLY)] if video else []),
    ]


def generate_launch_description() -> LaunchDescription:
    default = str(share() / "config" / "uplink" / "street.yaml")
    return LaunchDescription(
        [
            DeclareLaunchArgument("table", default_value=default, description="file with the option table"),
            DeclareLaunchArgument("cameras", default_value=CAMERAS, description="service=image topic, …"),
            DeclareLaunchArgument("on_car_model", default_value="", description="the model on the car"),
            DeclareLaunchArgument(
                "world", default_value="", choices=["", *WORLDS], description="also a simulated world"
            ),
            DeclareLaunchArgument("video", default_value="", description="also a camera that plays this, or a folder"),
            *arguments_of(ShaperNodeConfig, *NETWORK),
            OpaqueFunction(function=car),
        ]
    )
