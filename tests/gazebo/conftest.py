"""Tests against the real Gazebo classic 11: only when asked for, since it takes 110 s and 816 MB to fetch it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

TOOLS = ("mmdebstrap", "unshare", "chroot", "ip")


def why_not() -> str:
    """Why these tests cannot run here, or nothing."""
    if os.environ.get("SKYFOG_GAZEBO") != "1":
        return "asked for by SKYFOG_GAZEBO=1: fetches Gazebo classic 11 from Debian 11 (816 MB) and runs it"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} missing: apt-get install mmdebstrap iproute2"
    if os.geteuid() != 0:
        return "a root of its own and a network of its own need root"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here, reason = Path(__file__).parent, why_not()
    for item in items:
        if reason and here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))
