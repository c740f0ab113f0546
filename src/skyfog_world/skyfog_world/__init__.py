"""Worlds in SDF made alive by MuJoCo: the topics that Gazebo would give through ros_gz."""

import os

# Draw without a screen. MuJoCo reads this when it is first imported.
os.environ.setdefault("MUJOCO_GL", "egl")
