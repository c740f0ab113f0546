"""A world of ours as Gazebo classic 11 reads it: one file, SDF 1.7, without what it does not know.

What changes: includes are put in place; gpu_lidar becomes ray, since a gpu_lidar ends a headless gzserver; gz-sim's
DiffDrive becomes classic's, every other plugin goes; meshes get file:// addresses; elements of our own namespace,
later than 1.7 or known to gz-sim only go. Classic's DiffDrive turns clockwise for a positive yaw rate: that is for
whoever drives it to mind.
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from pathlib import Path

from skyfog_world.mjcf import WHEEL_TORQUE
from skyfog_world.reader import OURS, Element, read
from skyfog_world.sdf import Resolver
from skyfog_world.sdf_link import LIDARS
from skyfog_world.sdf_plugins import DRIVE

GONE = ("mimic", "gz_frame_id", "topic")
FORMATS = ("R8G8B8", "L8")
CAMERAS = {"camera": "camera", "rgbd_camera": "camera", "depth_camera": "depth", "depth": "depth"}


def to_classic(file: Path, meshes: Path | None = None) -> str:
    """The whole world as one XML text. `meshes`: where the mesh files stand for Gazebo, else where they are here.

    Raises ConfigError that names file and element.
    """
    world = read(file, []).need("world")
    found = Resolver(file)
    root = ET.Element("sdf", version="1.7")
    out = ET.SubElement(root, "world", name=world.attribute("name"))
    for child in world.every_child():
        if child.tag.startswith("skyfog:") or child.tag == "plugin":
            continue
        element = found.included(child) if child.tag == "include" else child
        made = copy.deepcopy(element.xml)
        if made.tag == "model":
            _rewrite_model(element, made, found, meshes)
        out.append(made)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def mesh_files(file: Path) -> list[Path]:
    """The mesh files of a world: what `meshes` of to_classic must hold. Raises ConfigError."""
    world, found = read(file, []).need("world"), Resolver(file)
    models = [*world.children("model"), *(found.included(include) for include in world.children("include"))]
    paths = [
        found.file((uri.text or "").strip(), model) for model in models for uri in model.xml.findall(".//mesh/uri")
    ]
    return list(dict.fromkeys(paths))


def _rewrite_model(source: Element, model: ET.Element, found: Resolver, meshes: Path | None) -> None:
    for uri in model.findall(".//mesh/uri"):
        path = found.file((uri.text or "").strip(), source)
        uri.text = f"file://{meshes / path.name if meshes else path.resolve()}"
    for sensor in model.findall(".//sensor"):
        _rewrite_sensor(sensor)
    for plugin in model.findall("plugin"):
        if plugin.get("name") == DRIVE:
            _rewrite_drive(model, plugin)
        else:
            model.remove(plugin)
    for parent in list(model.iter()):
        for child in list(parent):
            if child.tag in GONE or child.tag.startswith(OURS):
                parent.remove(child)


def _rewrite_sensor(sensor: ET.Element) -> None:
    kind = sensor.get("type", "")
    if kind in LIDARS:
        sensor.set("type", "ray")
        for lidar in sensor.findall("lidar"):
            lidar.tag = "ray"
    elif kind in CAMERAS:
        sensor.set("type", CAMERAS[kind])
        for image in sensor.iter("image"):
            for form in image.findall("format"):
                if form.text not in FORMATS:
                    image.remove(form)


def _rewrite_drive(model: ET.Element, plugin: ET.Element) -> None:
    """Classic's takes the first joint of a side; it reads separation and radius off the model."""
    kept = {tag: plugin.findtext(tag) for tag in ("left_joint", "right_joint")}
    effort = model.findtext(f"joint[@name='{kept['left_joint']}']/axis/limit/effort", f"{WHEEL_TORQUE:g}")
    plugin.clear()
    plugin.set("name", "drive")
    plugin.set("filename", "libDiffDrivePlugin.so")
    for tag, text in kept.items():
        ET.SubElement(plugin, tag).text = text
    ET.SubElement(plugin, "torque").text = effort
