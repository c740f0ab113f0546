"""What the cameras and lidars of a world see.

They read a copy of the simulation's state, so that drawing never holds up the physics. A `Cameras` belongs to the
thread that made it, since an OpenGL context does.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from skyfog_core.errors import ConfigError, plain_reason
from skyfog_world.mjcf import camera_name
from skyfog_world.model import CameraSpec, LidarSpec, Link, Model, Sensor

MAX_SHAPES = 5_000
SEEN_BY_RAYS = np.array([1, 0, 0, 0, 0, 0], np.uint8)  # geom groups: visuals


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """`rgb` uint8 [H, W, 3], and `depth` float32 [H, W]: metres along the viewing axis, inf where nothing is."""

    rgb: npt.NDArray[np.uint8] | None
    depth: npt.NDArray[np.float32] | None


class Cameras:
    """Draws what cameras see, in software where there is no GPU. A context manager."""

    def __init__(self, model: Any, background: tuple[float, float, float], *, shadows: bool = False) -> None:
        """`model` is a mujoco.MjModel. Raises ConfigError where there is no way to draw."""
        self._model = model
        self._background = np.round(np.array(background) * 255).astype(np.uint8)
        try:
            self._gl = mujoco.GLContext(model.vis.global_.offwidth, model.vis.global_.offheight)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        except (ImportError, RuntimeError, AttributeError, mujoco.FatalError) as error:
            raise ConfigError(f"no OpenGL without a screen ({plain_reason(error)}); see ./ws extra world") from None
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        # Depth 1 is near and 0 far, with most of float32's precision where it is needed.
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model=model, maxgeom=MAX_SHAPES)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = False
        self._options = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def __enter__(self) -> Cameras:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def take(self, data: Any, model: str, link: str, sensor: Sensor) -> Picture:
        """What a camera sees in `data`, a mujoco.MjData with its positions up to date."""
        spec = sensor.spec
        assert isinstance(spec, CameraSpec)
        frame = self._look(data, model, link, sensor)
        rgb = np.empty((spec.height, spec.width, 3), np.uint8) if spec.colour else None
        raw = np.empty((spec.height, spec.width), np.float32)
        mujoco.mjr_render(frame, self._scene, self._context)
        mujoco.mjr_readPixels(rgb, raw, frame, self._context)
        if rgb is not None:
            # MuJoCo's own sky would be seen by depth cameras too.
            rgb[raw <= 0] = self._background
        return Picture(
            rgb=None if rgb is None else rgb[::-1],  # OpenGL's first row is the lowest
            depth=self._metres(raw[::-1], spec) if spec.depth else None,
        )

    def shapes(self, data: Any, model: str, link: str, sensor: Sensor) -> npt.NDArray[np.int32]:
        """Which shape each pixel of a camera shows: MuJoCo's geom ids, int32 [H, W], -1 where nothing is."""
        spec = sensor.spec
        assert isinstance(spec, CameraSpec)
        frame = self._look(data, model, link, sensor)
        colours = np.empty((spec.height, spec.width, 3), np.uint8)
        by_id = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
        for flag in by_id:
            self._scene.flags[flag] = True
        mujoco.mjr_render(frame, self._scene, self._context)
        mujoco.mjr_readPixels(colours, None, frame, self._context)
        for flag in by_id:
            self._scene.flags[flag] = False
        drawn = colours[::-1].astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)  # 0: nothing
        geom_of = np.full(self._scene.ngeom + 1, -1, np.int32)
        for shape in self._scene.geoms[: self._scene.ngeom]:
            if shape.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                geom_of[shape.segid + 1] = shape.objid
        found: npt.NDArray[np.int32] = geom_of[drawn]
        return found

    def close(self) -> None:
        """Give the OpenGL context back."""
        self._context.free()
        self._gl.free()

    def _look(self, data: Any, model: str, link: str, sensor: Sensor) -> mujoco.MjrRect:
        """Set the scene as a camera sees it; returns the part of the buffer that is drawn."""
        spec = sensor.spec
        assert isinstance(spec, CameraSpec)
        self._camera.fixedcamid = self._model.camera(camera_name(model, link, sensor.name)).id
        mujoco.mjv_updateScene(
            self._model, data, self._options, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        return mujoco.MjrRect(0, 0, spec.width, spec.height)

    def _metres(self, raw: npt.NDArray[np.float32], spec: CameraSpec) -> npt.NDArray[np.float32]:
        """Undo the projection with reversed depth: raw = (near·far/z - near) / (far - near)."""
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        metres: npt.NDArray[np.float32] = near * far / (raw.astype(np.float64) * (far - near) + near)
        metres = metres.astype(np.float32)
        # As Gazebo has it: nothing within the clip distances is an infinite depth, and too near a negative one.
        metres[metres >= spec.far * (1 - 1e-6)] = np.inf
        metres[metres < spec.near] = -np.inf
        return metres


def scan(model: Any, data: Any, owner: Model, link: Link, sensor: Sensor) -> npt.NDArray[np.float32]:
    """Distances [samples] in metres along a lidar's rays, inf where nothing is in range. Its own link is not seen."""
    spec = sensor.spec
    assert isinstance(spec, LidarSpec)
    site = model.site(camera_name(owner.name, link.name, sensor.name)).id
    angles = spec.angles
    own = np.stack((np.cos(angles), np.sin(angles), np.zeros_like(angles)))
    rays = (data.site_xmat[site].reshape(3, 3) @ own).T.ravel().copy()
    distances = np.zeros(spec.samples)
    hit = np.zeros(spec.samples, np.int32)
    body = model.body(f"{owner.name}/{link.name}").id
    place = data.site_xpos[site]
    mujoco.mj_multiRay(
        model, data, place, rays, SEEN_BY_RAYS, 1, body, hit, distances, None, spec.samples, spec.max_range
    )
    distances[(hit < 0) | (distances > spec.max_range)] = np.inf
    distances[(hit >= 0) & (distances < spec.min_range)] = -np.inf
    return distances.astype(np.float32)
