"""Loading SDF: frames, includes, every shape and sensor, and what is refused with file and element."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from unit.skyfog_world.files import BALL, SPHERE, WORLDS, joint, link, loaded, model

from skyfog_core.errors import ConfigError
from skyfog_world.frames import from_rpy
from skyfog_world.model import Box, CameraSpec, Cylinder, LidarSpec, Mesh, Plane, Sphere
from skyfog_world.sdf import load


@pytest.mark.parametrize("name", ["tabletop", "warehouse", "street"])
def test_our_worlds_load_without_a_warning(name: str) -> None:
    world = load(WORLDS / f"{name}.sdf")
    assert world.warnings == ()
    assert world.name == name


def test_the_tabletop_has_the_joints_and_frames_of_the_panda() -> None:
    panda = load(WORLDS / "tabletop.sdf").models["panda"]
    movable = [name for name, one in panda.joints.items() if one.kind != "fixed"]
    assert movable == [*(f"panda_joint{n}" for n in range(1, 8)), "panda_finger_joint1", "panda_finger_joint2"]
    # panda.urdf: the flange is 0.107 behind link 7, the hand turned by -45° on it
    at = np.linalg.inv(panda.links["panda_link7"].pose) @ panda.links["panda_hand"].pose
    assert at == pytest.approx(from_rpy(0, 0, 0.107, 0, 0, -math.pi / 4), abs=1e-9)
    assert panda.links["panda_link4"].pose[:3, 3] == pytest.approx((0.0825, 0, 0.333 + 0.316), abs=1e-9)
    assert (panda.joints["panda_joint4"].lower, panda.joints["panda_joint4"].upper) == (-3.1416, 0.0873)
    mimic = panda.joints["panda_finger_joint2"].mimic
    assert mimic is not None
    assert mimic.joint == "panda_finger_joint1"


def test_poses_are_stated_in_links_joints_frames_and_other_models(tmp_path: Path) -> None:
    world = loaded(
        tmp_path,
        model(
            "<pose>1 0 0 0 0 1.5707963267948966</pose>"
            '<frame name="f" attached_to="a"><pose>0 0 1 0 0 0</pose></frame>'
            + link("a", "<pose>1 0 0 0 0 0</pose>")
            + link("b", '<pose relative_to="f">0 2 0 0 0 0</pose>')
            + link("c", '<pose relative_to="j">0 0 3 0 0 0</pose>')
            + joint(
                "revolute", "a", "b", '<pose>0 0 0.5 0 0 0</pose><axis><xyz expressed_in="__model__">1 0 0</xyz></axis>'
            ),
        )
        + model('<pose relative_to="m::b">0 0 5 0 0 0</pose>' + BALL, "rider"),
    )
    links = world.models["m"].links
    assert links["b"].pose[:3, 3] == pytest.approx((1, 2, 1))
    assert links["c"].pose[:3, 3] == pytest.approx((1, 2, 4.5))
    assert world.models["rider"].pose[:3, 3] == pytest.approx((-1, 1, 6))
    found = world.models["m"].joints["j"]
    assert found.pose[:3, 3] == pytest.approx((0, 0, 0.5))
    assert found.axis == pytest.approx((1, 0, 0))
    assert (found.lower, found.upper, found.effort) == (-math.inf, math.inf, math.inf)


def test_an_include_takes_its_name_and_pose_from_where_it_is_included(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "ball"
    folder.mkdir(parents=True)
    (folder / "model.sdf").write_text(
        f'<sdf version="1.7"><model name="ball"><pose>9 9 9 0 0 0</pose>{BALL}</model></sdf>'
    )
    include = "<include><uri>{}</uri><name>{}</name><pose>1 2 3 0 0 0</pose><static>1</static></include>"
    world = loaded(
        tmp_path,
        include.format("model://ball", "one")
        + include.format("models/ball/model.sdf", "two")
        + "<include><uri>model://ball</uri></include>",
    )
    assert list(world.models) == ["one", "two", "ball"]
    assert world.models["two"].static
    assert world.models["one"].pose[:3, 3] == pytest.approx((1, 2, 3))
    assert world.models["ball"].pose[:3, 3] == pytest.approx((9, 9, 9))


SHAPES = {
    "<box><size>1 2 3</size></box>": Box((1, 2, 3)),
    "<sphere><radius>2</radius></sphere>": Sphere(2),
    "<cylinder><radius>1</radius><length>4</length></cylinder>": Cylinder(1, 4),
    "<capsule><radius>1</radius><length>4</length></capsule>": Cylinder(1, 4, capsule=True),
    "<plane><normal>0 1 0</normal><size>5 6</size></plane>": Plane((0, 1, 0), (5, 6)),
}


@pytest.mark.parametrize(("text", "shape"), SHAPES.items())
def test_every_shape_is_read(tmp_path: Path, text: str, shape: object) -> None:
    visual = f'<visual name="v"><geometry>{text}</geometry><material><diffuse>1 0 0</diffuse></material></visual>'
    found = loaded(tmp_path, model(link("l", visual))).models["m"].links["l"].visuals[0]
    assert found.shape == shape
    assert found.rgba == (1, 0, 0, 1)


def test_the_warehouse_has_a_mesh_a_lidar_and_two_cameras() -> None:
    world = load(WORLDS / "warehouse.sdf")
    mesh = world.models["crate_0"].links["link"].visuals[0].shape
    assert isinstance(mesh, Mesh)
    assert mesh.file.is_file()
    specs = {sensor.topic: sensor.spec for _, _, sensor in world.sensors()}
    camera, depth, lidar = specs["camera/image"], specs["depth/depth_image"], specs["scan"]
    assert isinstance(camera, CameraSpec)
    assert (camera.width, camera.height, camera.colour, camera.depth) == (320, 240, True, False)
    assert isinstance(depth, CameraSpec)
    assert (depth.colour, depth.depth) == (False, True)
    assert isinstance(lidar, LidarSpec)
    assert (lidar.samples, lidar.angles[0], lidar.angles[-1]) == (360, -3.14159, 3.14159)


def test_what_is_not_supported_is_named_with_what_is(tmp_path: Path) -> None:
    world = loaded(
        tmp_path,
        '<wind/><physics><solver/></physics><plugin name="Rain" filename="r"/>'
        + model(
            link("l", '<sensor name="s" type="sonar"/><gravty>0</gravty>')
            + '<plugin name="Brain" filename="brain"><x/></plugin>'
        ),
    )
    wind, solver, rain, tag, sonar, plugin = world.warnings
    assert "w.sdf: world 'w': <wind> is not supported (supported: gravity," in wind
    assert "physics: <solver> is not supported (supported: max_step_size," in solver
    assert "plugin 'Rain': this plugin is not supported (supported: gz::sim::systems::Physics," in rain
    assert "<gravty> is not supported; did you mean 'gravity'?" in tag
    assert "link 'l'/sensor 's': sensor type 'sonar' is not supported (supported: camera," in sonar
    assert "plugin 'Brain': this plugin is not supported (supported: gz::sim::systems::DiffDrive," in plugin
    assert "l" in world.models["m"].links


CAMERA = (
    '<sensor name="s" type="camera"><camera><horizontal_fov>{}</horizontal_fov>'
    "<image><width>{}</width><height>2</height></image></camera></sensor>"
)
DRIVE = (
    '<plugin name="gz::sim::systems::DiffDrive" filename="f"><left_joint>{}</left_joint><right_joint>j</right_joint>'
    "<wheel_separation>1</wheel_separation><wheel_radius>1</wheel_radius></plugin>"
)
FOLLOW = '<plugin name="gz::sim::systems::JointTrajectoryController" filename="f"><joint_name>j</joint_name>{}</plugin>'
BAD = {
    "a radius below zero": (model(link("l", SPHERE.format(-1))), "sphere: <radius> is -1; it must be more than 0"),
    "no number": (model(link("l", SPHERE.format("wide"))), "<radius> is 'wide', no number"),
    "NaN": (model(link("l", SPHERE.format("nan"))), "<radius> is nan; it must be finite"),
    "an infinite pose": (model("<pose>0 0 inf 0 0 0</pose>" + BALL), "model 'm': <pose> is inf; it must be finite"),
    "a short pose": (model("<pose>0 0 0</pose>" + BALL), "model 'm': <pose> has 3 numbers, not 6"),
    "no shape": (
        model(link("l", '<visual name="v"><geometry><teapot/></geometry></visual>')),
        "geometry: holds teapot; it must hold one of box,",
    ),
    "no link": (model(""), "model 'm': has no <link>"),
    "a joint to nothing": (
        model(BALL + joint("fixed", "ball", "x")),
        "joint 'j': there is no link 'x' (there are: world, ball)",
    ),
    "an unknown joint": (
        model(BALL + joint("elastic", "world", "ball")),
        "type 'elastic' is not supported (supported: fixed,",
    ),
    "two parents": (
        model(
            link("a") + link("b") + joint("fixed", "a", "b") + joint("fixed", "world", "b", name="k"),
        ),
        "link 'b' is the child of two joints",
    ),
    "a circle of joints": (
        model(link("a") + link("b") + joint("fixed", "a", "b") + joint("fixed", "b", "a", name="k")),
        "hangs on itself",
    ),
    "a circle of frames": (
        model(
            link("a", '<pose relative_to="b">0 0 0 0 0 0</pose>')
            + link("b", '<pose relative_to="a">0 0 0 0 0 0</pose>')
        ),
        "are stated in a circle",
    ),
    "an unknown frame": (model(link("a", '<pose relative_to="x">0 0 0 0 0 0</pose>')), "there is no frame 'x'"),
    "two of a name": (model(BALL) + model(BALL), "two frames are called 'm'"),
    "crossed limits": (
        model(
            BALL + joint("revolute", "world", "ball", "<axis><limit><lower>1</lower><upper>0</upper></limit></axis>"),
        ),
        "<lower> is 1, above <upper>, which is 0",
    ),
    "no direction": (
        model(BALL + joint("revolute", "world", "ball", "<axis><xyz>0 0 0</xyz></axis>")),
        "needs a length",
    ),
    "a missing include": ("<include><uri>model://nothing</uri></include>", "'model://nothing' leads to no file"),
    "an include from the net": (
        "<include><uri>https://x/y</uri></include>",
        "only model://, file:// and relative paths",
    ),
    "half a pixel": (model(link("l", CAMERA.format(1, 1.5))), "<width> is 1.5; it must be a whole number"),
    "a camera all round": (model(link("l", CAMERA.format(4, 2))), "<horizontal_fov> is 4 rad"),
    "a wheel that is not there": (
        model(BALL + joint("revolute", "world", "ball", "<axis/>") + DRIVE.format("wheel")),
        "there is no joint 'wheel' that moves (there are: j)",
    ),
    "a joint driven twice": (
        model(BALL + joint("revolute", "world", "ball", "<axis/>") + DRIVE.format("j")),
        "joint 'j' is driven twice",
    ),
    "a gain below zero": (
        model(
            BALL
            + joint("revolute", "world", "ball", "<axis/>")
            + FOLLOW.format("<position_p_gain>-1</position_p_gain>")
        ),
        "position_p_gain: <position_p_gain> is -1; it must be at least 0",
    ),
    "a gain that is no number": (
        model(
            BALL
            + joint("revolute", "world", "ball", "<axis/>")
            + FOLLOW.format("<position_d_gain>nan</position_d_gain>")
        ),
        "<position_d_gain> is nan; it must be finite",
    ),
    "a gain for another joint": (
        model(
            BALL
            + joint("revolute", "world", "ball", "<axis/>")
            + FOLLOW.format("<position_d_gain>1</position_d_gain>" * 2)
        ),
        "has 2 <position_d_gain> for 1 <joint_name>",
    ),
    "a scene of nothing": (
        model(BALL) + "<skyfog:scene><models>x</models><low>0 0</low><high>1 1</high></skyfog:scene>",
        "skyfog:scene: there is no model 'x' (there are: m)",
    ),
    "traffic that falls": (
        model(BALL) + "<skyfog:traffic><models>m</models><recorded>r.csv</recorded></skyfog:traffic>",
        "model 'm' is not <static>",
    ),
}


@pytest.mark.parametrize(("inside", "part"), BAD.values(), ids=BAD)
def test_what_contradicts_itself_is_refused_with_file_and_element(tmp_path: Path, inside: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, inside)
    assert part in str(caught.value)
    assert str(tmp_path / "w.sdf") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [("<sdf><world", "is no XML"), ("<urdf/>", "the outermost element is <urdf>"), ("<sdf/>", "has no <world>")],
)
def test_a_file_that_is_no_world_is_refused(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "x.sdf"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"x\.sdf: .*{part}"):
        load(file)
    with pytest.raises(ConfigError, match=r"nowhere\.sdf: No such file"):
        load(tmp_path / "nowhere.sdf")
