"""Which machines an offer allows, and where."""

from __future__ import annotations

import math
from typing import Any

import pytest

from skyfog_core.config.pool import Offer, ServiceSpec
from skyfog_pool.provider.aws_launch import default_image, read_disk, read_ports
from skyfog_pool.provider.aws_machines import (
    MachineType,
    matching,
    read_accelerators,
    read_amount,
    read_type,
    region_of,
)
from skyfog_pool.provider.aws_options import read_options
from skyfog_pool.provider.base import Misconfigured

SMALL = MachineType("m7i.large", 2, 8, "x86_64")
LARGE = MachineType("m7i.4xlarge", 16, 64, "x86_64")
ARM = MachineType("m7g.large", 2, 8, "arm64")
L4 = MachineType("g6.xlarge", 4, 16, "x86_64", "L4", 1, 22)
FOUR_L4 = MachineType("g6.12xlarge", 48, 192, "x86_64", "L4", 4, 22)
A100 = MachineType("p4d.24xlarge", 96, 1152, "x86_64", "A100", 8, 40)
A100_80 = MachineType("p4de.24xlarge", 96, 1152, "x86_64", "A100", 8, 80)
ALL = [A100_80, A100, FOUR_L4, L4, LARGE, SMALL]


def spec(**values: Any) -> ServiceSpec:
    return ServiceSpec.model_validate({"service": {"replicas": 1}, **values})


@pytest.mark.parametrize(
    ("offer", "names"),
    [
        (Offer(cpus="2+"), ["m7i.large", "m7i.4xlarge"]),
        (Offer(cpus=2), ["m7i.large"]),
        (Offer(cpus="2+", memory="32+"), ["m7i.4xlarge"]),
        (Offer(accelerators="L4"), ["g6.xlarge"]),
        (Offer(accelerators="l4:4"), ["g6.12xlarge"]),
        (Offer(accelerators={"L4": 1, "A100": 8}), ["g6.xlarge", "p4d.24xlarge"]),
        (Offer(accelerators="A100-80GB:8"), ["p4de.24xlarge"]),
        (Offer(accelerators="H100:8"), []),
        (Offer(cpus="200+"), []),
    ],
)
def test_machines_that_meet_the_needs_smallest_first(offer: Offer, names: list[str]) -> None:
    assert [machine.name for machine in matching(ALL, offer, 4)] == names


def test_only_so_many_and_of_one_kind() -> None:
    assert [machine.name for machine in matching([ARM, SMALL, LARGE], Offer(cpus="2+"), 4)] == ["m7g.large"]
    assert len(matching([SMALL, LARGE], Offer(cpus="2+"), 1)) == 1


def test_a_type_as_ec2_describes_it() -> None:
    described = {
        "InstanceType": "g6.xlarge",
        "VCpuInfo": {"DefaultVCpus": 4},
        "MemoryInfo": {"SizeInMiB": 16_384},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "GpuInfo": {"Gpus": [{"Name": "L4", "Count": 1, "MemoryInfo": {"SizeInMiB": 22_528}}]},
    }
    assert read_type(described) == L4


@pytest.mark.parametrize(
    ("value", "range_"), [(None, (0, math.inf)), ("4", (4, 4)), ("4+", (4, math.inf)), (7.5, (7.5, 7.5))]
)
def test_amounts(value: str | float | None, range_: tuple[float, float]) -> None:
    assert read_amount("cpus", value) == range_


@pytest.mark.parametrize("value", ["four", "4-8", "", "+4"])
def test_a_wrong_amount_names_its_key(value: str) -> None:
    with pytest.raises(Misconfigured, match=r"resources\.memory"):
        read_amount("memory", value)


def test_a_wrong_accelerator_names_its_key() -> None:
    with pytest.raises(Misconfigured, match=r"resources\.accelerators"):
        read_accelerators("L4:many")


@pytest.mark.parametrize(
    ("infra", "region"),
    [
        ("aws/us-west-2", "us-west-2"),
        ("aws/us-west-2/us-west-2b", "us-west-2"),
        ("aws/*/us-gov-west-1a", "us-gov-west-1"),
        ("aws", ""),
        ("*", ""),
    ],
)
def test_region_of_an_offer(infra: str, region: str) -> None:
    assert region_of(Offer(infra=infra)) == region


@pytest.mark.parametrize(
    ("infra", "named"),
    [("gcp/us-west1", "gcp"), ("aws/us-west-2/west", "west"), ("aws/us-west-2/us-east-1a", "us-east-1a")],
)
def test_a_wrong_place_is_named(infra: str, named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        region_of(Offer(infra=infra))


@pytest.mark.parametrize(("size", "gb"), [(None, 64), (100, 100), ("100", 100), ("100GB", 100), ("100+", 100)])
def test_disk_sizes(size: int | str | None, gb: int) -> None:
    assert read_disk(size) == gb


def test_a_wrong_disk_size_is_refused() -> None:
    with pytest.raises(Misconfigured, match="disk_size"):
        read_disk("1TB")


def test_ports() -> None:
    assert read_ports(spec(resources={"ports": [8080, "9000-9010"]})) == [(8080, 8080), (9000, 9010)]
    with pytest.raises(Misconfigured, match=r"resources\.ports"):
        read_ports(spec(resources={"ports": "9010-9000"}))


def test_images_by_kind() -> None:
    assert default_image("x86_64", False)[1].startswith("debian-12-amd64-")
    assert default_image("arm64", False)[1].startswith("debian-12-arm64-")
    assert "Nvidia" in default_image("x86_64", True)[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bucet": "b"}, "bucket"),
        ({"runner_port": 80}, "runner_port"),
        ({"allow_from": "0.0.0.0/0"}, "allow_from"),
        ({"allow_from": ["everyone"]}, "everyone"),
        ({"address": "both"}, "address"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        read_options(spec(provider_options=options))


def test_the_public_address_is_used_where_others_are_let_in() -> None:
    assert not read_options(spec()).public
    assert read_options(spec(provider_options={"allow_from": ["203.0.113.7/32"]})).public
    assert not read_options(spec(provider_options={"allow_from": ["10.0.0.0/8"], "address": "private"})).public
