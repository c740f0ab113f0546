from __future__ import annotations

import pytest

from skyfog_core.errors import ConfigError, WireError
from skyfog_core.wire.keys import (
    ReplicaKey,
    ServiceKeys,
    UplinkKeys,
    chunk,
    last_chunk,
    parse_live,
    parse_load,
    replica_key,
    robot_chunk,
    service_chunk,
)

BAD_CHUNKS = ["", "a/b", "*", "**", "$*", "a b", "a#", "a?", "@x", "-x", ".x", "é", "a\n", "../x"]


@pytest.mark.parametrize("text", BAD_CHUNKS)
def test_what_cannot_stand_in_a_key_is_refused_by_kind_and_name(text: str) -> None:
    with pytest.raises(ConfigError, match="fleet"):
        ServiceKeys(text, "/detect")
    with pytest.raises(ConfigError, match="zone"):
        replica_key(text, "0")
    with pytest.raises(ConfigError, match="replica"):
        replica_key("a", text)


@pytest.mark.parametrize("service", ["", "/", "//a", "/a/", "/a//b", "/0a", "/a.b", "a b", "/a/*", "/a\n", "~/a"])
def test_what_is_no_ros_name_is_refused(service: str) -> None:
    with pytest.raises(ConfigError, match="not a ROS name"):
        service_chunk(service)


@pytest.mark.parametrize("service", ["/detect", "/arm/detect", "/a/b_2/c", "/_x"])
def test_a_service_name_survives_as_a_chunk(service: str) -> None:
    made = service_chunk(service)
    assert "/" not in made
    assert "/" + made.replace(".", "/") == service
    assert service_chunk(service.lstrip("/")) == made


def test_names_that_differ_only_by_slash_and_underscore_stay_apart() -> None:
    assert len({service_chunk(s) for s in ("/a/b", "/a_b", "/a/_b", "/a_/b")}) == 4


def test_keys_are_those_of_the_architecture_and_name_their_replica() -> None:
    keys, who = ServiceKeys("f", "/arm/detect"), ReplicaKey("us-west-2b", "gpu.0")
    assert keys.query(who) == "skyfog/f/arm.detect/replica/us-west-2b/gpu.0"
    assert keys.live(who, "Ax-_9") == "skyfog/f/arm.detect/live/us-west-2b/gpu.0/Ax-_9"
    assert keys.cancel(who) == "skyfog/f/arm.detect/cancel/us-west-2b/gpu.0"
    assert keys.all_live == "skyfog/f/arm.detect/live/*/*/*"
    assert parse_live(keys.live(who, "Ax-_9")) == (who, "Ax-_9")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "skyfog/f/s/live/z/r",
        "skyfog/f/s/live/z/r/x/y",
        "other/f/s/live/z/r/x",
        "skyfog/f/s/live/*/r/x",
        "skyfog/f/s/replica/z/r/x",
    ],
)
def test_a_strange_key_is_refused(key: str) -> None:
    with pytest.raises(WireError, match="is not skyfog/"):
        parse_live(key)


def test_load_keys_name_who_tells() -> None:
    keys, who = ServiceKeys("f", "/arm/detect"), ReplicaKey("us-west-2b", "gpu.0")
    assert keys.replica_load(who) == "skyfog/f/arm.detect/load/replica/us-west-2b/gpu.0"
    assert keys.robot_load("r1") == "skyfog/f/arm.detect/load/robot/r1"
    assert parse_load(keys.replica_load(who)) == who
    assert parse_load(keys.robot_load("r1")) == "r1"


@pytest.mark.parametrize("text", BAD_CHUNKS)
def test_a_robot_of_any_name_has_a_key_of_its_own(text: str) -> None:
    made = robot_chunk(text)
    assert chunk("robot", made) == made
    assert made not in {robot_chunk(other) for other in [*BAD_CHUNKS, "r"] if other != text}
    assert parse_load(ServiceKeys("f", "/s").robot_load(text)) == made


@pytest.mark.parametrize(
    "key",
    [
        "",
        "skyfog/f/s/load",
        "skyfog/f/s/load/robot",
        "skyfog/f/s/load/robot/a/b",
        "skyfog/f/s/load/replica/z",
        "skyfog/f/s/load/replica/z/r/x",
        "skyfog/f/s/load/replica/*/r",
        "skyfog/f/s/live/robot/r",
        "other/f/s/load/robot/r",
    ],
)
def test_a_strange_load_key_is_refused(key: str) -> None:
    with pytest.raises(WireError, match="is not skyfog/"):
        parse_load(key)


def test_replicas_sort_by_zone_then_name() -> None:
    assert sorted([ReplicaKey("b", "0"), ReplicaKey("a", "1")]) == [ReplicaKey("a", "1"), ReplicaKey("b", "0")]
    assert str(ReplicaKey("a", "1")) == "a/1"


def test_the_uplinks_keys_name_both_ends_and_end_in_who_says_it() -> None:
    keys = UplinkKeys("f")
    assert last_chunk(keys.up("g", "c")) == last_chunk(keys.live("c")) == "c"
    assert last_chunk(keys.down("c", "g")) == "g"
    for key, of in ((keys.up("g", "c"), keys.all_up("g")), (keys.down("c", "g"), keys.all_down("c"))):
        assert key.startswith(of.removesuffix("*"))
        assert key.startswith(f"{keys.prefix}/")


@pytest.mark.parametrize("text", BAD_CHUNKS)
def test_names_of_cars_and_gateways_that_make_no_key_are_refused(text: str) -> None:
    keys = UplinkKeys("f")
    for make in (lambda: keys.up(text, "c"), lambda: keys.all_up(text), lambda: keys.live(text)):
        with pytest.raises(ConfigError, match="gateway"):
            make()
    for make in (lambda: keys.up("g", text), lambda: keys.all_down(text)):
        with pytest.raises(ConfigError, match="car"):
            make()


def test_a_wild_last_chunk_is_refused() -> None:
    with pytest.raises(WireError):
        last_chunk("skyfog/f/car-uplink/up/g/*")


def test_no_service_shares_the_uplinks_keys() -> None:
    with pytest.raises(ConfigError, match="not a ROS name"):
        service_chunk(f"/{UplinkKeys('f').prefix.rpartition('/')[2]}")
