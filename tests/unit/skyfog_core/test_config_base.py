from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from skyfog_core.config.base import Strict, load_yaml, nearest, parse
from skyfog_core.config.router import ReplicaProxyConfig, RobotProxyConfig
from skyfog_core.errors import ConfigError


class Inner(Strict):
    deadline_ms: Annotated[int, Field(ge=1, le=100)] = 10


class Outer(Strict):
    inner: Inner = Inner()
    table: dict[str, Inner] = {}
    rate: float = 1.0
    name: str


def refusal(values: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(Outer, {"name": "n", **values}, "file.yaml")
    return str(caught.value)


def test_defaults_fill_what_is_not_given() -> None:
    assert parse(Outer, {"name": "n"}, "s") == Outer(name="n", rate=1.0, inner=Inner(deadline_ms=10))


def test_a_built_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse(Outer, {"name": "n"}, "s").name = "other"


@pytest.mark.parametrize(
    ("values", "key", "hint"),
    [
        ({"nmae": "x"}, "nmae", "name"),
        ({"inner": {"deadline": 1}}, "inner.deadline", "deadline_ms"),
        ({"table": {"detect": {"deadlin_ms": 1}}}, "table.detect.deadlin_ms", "deadline_ms"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(values: dict[str, object], key: str, hint: str) -> None:
    assert refusal(values).startswith(f"file.yaml: {key}: unknown key; did you mean '{hint}'?")


class Circle(Strict):
    kind: Literal["circle", "disc"]
    radius: float


class Square(Strict):
    kind: Literal["square"]
    side: float = 1.0


class Drawing(Strict):
    shape: Annotated[Circle | Square, Field(discriminator="kind")]
    more: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ({"kind": "circle", "radius": "big"}, "shape.radius: input should be a valid number, not 'big'"),
        ({"kind": "disc"}, "shape.radius: is missing"),
        ({"kind": "square", "sied": 1.0}, "shape.sied: unknown key; did you mean 'side'? (known: kind, side)"),
        ({"radius": 1.0}, "shape.kind: is missing"),
        (
            {"kind": "squares"},
            "shape.kind: should be one of 'circle', 'disc', 'square'; did you mean 'square'?, not 'squares'",
        ),
    ],
    ids=str,
)
def test_of_a_union_told_apart_by_a_key_the_errors_name_keys_and_no_tags(shape: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Drawing, {"shape": shape}, "file.yaml")
    assert str(caught.value) == f"file.yaml: {text}"


def test_an_entry_of_a_table_may_be_called_as_a_key_of_its_schema() -> None:
    text = refusal({"table": {"deadline_ms": {"deadlin_ms": 1}}})
    assert text.startswith("file.yaml: table.deadline_ms.deadlin_ms: unknown key; did you mean 'deadline_ms'?")


def test_an_unknown_key_like_no_other_is_refused_with_those_known() -> None:
    text = refusal({"zzzzzz": 1})
    assert "did you mean" not in text
    assert "(known: inner, table, rate, name)" in text


@pytest.mark.parametrize("value", [[1], "10", 1.5, None, {"a": 1}, True], ids=repr)
def test_what_is_no_integer_is_refused_with_key_and_value(value: object) -> None:
    text = refusal({"inner": {"deadline_ms": value}})
    assert text.startswith("file.yaml: inner.deadline_ms: input should be a valid integer")
    assert text.endswith(f"not {value!r}")


@pytest.mark.parametrize(("value", "bound"), [(0, "greater than or equal to 1"), (101, "less than or equal to 100")])
def test_a_value_out_of_bounds_is_refused_with_the_bound(value: int, bound: str) -> None:
    assert bound in refusal({"inner": {"deadline_ms": value}})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^s: name: is missing$"):
        parse(Outer, {}, "s")


def test_every_fault_is_told_at_once() -> None:
    assert len(refusal({"rate": "fast", "inner": {"deadline_ms": 0}, "x": 1}).splitlines()) == 3


def test_a_whole_number_may_stand_where_a_fraction_may() -> None:
    assert parse(Outer, {"name": "n", "rate": 2}, "s").rate == 2.0


def test_nothing_near_gives_no_hint() -> None:
    assert nearest("abc", ["xyz"]) == ""


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("name: [1", "is not YAML"),
        ("\tname: 1", "is not YAML"),
        ("- name", "holds list, not a table of keys"),
        ("", "holds NoneType, not a table of keys"),
        ("name: n\nrate: [1, 2]", "rate: input should be a valid number, not \\[1, 2\\]"),
        ("name: n\n1: n", "1: keys should be strings"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"^{path}: {why}"):
        load_yaml(Outer, path)


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=f"^{path}: is not YAML"):
        load_yaml(Outer, path)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{tmp_path}/none.yaml: No such file"):
        load_yaml(Outer, tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "content",
    ["name: 2024-99-99", "name: !!timestamp x", "name: !!bool x", "name: !!int ''", "[" * 5_000, "name: n\nname: m"],
    ids=lambda content: content[:20],
)
def test_what_yaml_or_its_library_stumbles_over_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"^{path}: is not YAML: "):
        load_yaml(Outer, path)


def test_a_nest_of_aliases_that_is_huge_when_written_out_is_refused_in_a_few_words(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 12)]
    path.write_text("\n".join([*lines, "name: *a11"]))
    with pytest.raises(ConfigError) as caught:
        load_yaml(Outer, path)
    assert "name: input should be a valid string, not [[[[...], [...]" in str(caught.value)
    assert len(str(caught.value)) < 20_000


def test_a_key_given_twice_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("name: n\ntable:\n  detect: {}\n  detect: {deadline_ms: 3}\n")
    with pytest.raises(ConfigError, match=r"'detect' is given twice.* line 4"):
        load_yaml(Outer, path)


def test_what_is_merged_may_be_overridden_wherever_it_was_first_written(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("name: n\ntable:\n  a: &a {<<: &b {deadline_ms: 3}, deadline_ms: 4}\n  c: {<<: [*a, *b]}\n")
    table = load_yaml(Outer, path).table
    assert (table["a"].deadline_ms, table["c"].deadline_ms) == (4, 4)


def test_a_right_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("name: n\ntable: {detect: {deadline_ms: 7}}")
    assert load_yaml(Outer, path).table["detect"].deadline_ms == 7


@pytest.mark.parametrize("schema", [RobotProxyConfig, ReplicaProxyConfig])
def test_every_setting_of_the_router_says_what_it_is_for(schema: type[Strict]) -> None:
    plain = {name: f for name, f in schema.model_fields.items() if name not in ("services", "zenoh")}
    assert [name for name, f in plain.items() if not f.description] == []


def test_a_robot_without_services_is_refused() -> None:
    with pytest.raises(ConfigError, match="services"):
        parse(RobotProxyConfig, {"services": {}}, "s")
