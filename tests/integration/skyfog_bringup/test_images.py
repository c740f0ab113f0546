"""docker/ against the linters and against the workspace. No engine is needed, and nothing is built."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "docker"
FILES = sorted(DOCKER.glob("*.Dockerfile"))
ROLES = {"robot", "replica", "gpu", "language", "console", "car"}
LIMIT_S = 60.0


def steps_of(file: Path) -> list[tuple[str, str]]:
    """Instructions in order, comments and line ends within them gone."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(words[0], words[1]) for line in joined.splitlines() if len(words := line.split(maxsplit=1)) == 2]


def of(file: Path, instruction: str) -> list[str]:
    return [rest for name, rest in steps_of(file) if name == instruction]


def copied(file: Path) -> list[str]:
    """Sources of its COPY instructions."""
    return [source for rest in of(file, "COPY") for source in rest.split()[:-1]]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return found


def test_every_role_that_has_something_to_run_has_an_image() -> None:
    assert {file.name.removesuffix(".Dockerfile") for file in FILES} == {"base", *ROLES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("hadolint is not installed: ./ws setup")
    done = subprocess.run([hadolint, file], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_yaml_keeps_its_schema() -> None:
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed: ./ws setup")
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    rules = (DOCKER / "base.Dockerfile.dockerignore").read_text().splitlines()
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    assert "*" in rules
    sources = copied(DOCKER / "base.Dockerfile")
    assert {"src", "launch", "config", "sim_worlds", "ws", "tools"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, rule) or source.startswith(f"{rule}/") for rule in kept), source
    assert {rule.split("/")[0] for rule in kept} == {source.split("/")[0] for source in sources}


def test_the_steps_are_those_of_ws_and_the_installation_comes_before_the_sources() -> None:
    steps = [f"{name} {rest}" for name, rest in steps_of(DOCKER / "base.Dockerfile")]
    setup = next(index for index, step in enumerate(steps) if step.startswith("RUN ./ws setup"))
    build = next(index for index, step in enumerate(steps) if step.startswith("RUN ./ws build"))
    sources = steps.index("COPY src src")
    assert setup < sources < build
    before = {source for step in steps[:setup] if step.startswith("COPY") for source in step.split()[1:-1]}
    # All that the set-up reads where ROS comes from apt; what is missing would fail only in the build.
    sourced = re.findall(r'\. "\$ROOT/(tools/[\w.]+)"', (ROOT / "ws").read_text())
    read = re.findall(r"tools/[\w.-]+\.txt", (ROOT / "tools/setup.sh").read_text())
    assert {"ws", *sourced, *read} == before


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nobody_is_root_and_every_role_says_whether_it_is_well(file: Path) -> None:
    users, bases = of(file, "USER"), of(file, "FROM")
    if file.stem == "base":
        assert users == ["10001"]
        assert "useradd --create-home --uid 10001 skyfog" in of(file, "RUN")
        return
    assert users[-1:] in ([], ["10001"])
    assert bases in (["skyfog-base"], ["skyfog-replica"])
    lines = file if bases == ["skyfog-base"] else DOCKER / "replica.Dockerfile"
    (check,) = of(lines, "HEALTHCHECK")
    words = json.loads(check[check.index("[") :])
    if words[:2] == ["python3", "-c"]:
        compile(words[2], "HEALTHCHECK", "exec")
    else:
        assert words[:3] == ["/opt/skyfog/ws", "run", "skyfog"]
        assert_is_a_verb(words[3:])


def assert_is_a_verb(words: list[str]) -> None:
    """Of the `skyfog` command: it has its help."""
    package = "skyfog_pool" if words[0] == "pool" else "skyfog_bringup"
    app = importlib.import_module(f"{package}.cli").app
    done = CliRunner().invoke(app, [*words[package == "skyfog_pool" :], "--help"])
    assert done.exit_code == 0, done.output


def test_a_console_is_the_skyfog_command() -> None:
    file = DOCKER / "console.Dockerfile"
    (entry,), (command,) = of(file, "ENTRYPOINT"), of(file, "CMD")
    (folder,) = of(DOCKER / "base.Dockerfile", "WORKDIR")
    assert json.loads(entry) == [f"{folder}/ws", "run", "skyfog"]
    assert_is_a_verb([word for word in json.loads(command) if word != "--help"])


def launched(words: str) -> tuple[str, list[str]]:
    """The launch file in a command, and the names of the arguments it is given."""
    (name,) = re.findall(r"skyfog_bringup\W+([\w.]+\.launch\.py)", words)
    return name, re.findall(r"(\w+):=", words)


def commands() -> list[str]:
    """Every command that images and compose.yaml launch."""
    in_files = [
        rest
        for file in FILES
        for rest in of(file, "CMD") + of(file, "ENV")
        if "ros2 launch" in rest.replace('", "', " ")
    ]
    services = compose()["services"].values()
    in_compose = [str(each["command"]) for each in services if "command" in each]
    in_compose += [each["environment"]["SKYFOG_RUN"] for each in services if "environment" in each]
    return in_files + in_compose


def test_launch_files_are_there_and_take_the_arguments() -> None:
    found = [launched(words) for words in commands()]
    # Where the arguments of each are declared, but for those of every component.
    declared = {
        "robot.launch.py": "components/robot_proxy.launch.py",
        "cloud.launch.py": "components/replica_proxy.launch.py",
        "camera.launch.py": "components/camera.launch.py",
        "car.launch.py": "car.launch.py",
        "gateway.launch.py": "gateway.launch.py",
    }
    assert {name for name, _ in found} == set(declared)
    launching = (ROOT / "src/skyfog_bringup/skyfog_bringup/launching.py").read_text()  # importing it needs ROS
    common = set(re.findall(r'DeclareLaunchArgument\("(\w+)"', launching))
    for name, arguments in found:
        assert list((ROOT / "launch").rglob(name)), name
        text = (ROOT / "launch" / declared[name]).read_text()
        known = {*re.findall(r'"(?:\w+\.)*(\w+)"', text), *common}
        assert set(arguments) <= known, name


def test_compose_brings_up_the_demo() -> None:
    services = compose()["services"]
    replicas = {name: each for name, each in services.items() if name.startswith("replica")}
    zones = [each["environment"]["SKYFOG_ZONE"] for each in replicas.values()]
    assert len(set(zones)) == len(replicas) == 3
    for each in replicas.values():
        for variable in re.findall(r"\$\$(\w+)", each["environment"]["SKYFOG_RUN"]):
            assert variable in each["environment"] or variable == "SKYFOG_SERVICE_PORT"
    for each in services.values():
        if "build" in each:
            assert (DOCKER / each["build"]["context"]).resolve() == ROOT
            assert (ROOT / each["build"]["dockerfile"]).is_file()
    ports = of(DOCKER / "robot.Dockerfile", "EXPOSE")
    assert all(f"connect:=tcp/robot:{ports[0]}" in each["environment"]["SKYFOG_RUN"] for each in replicas.values())


def test_the_runner_is_what_a_replica_runs() -> None:
    (command,) = of(DOCKER / "replica.Dockerfile", "CMD")
    assert json.loads(command) == ["./ws", "run", "python", "-m", "skyfog_pool.runner"]
    (environment,) = of(DOCKER / "replica.Dockerfile", "ENV")
    told = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', environment))
    text = (ROOT / "src/skyfog_pool/skyfog_pool/report.py").read_text()
    assert all(f'"{name}"' in text for name in told if name.startswith("SKYFOG_"))
