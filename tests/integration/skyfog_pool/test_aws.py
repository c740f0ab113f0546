"""The aws provider beyond what every provider does: offers, prices, what is wrong with a file or an account, leaks."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from skyfog_core.config.pool import ServiceSpec
from skyfog_pool.policy.market import Market
from skyfog_pool.provider import aws as aws_provider
from skyfog_pool.provider import aws_prices
from skyfog_pool.provider.aws import AwsProvider
from skyfog_pool.provider.aws_machines import Place
from skyfog_pool.provider.base import (
    CannotTell,
    Ending,
    LaunchRefused,
    Misconfigured,
    Order,
    Phase,
    Unavailable,
)
from skyfog_pool.provider.base import Instance as Machine
from support.aws import Shim, seal, spec_of, tiny_workspace
from support.processes import Process, wait_until

Make = Callable[..., AwsProvider]


@pytest.fixture
def pool() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def make(aws: Shim, pool: str, tmp_path: Path) -> Iterator[Make]:
    """A provider of the pool; at the end no machine of the pool is left, whatever became of the test."""
    made: list[AwsProvider] = []

    def new(resources: dict[str, Any] | None = None, spec: ServiceSpec | None = None, **options: Any) -> AwsProvider:
        options.setdefault("workspace", str(tiny_workspace(tmp_path / "ws")))
        provider = aws_provider.make(spec or spec_of(resources, **options), pool)
        assert isinstance(provider, AwsProvider)
        made.append(provider)
        return provider

    yield new
    aws.ask("heal")
    last = new()
    for machine in last.instances(pool):
        last.terminate(machine.id)
    for provider in made:
        provider.close()
    assert aws.machines(pool) == []


def order(pool: str, replica: int = 1, zone: str = "us-west-2a", market: Market = "spot") -> Order:
    return Order(pool, replica, 1, uuid.uuid4().hex, zone, market, {"SKYFOG_POOL": pool, "SKYFOG_RUN": "true"})


# -- offers and prices ------------------------------------------------------------------------------------------------


def test_zones_are_those_that_offer_the_type(make: Make) -> None:
    zones = {zone.name for zone in make().zones()}
    assert {"us-west-2a", "us-west-2b"} <= zones
    assert all(name.startswith("us-west-2") for name in zones)


def test_alternatives_in_several_regions(make: Make) -> None:
    offers = [
        {"infra": "aws/us-west-2/us-west-2b"},
        {"infra": "aws/us-east-1", "instance_type": "m7i.large", "use_spot": False},
    ]
    provider = make({"infra": None, "any_of": offers})
    zones = provider.zones()
    assert {zone.region for zone in zones} == {"us-west-2", "us-east-1"}
    assert [zone.name for zone in zones if zone.region == "us-west-2"] == ["us-west-2b"]
    prices = provider.prices()
    assert prices["us-west-2b"].spot < prices["us-west-2b"].on_demand == 0.096
    assert prices["us-east-1a"].spot == math.inf
    assert prices["us-east-1a"].on_demand == 0.1008


def test_any_region_is_every_enabled_one(make: Make) -> None:
    assert {zone.region for zone in make({"infra": "aws"}).zones()} == {"eu-central-1", "us-east-1", "us-west-2"}


def test_needs_instead_of_a_type(make: Make) -> None:
    needs = {"instance_type": None, "accelerators": "A10G:1", "infra": "aws/us-west-2/us-west-2a"}
    provider = make(needs, timeout_s=30.0, candidates=2)
    assert [zone.name for zone in provider.zones()] == ["us-west-2a"]
    assert len(_places(provider)["us-west-2a"].types) == 2
    assert {machine.accelerator for machine in _places(provider)["us-west-2a"].types} == {"A10G"}


def test_the_newest_price_counts_and_listings_have_many_pages(make: Make, aws: Shim) -> None:
    aws.ask("price", zone="us-west-2c", usd=0.031)
    try:
        assert make().prices()["us-west-2c"].spot == pytest.approx(0.031)  # the older one would be half as much again
    finally:
        aws.ask("price", zone="us-west-2c", usd=0.04)


def test_a_price_that_the_list_lacks_comes_from_the_table_or_is_asked_for(
    make: Make, aws: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.rule(service="pricing", code="AccessDeniedException")
    assert make().prices()["us-west-2a"].on_demand == aws_prices.LISTED_USD["m6i.large"]
    monkeypatch.delitem(aws_prices.LISTED_USD, "m6i.large")
    with pytest.raises(Misconfigured, match=r"on_demand_prices\.m6i\.large"):
        make().prices()
    assert make(on_demand_prices={"m6i.large": 0.2}).prices()["us-west-2a"].on_demand == 0.2


# -- what is wrong with a file or an account --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"infra": "aws/us-wset-2"}, "did you mean 'us-west-2'"),
        ({"infra": "aws/us-west-2/us-west-2x"}, "us-west-2x.*known are us-west-2a"),
        ({"instance_type": "m6i.lrage"}, "m6i.lrage"),
        ({"infra": "gcp/us-central1"}, "gcp"),
        ({"instance_type": None, "accelerators": "H999:8"}, "H999"),
    ],
)
def test_what_cannot_be_had_is_named(make: Make, resources: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        make(resources, timeout_s=30.0).zones()


@pytest.mark.parametrize(
    ("resources", "said"),
    [({"image_id": "ubuntu"}, "image_id"), ({"disk_size": "big"}, "disk_size"), ({"ports": "x"}, "ports")],
)
def test_a_wrong_file_is_refused_before_aws_is_asked(
    make: Make, aws: Shim, resources: dict[str, Any], said: str
) -> None:
    before = aws.calls("DescribeRegions")
    with pytest.raises(Misconfigured, match=said):
        make(resources)
    assert aws.calls("DescribeRegions") == before


def test_no_credentials(make: Make, aws: Shim, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as without:
        seal(without, aws, tmp_path, {})
        provider = make()
        with pytest.raises(Misconfigured, match="AWS_ACCESS_KEY_ID"):
            provider.zones()
    make()


def test_wrong_credentials(make: Make, aws: Shim, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as wrong:
        seal(wrong, aws, tmp_path, {"AWS_ACCESS_KEY_ID": "AKIAWRONG", "AWS_SECRET_ACCESS_KEY": "x"})
        provider = make()
        with pytest.raises(Misconfigured, match="AuthFailure"):
            provider.zones()
    make()


def test_an_unknown_profile(make: Make) -> None:
    with pytest.raises(Misconfigured, match="profile"):
        make(profile="nobody")


def test_a_missing_permission_is_named(make: Make, aws: Shim, pool: str) -> None:
    provider = make()
    aws.rule(action="RunInstances", code="UnauthorizedOperation", status=403)
    with pytest.raises(Misconfigured, match="RunInstances is to be allowed"):
        provider.launch(order(pool))


def test_a_bucket_that_is_not_there(make: Make, pool: str) -> None:
    with pytest.raises(Misconfigured, match="no-such-bucket"):
        make(bucket="no-such-bucket").launch(order(pool))


def test_throttling_is_waited_out(make: Make, aws: Shim, pool: str) -> None:
    provider = make()
    aws.rule(action="RunInstances", code="RequestLimitExceeded", status=503, times=1)
    assert provider.launch(order(pool)).id


def test_throttling_that_lasts_is_unavailable(make: Make, aws: Shim, pool: str) -> None:
    provider = make()
    provider.zones()
    aws.rule(action="DescribeInstances", code="RequestLimitExceeded", status=503)
    with pytest.raises(Unavailable, match="RequestLimitExceeded"):
        provider.instances(pool)


# -- launches ---------------------------------------------------------------------------------------------------------


def test_a_capacity_error_is_of_its_zone_and_market_only(make: Make, aws: Shim, pool: str) -> None:
    provider = make()
    aws.rule(action="RunInstances", zone="us-west-2a", code="InsufficientInstanceCapacity", status=500)
    with pytest.raises(LaunchRefused, match="us-west-2a") as refusal:
        provider.launch(order(pool))
    assert refusal.value.fault == "capacity"
    assert provider.launch(order(pool, zone="us-west-2b")).zone == "us-west-2b"


def test_a_fleet_takes_the_type_that_is_to_be_had(make: Make, aws: Shim, pool: str) -> None:
    provider = make({"instance_type": None, "any_of": [{"instance_type": "m6i.large"}, {"instance_type": "m7i.large"}]})
    aws.rule(action="Override", kind="m6i.large", code="InsufficientInstanceCapacity")
    provider.launch(order(pool))
    assert [machine["type"] for machine in aws.machines(pool)] == ["m7i.large"]
    aws.rule(action="Override", kind="m7i.large", code="MaxSpotInstanceCountExceeded")
    with pytest.raises(LaunchRefused) as refusal:
        provider.launch(order(pool, 2))
    assert refusal.value.fault == "capacity"  # which another zone may have; a quota would not help there
    assert "MaxSpotInstanceCountExceeded" in str(refusal.value)


def test_one_launch_template_with_a_version_for_each_content(make: Make, pool: str) -> None:
    ec2 = boto3.client("ec2")
    for disk, zone in ((80, "us-west-2a"), (80, "us-west-2b"), (90, "us-west-2a"), (80, "us-west-2a")):
        make({"disk_size": disk}).launch(order(pool, zone=zone))
    versions = ec2.describe_launch_template_versions(LaunchTemplateName=f"skyfog-{pool}")["LaunchTemplateVersions"]
    data = [version["LaunchTemplateData"] for version in sorted(versions, key=lambda version: version["VersionNumber"])]
    assert [one["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] for one in data] == [80, 90]
    assert data[0]["MetadataOptions"]["HttpTokens"] == "required"
    assert data[0]["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_only_the_vpc_reaches_a_machine_unless_others_are_let_in(make: Make, pool: str) -> None:
    ec2 = boto3.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["CidrBlock"]
    make({"ports": 7447}).launch(order(pool))
    make({"ports": 7447}, allow_from=["203.0.113.7/32"]).launch(order(pool, 2))
    group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [f"skyfog-{pool}"]}])[
        "SecurityGroups"
    ]
    assert len(group) == 1
    rules = {(rule["FromPort"], source["CidrIp"]) for rule in group[0]["IpPermissions"] for source in rule["IpRanges"]}
    assert rules == {(8700, vpc), (7447, vpc), (8700, "203.0.113.7/32"), (7447, "203.0.113.7/32")}


def test_labels_and_tags(make: Make, aws: Shim, pool: str) -> None:
    wanted = order(pool, 7)
    make({"labels": {"team": "robots"}}).launch(wanted)
    tags = aws.machines(pool)[0]["tags"]
    assert tags["team"] == "robots"
    assert {key.partition(":")[2]: value for key, value in tags.items() if key.startswith("skyfog:")} == {
        "pool": pool,
        "replica": "7",
        "version": "1",
        "token": wanted.token,
        "market": "spot",
        "zone": "us-west-2a",
    }


def test_a_token_with_other_parameters_finds_its_machine(
    make: Make, aws: Shim, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two controllers ask at once: neither sees the other's machine, and the links that they sign differ."""
    wanted = order(pool)
    first = make().launch(wanted)
    provider, looks = make(), []
    look = provider._by_token

    def late(asked: Order, region: str) -> Machine | None:
        looks.append(asked)
        return look(asked, region) if len(looks) > 2 else None

    monkeypatch.setattr(provider, "_by_token", late)
    again = dataclasses.replace(wanted, environment={"OTHER": "1"})
    assert provider.launch(again).id == first.id
    assert len(aws.machines(pool)) == 1
    assert len(looks) == 3


