"""Schema of scan, pick and place (`skyfog_planning.nodes.pick_place`). Lengths in metres, in the robot's base frame."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skyfog_core.config.base import Strict

Three = Annotated[list[float], Field(min_length=3, max_length=3)]


class ViewConfig(Strict):
    """One look at the table."""

    joints: Annotated[list[float], Field(min_length=1, max_length=16, description="of the arm, radians, in its order")]


class BoxConfig(Strict):
    """One upright box that the arm must not touch."""

    center: Annotated[Three, Field(description="m, in the robot's base frame")]
    size: Annotated[Three, Field(description="m")]


class PickPlaceConfig(Strict):
    """Scan, pick and place: which services it calls, where it looks, where things are."""

    robot: Annotated[str, Field(min_length=1, description="robot by its name in the planning service")] = "panda"
    segment_service: Annotated[str, Field(min_length=1, description="skyfog_interfaces/srv/Segment")] = "/segment"
    plan_service: Annotated[str, Field(min_length=1, description="skyfog_interfaces/srv/PlanMotion")] = "/plan_motion"
    camera: Annotated[str, Field(description="topics <camera>/image, …/depth_image and …/camera_info")] = (
        "/wrist_camera"
    )
    trajectory_topic: Annotated[str, Field(min_length=1, description="trajectory_msgs/JointTrajectory")] = (
        "/panda/joint_trajectory"
    )
    base_frame: Annotated[str, Field(min_length=1, description="frame of /tf that plans are made in")] = "panda_link0"
    camera_frame: Annotated[str, Field(description="optical frame; empty: what the image's header says")] = ""
    arm_joints: Annotated[list[str], Field(min_length=1, description="as on /joint_states")] = [
        f"panda_joint{index}" for index in range(1, 8)
    ]
    finger_joints: Annotated[
        list[str], Field(min_length=1, description="each moves one finger by half the opening")
    ] = [
        "panda_finger_joint1",
        "panda_finger_joint2",
    ]
    views: Annotated[dict[str, ViewConfig], Field(min_length=1)]
    region_low: Annotated[Three, Field(description="where objects are looked for")]
    region_high: Annotated[Three, Field(description="where objects are looked for")]
    floor_m: Annotated[float, Field(description="height of what the objects stand on")] = 0.0
    bin_center: Annotated[Three, Field(description="where the fingers open above the bin")]
    bin_spread_m: Annotated[float, Field(ge=0, description="objects are let go this far around it, in turn")] = 0.05
    obstacles: dict[str, BoxConfig] = {}
    lift_m: Annotated[float, Field(gt=0, le=1, description="how far above a grasp the arm comes and goes")] = 0.12
    max_opening_m: Annotated[float, Field(gt=0, le=1, description="between the fingers")] = 0.08
    score_threshold: Annotated[float, Field(ge=0, le=1, description="of a pixel, for the segmentation")] = 0.5
    velocity_scaling: Annotated[float, Field(gt=0, le=1, description="share of the joints' limits")] = 0.5
    plan_budget_s: Annotated[float, Field(gt=0, le=600, description="for one motion")] = 5.0
    call_limit_s: Annotated[float, Field(gt=0, le=600, description="no answer of a service by then is a failure")] = (
        20.0
    )
    motion_limit_s: Annotated[float, Field(gt=0, le=600, description="beyond a trajectory's own time, wall clock")] = (
        20.0
    )
    arrival_rad: Annotated[float, Field(gt=0, le=1, description="how near the end of a trajectory counts as there")] = (
        0.02
    )
    max_rounds: Annotated[int, Field(ge=1, le=20, description="scans of the whole table")] = 3
    time_limit_s: Annotated[float, Field(gt=0, le=36_000, description="for one goal")] = 600.0
