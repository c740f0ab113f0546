"""A table's file becomes what is planned with, or an error that names file, key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from skyfog_core.config.base import parse
from skyfog_core.config.quantities import Quantiles
from skyfog_core.config.uplink import UplinkTableSpec
from skyfog_core.errors import ConfigError
from skyfog_uplink.policy.tables import doubts, load_table, spread, table_of

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "config" / "uplink").glob("*.yaml"))
FLOOR = {"model": "tiny", "accuracy": 0.3, "exec_ms": 40}
BIG = {"name": "big", "model": "large", "accuracy": 0.6, "bytes": "0.8 Mbit", "exec_ms": 30, "pre_ms": 5}
SMALL = {"name": "small", "model": "large", "accuracy": 0.5, "bytes": 20_000, "exec_ms": 30}


def service(**changes: Any) -> dict[str, Any]:
    whole = {"cloud": "/detect", "type": "a/srv/B", "rate_hz": 10, "slo_ms": 150, "floor": FLOOR, "options": [BIG]}
    return {key: value for key, value in (whole | changes).items() if value is not None}


def spec(services: dict[str, Any] | None = None, **more: Any) -> UplinkTableSpec:
    values = {"name": "t", "source": "test", "services": services or {"front": service()}, **more}
    return parse(UplinkTableSpec, values, "t.yaml")


def refusal(services: dict[str, Any] | None = None, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        table_of(spec(services, **more), "t.yaml")
    return str(caught.value)


def test_amounts_are_in_bytes_and_ms() -> None:
    (front,) = table_of(spec()).services
    (big,) = front.options
    assert (big.bytes.values, big.exec_ms.values, big.pre_ms.values) == ((100_000.0,), (30.0,), (5.0,))
    assert (front.target, front.weight) == (0.99, 1.0)


def test_options_stand_by_size() -> None:
    (front,) = table_of(spec({"front": service(options=[BIG, SMALL])})).services
    assert [option.name for option in front.options] == ["small", "big"]


def test_a_service_takes_what_it_does_not_say_from_the_one_it_is_like() -> None:
    front, left, rear = table_of(
        spec({"front": service(weight=3), "left": {"like": "front"}, "rear": {"like": "left", "slo_ms": 250}})
    ).services
    assert (left.weight, left.options, left.floor) == (3, front.options, front.floor)
    assert (rear.slo_ms, rear.weight, rear.cloud) == (250, 3, "/detect")


def test_like_may_point_forward() -> None:
    left, front = table_of(spec({"left": {"like": "front", "rate_hz": 5}, "front": service()})).services
    assert (left.name, left.rate_hz, left.options) == ("left", 5, front.options)


@pytest.mark.parametrize(
    ("services", "message"),
    [
        ({"a": {"like": "b"}, "b": {"like": "a"}}, "services.a.like: goes in a circle: a -> b -> a"),
        ({"a": {"like": "a"}}, "services.a.like: goes in a circle: a -> a"),
        (
            {"front": service(), "left": {"like": "fornt"}},
            "services.left.like: unknown service 'fornt'; did you mean 'front'? (known: front, left)",
        ),
        ({"front": service(rate_hz=None)}, "services.front.rate_hz: is missing"),
        ({"front": service(options=None)}, "services.front.options: is missing"),
        ({"front": service(options=[])}, "services.front.options: is empty"),
        ({"front": service(options=[BIG, BIG])}, "services.front.options.1.name: 'big' is the name of another option"),
        ({"front": service(slo_ms=30)}, "services.front.slo_ms: 30 is less than the 40 ms that the model on the car"),
        ({"front": service(options=[BIG | {"bytes": 0}])}, "services.front.options.0.bytes: should be at least 1 byte"),
        (
            {"front": service(options=[BIG | {"bytes": "5 ms"}])},
            "services.front.options.0.bytes: '5 ms' is time, not data (allowed: B, bytes, kB,",
        ),
        (
            {"front": service(options=[BIG | {"exec_ms": "1 kB"}])},
            "services.front.options.0.exec_ms: '1 kB' is data, not time (allowed: ns, us, ms, s, min, h)",
        ),
        (
            {"front": service(options=[BIG | {"exec_ms": {"p50": 3, "p90": 2, "p99": 4}}])},
            "services.front.options.0.exec_ms: quantiles fall: p50 3, p90 2, p99 4",
        ),
        (
            {"front": service(options=[BIG | {"width": 320}])},
            "services.front.options.0: width 320 and height 0: both, or neither, are 0",
        ),
        (
            {"front": service(floor=FLOOR | {"exec_ms": "1 mss"})},
            "services.front.floor.exec_ms: unknown unit 'mss'; did you mean 'ms'? (known: B, bytes,",
        ),
    ],
)
def test_what_is_wrong_with_a_service_is_named(services: dict[str, Any], message: str) -> None:
    assert f"t.yaml: {message}" in refusal(services)


def test_all_that_is_wrong_is_told_and_what_is_inherited_only_once() -> None:
    services = {"front": service(options=[BIG | {"bytes": "1 foo"}]), "left": {"like": "front"}, "rear": {"like": "x"}}
    lines = refusal(services, scenes={"s": {"weights": {"fornt": 2}}}).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "services.front.options.0.bytes",
        "services.rear.like",
        "scenes.s.weights",
    ]
    assert "unknown service 'fornt'; did you mean 'front'?" in lines[-1]


def test_the_same_mistake_in_the_units_is_told_with_its_circle() -> None:
    message = refusal(units={"a": "2 b", "b": "3 c", "c": "4 a"})
    assert "t.yaml: units.a: goes in a circle: a -> b -> c -> a" in message


def test_own_units_are_understood() -> None:
    table = table_of(
        spec(
            {"front": service(options=[BIG | {"bytes": "2 frame", "exec_ms": "0.5 blink"}])},
            units={"frame": "3 row", "row": "10 kB", "blink": "0.1 s"},
        )
    )
    (big,) = table.services[0].options
    assert (big.bytes.values, big.exec_ms.values) == ((60_000.0,), (50.0,))


def test_a_scene_that_never_holds_is_refused() -> None:
    message = refusal(scenes={"s": {"above_mps": 5, "below_mps": 5, "weights": {}}})
    assert "t.yaml: scenes.s: never holds: above_mps 5, below_mps 5" in message


def test_quantiles_are_kept_exactly_and_the_rest_lies_on_the_lines_between_them() -> None:
    amount = spread(Quantiles(p50=100, p90=180, p99=270))
    assert [amount.quantile(share) for share in (0.5, 0.7, 0.9, 0.99)] == pytest.approx([100, 140, 180, 270])
    assert amount.quantile(0.25) == pytest.approx(50)  # mirrored below the median
    assert amount.quantile(1.0) == pytest.approx(280)  # as steep as from p90 to p99
    assert min(spread(Quantiles(p50=10, p90=100, p99=100), least=1.0).values) >= 1.0


def test_equal_quantiles_are_a_constant() -> None:
    amount = spread(Quantiles(p50=7, p90=7, p99=7))
    assert set(amount.values) == {7}
    assert amount.mean == pytest.approx(7)


def test_what_makes_no_sense_is_doubted_and_kept() -> None:
    late = BIG | {"name": "late", "exec_ms": 200}
    poor = SMALL | {"name": "poor", "accuracy": 0.3}
    table = table_of(spec({"front": service(options=[BIG, late, poor]), "left": {"like": "front"}}))
    assert len(table.services[0].options) == 3
    worse, never = sorted(doubts(table), key=len)
    assert worse == "front, left: option poor (0.3) is no better than the car's own model"
    assert never.startswith("front, left: option late is never in time: it takes 205 ms on average without any network")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_tables_that_come_with_us_can_be_read(path: Path) -> None:
    table = load_table(path)
    assert table.name == path.stem
    assert all(service.options for service in table.services)


def test_the_table_of_the_documentation_can_be_read() -> None:
    text = (ROOT / "src" / "skyfog_uplink" / "doc" / "option_tables.md").read_text()
    example = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    front, left = table_of(parse(UplinkTableSpec, example, "doc")).services
    assert front.options[-1].bytes.values == (96_000.0,)
    assert left.floor == front.floor


def test_turbo_s_rows_are_the_published_ones() -> None:
    table = load_table(next(path for path in SHIPPED if path.stem == "turbo"))
    front = table.services[0]
    published = {option.source: (option.bytes.mean * 8e-6, option.exec_ms.mean) for option in front.options}
    assert published["edd4-imgcompPNG-inpcompNone"] == pytest.approx((33.82, 284.0))
    assert published["edd2-imgcompNone-inpcomp50"] == pytest.approx((0.39, 53.0))
    assert len(published) == 10
    assert (front.floor.exec_ms.mean, front.slo_ms, front.rate_hz) == (135.6, 150, 10)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    text = yaml.safe_dump({"name": "t", "source": "s", "services": {"front": service()}})
    path = tmp_path / "t.yaml"
    path.write_text(text.replace("services:", "services:\n  front: {like: rear}"))
    with pytest.raises(ConfigError, match=r"t\.yaml: is not YAML: 'front' is given twice"):
        load_table(path)