def test_a_token_whose_machine_never_shows_cannot_be_told(
    make: Make, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = order(pool)
    make().launch(wanted)
    provider = make()
    monkeypatch.setattr(provider, "_by_token", lambda *_: None)
    monkeypatch.setattr(aws_provider, "LOOK_LIMIT_S", 0.2)
    with pytest.raises(CannotTell, match="IdempotentParameterMismatch"):
        provider.launch(dataclasses.replace(wanted, environment={"OTHER": "1"}))


# -- machines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("Server.SpotInstanceTermination", Ending.PREEMPTED),
        ("Server.SpotInstanceShutdown", Ending.PREEMPTED),
        ("Server.InsufficientInstanceCapacity", Ending.PREEMPTED),
        ("Client.UserInitiatedShutdown", Ending.RETURNED),
        ("Client.InstanceInitiatedShutdown", Ending.FAILED),
        ("Client.VolumeLimitExceeded", Ending.FAILED),
        ("Server.InternalError", Ending.FAILED),
    ],
)
def test_why_a_machine_is_gone(make: Make, aws: Shim, pool: str, code: str, ending: Ending) -> None:
    provider = make()
    machine = provider.launch(order(pool))
    aws.ask("end", id=machine.id.partition("/")[2], code=code)
    (seen,) = provider.instances(pool)
    assert (seen.phase, seen.ending) == (Phase.GONE, ending)


