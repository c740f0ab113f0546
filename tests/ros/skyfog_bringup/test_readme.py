"""The README's own files and commands: a service of the reader's behind the proxies."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from std_srvs.srv import SetBool

from skyfog_core.config.base import parse
from skyfog_core.config.router import RobotProxyConfig
from skyfog_core.ports import free_tcp_port
from support.processes import Processes, wait_until
from support.ros import caller, free_domain, ros_node

README = Path(__file__).parents[3] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def write_readme_files(folder: Path) -> None:
    """replica.yaml, robot.yaml and my_service.py as the README gives them, on a port that is free here."""
    replica, robot, _ = blocks("yaml")
    port = str(free_tcp_port())
    (folder / "replica.yaml").write_text(replica.replace("7447", port))
    (folder / "robot.yaml").write_text(robot.replace("7447", port))
    (folder / "my_service.py").write_text(blocks("python")[0])


def command(executable: str) -> list[str]:
    (line,) = re.findall(rf"^(ros2 run skyfog_router {executable} .*?)(?:  +#.*)?$", README.read_text(), re.MULTILINE)
    return str(line).split()


def test_the_choices_that_the_readme_shows_are_understood() -> None:
    _, _, choices = blocks("yaml")
    config = parse(RobotProxyConfig, yaml.safe_load(choices), "README.md")
    assert [service.policy for service in config.services.values()] == ["slo", "single", "k_of_n"]


@pytest.mark.parametrize("embedded", [False, True], ids=["beside the replica", "embedded in it"])
def test_a_service_of_the_readers_is_reached_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded: bool
) -> None:
    write_readme_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    if embedded:
        with (tmp_path / "replica.yaml").open("a") as file:
            file.write("    embedded: my_service:factory\n")
    domain, cloud_domain = free_domain(), free_domain()
    cloud_env = {"ROS_DOMAIN_ID": str(cloud_domain), "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    with Processes(tmp_path) as processes, ros_node(cloud_domain) as cloud, ros_node(domain) as robot:
        if not embedded:
            answer = {"success": True, "message": "from the cloud"}
            cloud.create_service(SetBool, "/switch", lambda _request, _response: SetBool.Response(**answer))
        processes.start("replica", *command("replica_proxy"), env=cloud_env)
        proxy = processes.start("robot", *command("robot_proxy"), env={"ROS_DOMAIN_ID": str(domain)})
        proxy.wait_for("replica_joined")
        response = caller(robot, SetBool, "/switch").call(SetBool.Request(data=True))
        assert (response.success, response.message) == (True, "from the cloud")
    wait_until("nothing is left", lambda: not any(process.left() for process in processes.all))
