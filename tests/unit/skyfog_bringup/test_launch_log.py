"""What launch prints, read back."""

from __future__ import annotations

from skyfog_bringup.demo.fleet import Ended, ended_in, output_by_process, started_in

LOG = """\
[INFO] [launch]: Default logging verbosity is set to INFO
[INFO] [robot_proxy-1]: process started with pid [12229]
[INFO] [replica_0-2]: process started with pid [12231]
[replica_0-2] replica_proxy: detect.yaml: threads: is too many
[replica_0-2]   and a second line
[ERROR] [replica_0-2]: process has died [pid 12231, exit code 2, cmd '/install/replica_proxy --ros-args'].
[INFO] [robot_proxy-1]: process has finished cleanly [pid 12229]
"""


def test_processes_have_names_and_pids() -> None:
    assert started_in(LOG) == {"robot_proxy": 12229, "replica_0": 12231}


def test_a_death_has_its_status() -> None:
    assert ended_in(LOG) == [Ended("replica_0", 12231, 2), Ended("robot_proxy", 12229, 0)]


def test_a_signal_is_a_negative_status() -> None:
    assert ended_in("[ERROR] [camera-5]: process has died [pid 7, exit code -9, cmd 'x'].") == [Ended("camera", 7, -9)]


def test_each_process_has_its_lines() -> None:
    parts = output_by_process(LOG)
    assert parts["replica_0"] == ["replica_proxy: detect.yaml: threads: is too many", "  and a second line"]
    assert len(parts["launch"]) == 5