def test_a_stopped_machine_is_still_held(make: Make, pool: str) -> None:
    provider = make()
    machine = provider.launch(order(pool, market="on_demand"))
    boto3.client("ec2").stop_instances(InstanceIds=[machine.id.partition("/")[2]])
    (seen,) = provider.instances(pool)
    assert seen.phase is Phase.RUNNING
    provider.terminate(machine.id)
    assert provider.instances(pool)[0].ending is Ending.RETURNED


def test_machines_that_a_former_file_left_in_another_region_are_seen(make: Make, pool: str) -> None:
    left = make({"infra": "aws/us-east-1"}).launch(order(pool, zone="us-east-1a"))
    later = make()
    assert [machine.id for machine in later.instances(pool)] == [left.id]
    later.terminate(left.id)
    assert later.instances(pool)[0].phase is Phase.GONE


def test_a_region_that_may_not_be_looked_into_hides_no_other(make: Make, aws: Shim, pool: str) -> None:
    machine = make().launch(order(pool))
    aws.rule(action="DescribeInstances", region="eu-central-1", code="UnauthorizedOperation", status=403)
    assert [seen.id for seen in make().instances(pool)] == [machine.id]


def test_half_a_listing_is_none(make: Make, aws: Shim, pool: str) -> None:
    """A region that does not answer may hold machines: its silence must not look like their end."""
    provider = make({"infra": None, "any_of": [{"infra": "aws/us-west-2"}, {"infra": "aws/us-east-1"}]})
    provider.launch(order(pool))
    provider.launch(order(pool, 2, "us-east-1a"))
    assert len(provider.instances(pool)) == 2
    aws.rule(action="DescribeInstances", region="us-east-1", code="InternalError", status=500)
    with pytest.raises(Unavailable, match="us-east-1"):
        provider.instances(pool)


