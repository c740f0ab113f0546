"""How the aws provider asks for machines, and that none is lost, doubled or left, whatever fails on the way."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from skyfog_pool.provider import aws as aws_provider
from skyfog_pool.provider.base import (
    CannotTell,
    LaunchRefused,
    Order,
)
from skyfog_pool.provider.base import Instance as Machine
from support.aws import Make, Shim, order, tiny_workspace
from support.processes import Process, wait_until

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
    wanted = [{"Name": "group-name", "Values": [f"skyfog-{pool}"]}]

    def rules() -> set[tuple[int, str]]:
        (group,) = ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]
        return {
            (rule["FromPort"], source.get("CidrIp") or source["CidrIpv6"])
            for rule in group["IpPermissions"]
            for source in (*rule["IpRanges"], *rule["Ipv6Ranges"])
        }

    make({"ports": 7447}).launch(order(pool))
    assert rules() == {(8700, vpc), (7447, vpc)}
    (group,) = ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "203.0.113.9/32"}]}
    ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[ssh])
    make(allow_from=["203.0.113.7/32", "2001:db8::/32"]).launch(order(pool, 2))
    assert {rule for rule in rules() if rule[0] == 8700} == {
        (8700, vpc),
        (8700, "203.0.113.7/32"),
        (8700, "2001:db8::/32"),
    }
    make().launch(order(pool, 3))  # whom the file lets in no more is out
    assert {rule for rule in rules() if rule[0] in {22, 8700}} == {(8700, vpc), (22, "203.0.113.9/32")}


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


def test_the_tag_counts_where_ec2_has_forgotten_the_token(make: Make, aws: Shim, pool: str) -> None:
    wanted = order(pool)
    machine = make().launch(wanted)
    aws.ask("forget_tokens")
    assert make().launch(wanted).id == machine.id
    assert len(aws.machines(pool)) == 1
    make().terminate(machine.id)
    with pytest.raises(LaunchRefused, match="gone already"):
        make().launch(wanted)
    assert aws.machines(pool) == []


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
