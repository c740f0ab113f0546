"""The camera that plays images."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from skyfog_core.units import S
from support.processes import Processes, wait_until
from support.ros import free_domain, ros_node

FILM = (10, 120, 240)


def test_without_a_service_a_camera_only_publishes_its_images_in_their_order(tmp_path: Path) -> None:
    film = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for shade in FILM:
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    domain = free_domain()
    shades: list[int] = []
    stamps: list[int] = []

    def seen(image: Image) -> None:
        shades.append(image.data[0])
        stamps.append(image.header.stamp.sec * S + image.header.stamp.nanosec)

    with Processes(tmp_path) as processes, ros_node(domain) as node:
        node.create_subscription(Image, "/front/image", seen, qos_profile_sensor_data)
        words = ("-r", "__node:=front", "-p", f"image:={film}", "-p", "service:=''", "-p", "rate_hz:=20.0")
        words += ("-p", f"record:={tmp_path}/shots.jsonl")
        processes.python(
            "camera", "-m", "skyfog_bringup.nodes.camera", "--ros-args", *words, env={"ROS_DOMAIN_ID": str(domain)}
        )
        wait_until("eight images", lambda: len(shades) >= 8)
    shots = [json.loads(line) for line in (tmp_path / "shots.jsonl").read_text().splitlines()]
    assert [shot["index"] for shot in shots] == list(range(len(shots)))
    index = {shot["stamp_ns"]: shot["index"] for shot in shots}
    assert index.keys() >= set(stamps)
    rounded = [min(FILM, key=lambda known, shade=shade: abs(known - shade)) for shade in shades]
    assert rounded == [FILM[index[stamp] % len(FILM)] for stamp in stamps]  # a sensor's topic may leave images out