def test_a_pool_can_be_ended_whose_file_can_be_had_nowhere(make: Make, aws: Shim, pool: str) -> None:
    machine = make().launch(order(pool))
    provider = make({"instance_type": "m6i.lrage"})
    with pytest.raises(Misconfigured):
        provider.zones()
    assert [seen.id for seen in provider.instances(pool)] == [machine.id]
    provider.terminate(machine.id)
    assert aws.machines(pool) == []


def test_purge_leaves_nothing(make: Make, pool: str) -> None:
    provider = make()
    machine = provider.launch(order(pool))
    provider.terminate(machine.id)
    provider.purge(pool)
    ec2, s3 = boto3.client("ec2"), boto3.client("s3")
    ours = [{"Name": "tag:skyfog:pool", "Values": [pool]}]
    assert ec2.describe_launch_templates(Filters=ours)["LaunchTemplates"] == []
    assert ec2.describe_security_groups(Filters=ours)["SecurityGroups"] == []
    bucket = s3.list_buckets()["Buckets"][0]["Name"]
    assert s3.list_objects_v2(Bucket=bucket, Prefix=f"skyfog/{pool}/").get("Contents", []) == []
    provider.purge(pool)
    assert provider.launch(order(pool, 2)).id  # what was removed is made again


def test_the_policy_in_the_doc_allows_what_is_called(make: Make, aws: Shim, pool: str) -> None:
    text = (Path(__file__).parents[3] / "src" / "skyfog_pool" / "doc" / "aws.md").read_text()
    policy = json.loads(text.partition("```json")[2].partition("```")[0])
    allowed = {action for statement in policy["Statement"] for action in _listed(statement["Action"])}
    before = aws.ask("calls")["calls"]
    types = [{"instance_type": "m6i.large"}, {"instance_type": "m7i.large"}]
    for replica, resources in enumerate([{}, {"instance_type": None, "any_of": types}, {"disk_size": 90}]):
        provider = make(resources)
        provider.prices()
        machine = provider.launch(order(pool, replica))
        provider.instances(pool)
        list(provider.logs(machine.id, 5))
        provider.terminate(machine.id)
    provider.purge(pool)
    called = {name for name, times in aws.ask("calls")["calls"].items() if times > before.get(name, 0)}
    # Calls of S3 are counted by the verb of HTTP.
    operations = {name for name in called if not name.isupper() and not name.startswith("imds")}
    assert {"RunInstances", "CreateFleet", "GetProducts", "DeleteSecurityGroup"} <= operations
    assert operations <= {action.partition(":")[2] for action in allowed}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


