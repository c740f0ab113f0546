"""What Gazebo classic is given: SDF 1.7 with nothing that it does not know."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from unit.skyfog_world.files import WORLDS

from skyfog_world.classic import mesh_files, to_classic


@pytest.mark.parametrize("name", ["tabletop", "warehouse", "street"])
def test_an_exported_world_is_one_file_that_classic_knows(name: str) -> None:
    root = ET.fromstring(to_classic(WORLDS / f"{name}.sdf"))
    tags = {element.tag for element in root.iter()}
    assert root.get("version") == "1.7"
    assert not tags & {"include", "mimic", "gz_frame_id", "topic", "lidar"}
    assert not any("}" in tag for tag in tags)
    assert {sensor.get("type") for sensor in root.iter("sensor")} <= {"camera", "depth", "ray"}
    assert {plugin.get("filename") for plugin in root.iter("plugin")} <= {"libDiffDrivePlugin.so"}


def test_the_warehouse_keeps_its_models_drive_and_meshes() -> None:
    file = WORLDS / "warehouse.sdf"
    root = ET.fromstring(to_classic(file, Path("/w")))
    models = [model.get("name") for model in root.iter("model")]
    assert models[:3] == ["ground", "walls", "base"]
    assert models.count("person_1") == 1
    drive = root.find(".//plugin")
    assert drive is not None
    assert (drive.findtext("left_joint"), drive.findtext("right_joint")) == ("left_wheel_joint", "right_wheel_joint")
    assert {uri.text for uri in root.iterfind(".//mesh/uri")} == {"file:///w/crate.obj"}
    assert [path.name for path in mesh_files(file)] == ["crate.obj"]
    samples = [ray.findtext(".//samples") for ray in root.iter("ray")]
    assert samples == ["360"]
