from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from skyfog_core.config.base import Strict
from skyfog_core.config.parameters import Parameter, check_files, file_of, flatten, from_flat, nest, parameters_of
from skyfog_core.config.router import RobotProxyConfig
from skyfog_core.errors import ConfigError


class Inner(Strict):
    count: Annotated[int, Field(gt=0, lt=10, description="how many")] = 3


class Schema(Strict):
    rate: Annotated[float, Field(ge=0.5, le=2.0, description="how fast")] = 1.0
    names: Annotated[list[str], Field(description="who")] = []
    table: dict[str, Inner] = {}
    inner: Inner = Inner()
    maybe: int | None = None


def node_file(path: Path, node: str, text: str) -> Path:
    path.write_text(f"{node}:\n  ros__parameters: {text}\n")
    return path


def test_dotted_names_become_tables_and_back() -> None:
    flat = {"services.detect.type": "t", "services.detect.deadline_ms": 5, "fleet": "f"}
    tree = {"services": {"detect": {"type": "t", "deadline_ms": 5}}, "fleet": "f"}
    assert nest(flat) == tree
    assert flatten(tree) == flat


@pytest.mark.parametrize("names", [["fleet", "fleet.x"], ["fleet.x", "fleet"], ["a.b.c", "a.b"], ["a", "a.b.c"]])
def test_a_key_that_is_a_value_and_a_table_is_refused_not_dropped(names: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"both"):
        nest(dict.fromkeys(names, 1))


def test_parameters_have_names_values_bounds_and_descriptions() -> None:
    config = Schema(table={"x": Inner(count=4)}, names=["n"])
    assert list(parameters_of(config)) == [
        Parameter("rate", 1.0, "how fast", 0.5, 2.0),
        Parameter("names", ["n"], "who"),
        Parameter("table.x.count", 4, "how many", 1, 9),
        Parameter("inner.count", 3, "how many", 1, 9),
    ]


def test_a_value_that_is_not_set_is_no_parameter() -> None:
    assert "maybe" not in {p.name for p in parameters_of(Schema())}
    assert "maybe" in {p.name for p in parameters_of(Schema(maybe=1))}


def test_parameters_of_a_config_build_the_same_config() -> None:
    config = from_flat(
        RobotProxyConfig, {"services.echo.type": "t", "services.echo.fan_out": 2, "zenoh.mode": "client"}
    )
    assert from_flat(RobotProxyConfig, {p.name: p.value for p in parameters_of(config)}) == config


def test_a_key_is_found_in_the_file_that_sets_it(tmp_path: Path) -> None:
    path = node_file(tmp_path / "first.yaml", "robot_proxy", "{fleet: a, zenoh: {mode: peer}}")
    assert file_of("zenoh.mode", [path]) == str(path)
    assert file_of("zenoh", [path]) == str(path), "it sets a key of that table"
    assert file_of("zen", [path]) == file_of("zenoh.mode.x", [path]) == "parameters"
    assert file_of("fleet", [tmp_path / "none.yaml"]) == "parameters"


def test_a_later_file_wins_and_node_names_may_nest(tmp_path: Path) -> None:
    first = node_file(tmp_path / "first.yaml", "robot_proxy", "{fleet: a}")
    second = tmp_path / "second.yaml"
    second.write_text("ns:\n  robot_proxy:\n    ros__parameters:\n      fleet: b\n")
    assert file_of("fleet", [first, second]) == str(second)
    assert file_of("fleet", [second, first]) == str(first)


def test_a_refused_parameter_names_the_files_it_came_from(tmp_path: Path) -> None:
    path = node_file(tmp_path / "robot.yaml", "robot_proxy", "{services: {echo: {type: t, deadline_ms: [5]}}}")
    unused = node_file(tmp_path / "unused.yaml", "other", "{something: 1}")
    flat = {"services.echo.type": "t", "services.echo.deadline_ms": [5]}
    with pytest.raises(ConfigError, match=rf"^{path}: services\.echo\.deadline_ms: .*integer.*\[5\]"):
        from_flat(RobotProxyConfig, flat, [path, unused])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{fleet: }", "fleet: has no value"),
        ("{zenoh: {listen: []}}", r"zenoh\.listen: an empty list"),
        ("{zenoh: {listen: [1, a]}}", r"zenoh\.listen: a ROS 2 list holds one type, not int and str"),
        ("{fleet: [", "is not YAML"),
    ],
)
def test_what_ros_would_drop_or_die_on_is_refused_before(tmp_path: Path, text: str, why: str) -> None:
    path = node_file(tmp_path / "robot.yaml", "robot_proxy", text)
    with pytest.raises(ConfigError, match=f"^{path}: {why}"):
        check_files([path])


def test_files_that_ros_can_read_pass(tmp_path: Path) -> None:
    check_files([node_file(tmp_path / "robot.yaml", "robot_proxy", "{fleet: f, zenoh: {listen: [a, b]}}")])


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{tmp_path}/none.yaml: No such file"):
        check_files([tmp_path / "none.yaml"])


@pytest.mark.parametrize("content", ["", "just text", "[1, 2]", "a: {ros__parameters: 5}"])
def test_a_file_without_parameters_sets_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    check_files([path])
    assert file_of("fleet", [path]) == "parameters"


def test_an_empty_table_holds_no_parameter() -> None:
    assert flatten({"a": {}, "b": 1}) == {"b": 1}