# -- leaks ------------------------------------------------------------------------------------------------------------

FAULTS: list[dict[str, Any]] = [
    {"status": 500, "code": "InternalError"},
    {"status": 503, "code": "RequestLimitExceeded"},
    {"status": 500, "code": "InternalError", "after": True},
    {"status": 500, "code": "InternalError", "after": True, "hang": True},
]


@pytest.mark.parametrize("fault", FAULTS, ids=["error", "throttled", "answer lost", "answer never comes"])
@pytest.mark.parametrize("action", ["RunInstances", "DescribeInstances", "CreateLaunchTemplate", "DescribeSubnets"])
def test_whatever_fails_on_the_way_asking_again_makes_one_machine_that_is_listed(
    make: Make, aws: Shim, pool: str, action: str, fault: dict[str, Any]
) -> None:
    """The controller dies or gives up in mid-launch, and its successor asks with the same token."""
    wanted = order(pool)
    aws.rule(action=action, times=2, **fault)
    with pytest.raises(CannotTell):
        make(timeout_s=0.5).launch(wanted)
    aws.ask("heal")
    after = make()
    listed = {machine.token for machine in after.instances(pool)}
    assert listed == {machine["tags"]["skyfog:token"] for machine in aws.machines(pool)}
    assert listed <= {wanted.token}
    machine = after.launch(wanted)
    assert [seen.id for seen in after.instances(pool)] == [machine.id]
    assert len(aws.machines(pool)) == 1


LAUNCH = """
import sys
from skyfog_pool.provider import aws
from skyfog_pool.provider.base import Order
from support.aws import spec_of
pool, token, workspace = sys.argv[1:]
provider = aws.make(spec_of(workspace=workspace, timeout_s=60.0), pool)
provider.launch(Order(pool, 1, 1, token, "us-west-2a", "spot", {"SKYFOG_RUN": "true"}))
"""


def test_a_controller_killed_in_mid_launch_leaks_nothing(make: Make, aws: Shim, pool: str, tmp_path: Path) -> None:
    """A real process, killed while AWS has its request and has not answered."""
    wanted = order(pool)
    aws.rule(action="RunInstances", after=True, hang=True)
    command = [sys.executable, "-c", LAUNCH, pool, wanted.token, str(tiny_workspace(tmp_path / "child"))]
    paths = os.pathsep.join(path for path in sys.path if path)
    child = Process("controller", command, tmp_path / "child.log", {"PYTHONPATH": paths})
    try:
        wait_until("the machine", lambda: bool(aws.machines(pool)))
        assert child.popen.poll() is None, child.output
        child.signal(signal.SIGKILL)
    finally:
        child.end()
    aws.ask("heal")
    (machine,) = make().instances(pool)
    assert machine.token == wanted.token
    assert make().launch(wanted).id == machine.id


def _places(provider: AwsProvider) -> dict[str, Place]:
    return provider._where()
