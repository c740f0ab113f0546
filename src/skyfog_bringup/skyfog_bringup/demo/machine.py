"""What a result was made on and with."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

PACKAGES = ("eclipse-zenoh", "numpy", "onnxruntime", "opencv-python-headless", "pydantic", "rclpy")


def machine() -> dict[str, str | int | float]:
    """Processor, memory, operating system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """What the demo stands on; a package that is not installed is left out."""
    found = {"python": platform.python_version(), "ros": os.environ.get("ROS_DISTRO", "jazzy")}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def commit() -> str | None:
    """The commit of the workspace, with "+" where files differ from it; None outside of a clone."""
    workspace = os.environ.get("SKYFOG_WS")
    if not workspace:
        return None
    git = ["git", "-C", workspace]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, check=True, timeout=10)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.decode().strip() + ("+" if dirty.stdout.strip() else "")


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
