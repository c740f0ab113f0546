"""The table of who may do what: everything that is needed, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from skyfog_core.errors import ConfigError
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys, UplinkKeys
from skyfog_router.acl import Member, access_control, common_name

DETECT, PLAN = ServiceKeys("f", "/arm/detect"), ServiceKeys("f", "/plan")
WHO = ReplicaKey("z", "0")
TABLE = access_control("f", ["/arm/detect", "/plan"])


def includes(rule: str, key: str) -> bool:
    """Whether a key expression that may end in `/**` includes a key."""
    return key.startswith(rule.removesuffix("**")) if rule.endswith("/**") else key == rule


def allowed(name: str, flow: str, message: str, key: str, table: dict[str, Any] = TABLE) -> bool:
    subjects = {s["id"] for s in table["subjects"] if name in s["cert_common_names"]}
    ids = {rule for policy in table["policies"] if subjects & set(policy["subjects"]) for rule in policy["rules"]}
    return any(
        rule["id"] in ids
        and flow in rule["flows"]
        and message in rule["messages"]
        and any(includes(allow, key) for allow in rule["key_exprs"])
        for rule in table["rules"]
    )


ASKS = [("query", DETECT.query(WHO)), ("put", DETECT.cancel(WHO)), ("declare_liveliness_subscriber", DETECT.all_live)]
ANSWERS = [
    ("declare_queryable", DETECT.query(WHO)),
    ("reply", DETECT.query(WHO)),
    ("declare_subscriber", DETECT.cancel(WHO)),
    ("liveliness_token", DETECT.live(WHO, "A")),
]
WATCHES = [
    ("declare_liveliness_subscriber", DETECT.all_live),
    ("liveliness_query", DETECT.all_live),
    *(("declare_subscriber", key) for key in DETECT.all_loads),
]
ROBOT_LOAD, REPLICA_LOAD = ("put", DETECT.robot_load("r 1")), ("put", DETECT.replica_load(WHO))
ASKING = pytest.mark.parametrize(("message", "key"), ASKS)
ANSWERING = pytest.mark.parametrize(("message", "key"), ANSWERS)


def test_what_is_not_allowed_is_denied() -> None:
    assert TABLE["enabled"] is True
    assert TABLE["default_permission"] == "deny"
    assert {rule["permission"] for rule in TABLE["rules"]} == {"allow"}


@ASKING
def test_a_robot_asks_and_a_replica_does_not(message: str, key: str) -> None:
    assert allowed("robot/f", "ingress", message, key)
    assert not allowed("robot/f", "egress", message, key)
    assert allowed("replica/f/arm.detect", "egress", message, key)
    assert not allowed("replica/f/arm.detect", "ingress", message, key)


@ANSWERING
def test_a_replica_answers_and_a_robot_does_not(message: str, key: str) -> None:
    assert allowed("replica/f/arm.detect", "ingress", message, key)
    assert not allowed("replica/f/arm.detect", "egress", message, key)
    assert allowed("robot/f", "egress", message, key)
    assert not allowed("robot/f", "ingress", message, key)


@pytest.mark.parametrize(("message", "key"), WATCHES)
def test_a_pool_watches_and_hears_the_load(message: str, key: str) -> None:
    assert allowed("pool/f", "ingress", message, key)
    assert not allowed("pool/f", "egress", message, key)
    teller = "robot/f" if key.startswith(f"{DETECT.prefix}/load/robot/") else "replica/f/arm.detect"
    assert allowed(teller, "egress", message, key)


@pytest.mark.parametrize(("message", "key"), [*ASKS[:2], *ANSWERS, ROBOT_LOAD, REPLICA_LOAD])
def test_a_pool_says_nothing(message: str, key: str) -> None:
    assert not allowed("pool/f", "ingress", message, key)


@pytest.mark.parametrize(("message", "key"), [*ASKS[:2], *ANSWERS[:3]])
def test_a_pool_is_told_nothing_of_requests(message: str, key: str) -> None:
    assert not allowed("pool/f", "egress", message, key)


def test_robots_and_replicas_tell_their_own_load_and_hear_nobodys() -> None:
    robot, replica = "robot/f", "replica/f/arm.detect"
    for (message, key), teller, other in ((ROBOT_LOAD, robot, replica), (REPLICA_LOAD, replica, robot)):
        assert allowed(teller, "ingress", message, key)
        assert allowed("pool/f", "egress", message, key)
        for name in (robot, replica):
            assert not allowed(name, "egress", message, key)
            assert not allowed(name, "ingress", "declare_subscriber", key)
        assert not allowed(other, "ingress", message, key)
        assert not allowed("replica/f/plan", "ingress", message, key)


@pytest.mark.parametrize(("message", "key"), ASKS + ANSWERS + WATCHES + [ROBOT_LOAD, REPLICA_LOAD])
@pytest.mark.parametrize("flow", ["ingress", "egress"])
def test_another_service_another_fleet_and_a_stranger_have_nothing_of_it(message: str, key: str, flow: str) -> None:
    strangers = ("replica/f/plan", "replica/f/arm", "replica/f", "robot/g", "router/g", "replica/g/arm.detect", "ca/f")
    for name in (*strangers, "pool/g", "pool/f/arm.detect"):
        assert not allowed(name, flow, message, key), name


@pytest.mark.parametrize(("message", "key"), ASKS + ANSWERS + WATCHES + [ROBOT_LOAD, REPLICA_LOAD])
def test_a_router_passes_on_all_of_its_fleet_and_nothing_else(message: str, key: str) -> None:
    for flow in ("ingress", "egress"):
        assert allowed("router/f", flow, message, key)
        assert not allowed("router/f", flow, message, key.replace("/f/", "/g/"))


def test_a_service_is_the_same_however_it_is_spelt() -> None:
    assert access_control("f", ["detect", "/detect"]) == access_control("f", ["/detect"])


def test_names_that_could_be_mistaken_for_another_do_not_exist() -> None:
    # fleet a.b with service c, and fleet a with service b/c
    assert common_name("replica", "a.b", "c") != common_name("replica", "a", "b/c")
    assert Member("replica", "f", ("/arm/detect",)).name == "replica/f/arm.detect"
    assert Member("robot", "f", ("/arm/detect",)).name == "robot/f"


@pytest.mark.parametrize(
    ("role", "fleet", "service", "why"),
    [
        ("rabbit", "f", "", "robot, replica, router, pool"),
        ("robot", "f", "/detect", "names no service"),
        ("pool", "f", "/detect", "names no service"),
        ("replica", "f", "", "names its service"),
        ("robot", "a/b", "", "fleet 'a/b'"),
        ("robot", "", "", "not empty"),
        ("replica", "f", "a b", "'a b'"),
        ("replica", "f" * 30, "/" + "s" * 30, "64"),
    ],
)
def test_a_name_that_cannot_be_is_refused(role: str, fleet: str, service: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        common_name(role, fleet, service)


UPLINK = UplinkKeys("f")
OF_CARS = [
    ("put", UPLINK.up("g", "c")),
    ("declare_subscriber", UPLINK.all_down("c")),
    ("declare_liveliness_subscriber", UPLINK.all_live),
    ("liveliness_query", UPLINK.all_live),
]
OF_GATEWAYS = [
    ("put", UPLINK.down("c", "g")),
    ("declare_subscriber", UPLINK.all_up("g")),
    ("liveliness_token", UPLINK.live("g")),
]
OTHERS = ("robot/f", "replica/f/arm.detect", "pool/f")


@pytest.mark.parametrize(("says", "hears", "what"), [("car", "gateway", OF_CARS), ("gateway", "car", OF_GATEWAYS)])
def test_cars_and_gateways_say_what_is_theirs_and_nobody_else_does(
    says: str, hears: str, what: list[tuple[str, str]]
) -> None:
    for message, key in what:
        for table in (TABLE, access_control("f", [])):
            assert allowed(f"{says}/f", "ingress", message, key, table)
            assert allowed(f"{hears}/f", "egress", message, key, table)
            assert not allowed(f"{hears}/f", "ingress", message, key, table)
        assert allowed("router/f", "ingress", message, key)
        assert not any(allowed(other, flow, message, key) for other in OTHERS for flow in ("ingress", "egress"))


@pytest.mark.parametrize("role", ["car", "gateway"])
def test_a_car_and_a_gateway_have_nothing_to_do_with_replicas(role: str) -> None:
    for message, key in [*ASKS, *ANSWERS, *WATCHES, ROBOT_LOAD, REPLICA_LOAD]:
        assert not allowed(f"{role}/f", "ingress", message, key)
        assert not allowed(f"{role}/f", "egress", message, key)


def test_a_car_has_no_service() -> None:
    assert Member("car", "f", ()).name == "car/f"
    with pytest.raises(ConfigError, match="names no service"):
        common_name("car", "f", "/detect")
