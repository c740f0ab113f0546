"""tabletop.launch.py and `skyfog pick-place`, as a user runs them."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.processes import Process
from support.ros import free_domain

NEEDED = ("mujoco", "ompl", "pinocchio", "coal", "toppra")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
END_LIMIT_S = 60.0
PICK_LIMIT_S = 90.0


def pick_place(domain: int, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ("skyfog", "pick-place", *words),
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        capture_output=True,
        text=True,
        timeout=PICK_LIMIT_S,
        check=False,
    )


@pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)}: not installed: ./ws extra world, ./ws extra planning")
@pytest.mark.alone  # seven processes, of which one keeps simulated time
@pytest.mark.timeout(300)
def test_the_box_on_the_table_is_put_into_the_bin_and_the_user_is_told(tmp_path: Path) -> None:
    domain = free_domain()
    words = ("ros2", "launch", "skyfog_bringup", "tabletop.launch.py", "real_time_factor:=2.0", "scene_seed:=5")
    launch = Process("launch", words, tmp_path / "launch.log", {"ROS_DOMAIN_ID": str(domain)})
    try:
        launch.wait_for("pick_place_ready", 120.0)
        done = pick_place(domain, "--class", "box", "--seconds", "80")
        assert done.returncode == 0, done.stdout + done.stderr + launch.output
        assert "descend    box" in done.stdout
        assert "1 placed, 0 left" in done.stdout.splitlines()[-1]
        launch.signal(signal.SIGINT)
        assert launch.exit_status(END_LIMIT_S) == 0
        assert not launch.left()
    finally:
        launch.end()


def test_without_a_table_the_user_is_told_what_starts_one() -> None:
    done = pick_place(free_domain())
    assert done.returncode == 3
    assert "nobody offers /pick_place after 10 s; tabletop.launch.py starts it" in done.stderr
