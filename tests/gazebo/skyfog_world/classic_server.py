"""Gazebo classic 11 in a root of its own (Debian 11) and with a network, mounts and processes of its own.

Its master listens on every address there is: in a network with nothing but loopback that harms nobody. When the first
process of its namespace ends, the kernel ends all others and undoes the mounts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from skyfog_world.classic import mesh_files, to_classic

ROOT = Path(__file__).resolve().parents[3]
TREE = ROOT / ".ws" / "gazebo" / "tree"
BUILD_LIMIT_S = 900
RUN_LIMIT_S = 150
PACKAGES = "gazebo,gazebo-plugin-base,xvfb,libgl1-mesa-dri"
MIRROR = "deb http://deb.debian.org/debian bullseye main"

SERVE = """
set -e
ip link set lo up
mount -t proc proc "$TREE/proc"
mount --bind /dev "$TREE/dev"
mount -t tmpfs tmp "$TREE/tmp"  # a killed X server leaves its lock there
chroot "$TREE" Xvfb :77 -screen 0 640x480x24 -nolisten tcp &
chroot "$TREE" gzserver --verbose "$WORLD" &
"$PYTHON" "$PROBE" "$ORDERS" "$OUT"
"""


def build_tree() -> None:
    """Once; a tree that was cut off is begun anew. Raises with the end of the output."""
    if TREE.is_dir():
        return
    unfinished = TREE.with_name("tree.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
    command = ["mmdebstrap", "--variant=minbase", "--mode=root", "--dpkgopt=force-unsafe-io", *left_out]
    command += ['--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Retries "3"']
    command += [f"--include={PACKAGES}", "bullseye", str(unfinished), MIRROR]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap failed:\n{done.stderr[-2000:]}")
    unfinished.rename(TREE)


def run_gazebo(world: Path, orders: dict[str, Any], folder: Path) -> dict[str, np.ndarray]:
    """Export the world, run it with the probe, and return what that noted. Raises with the end of the output."""
    build_tree()
    inside = TREE / "w"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir()
    (inside / "w.world").write_text(to_classic(world, Path("/w")))
    for mesh in mesh_files(world):
        shutil.copy(mesh, inside)
    given, out = folder / "orders.json", folder / "found.npz"
    given.write_text(json.dumps(orders))
    env = {
        "PATH": os.environ["PATH"],
        "HOME": "/root",
        "TREE": str(TREE),
        "WORLD": "/w/w.world",
        "PYTHON": sys.executable,
        "PROBE": str(Path(__file__).with_name("probe.py")),
        "ORDERS": str(given),
        "OUT": str(out),
        "DISPLAY": ":77",
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "GAZEBO_MASTER_URI": "http://127.0.0.1:11345",
        "GAZEBO_IP": "127.0.0.1",
        "IGN_IP": "127.0.0.1",
        "GAZEBO_MODEL_DATABASE_URI": "",
        "ALSOFT_DRIVERS": "null",
    }
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", SERVE]
    log = folder / "gazebo.log"
    with log.open("w") as output:
        done = subprocess.run(
            command, env=env, stdout=output, stderr=subprocess.STDOUT, timeout=RUN_LIMIT_S, check=False
        )
    if done.returncode != 0 or not out.is_file():
        raise RuntimeError(f"Gazebo or the probe failed ({done.returncode}):\n{log.read_text()[-4000:]}")
    return dict(np.load(out))
