"""How a machine is asked for on AWS.

One type of machine in a zone: RunInstances, whose refusal is an error that names its reason. Several types: CreateFleet
of type `instant`, which chooses among them by price and depth of the spot pools, and lists a reason for each it could
not get. Both take what all machines of a pool share from a launch template, of which each distinct content is one
version; and both take the order's token as client token, so that a call that is repeated makes no second machine.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
import threading
from pathlib import Path
from typing import Any

from skyfog_core.config.pool import ServiceSpec
from skyfog_pool import report
from skyfog_pool.policy.market import LaunchFault
from skyfog_pool.provider.aws_boot import Boot, user_data
from skyfog_pool.provider.aws_machines import ARM, Place
from skyfog_pool.provider.aws_options import AwsOptions, workspace_root
from skyfog_pool.provider.aws_session import Aws, code_of, fault_of, pages, told
from skyfog_pool.provider.base import LaunchRefused, Misconfigured, Order, Unavailable
from skyfog_pool.provider.bundle import Bundle, BundleStore

TAG = "skyfog:"
LINK_VALID_S = 3_600  # a machine fetches its bundle within minutes of its launch
DEFAULT_DISK_GB = 64
DEBIAN = "136693071363"  # owner of Debian's own images
_DISKS: dict[str, dict[str, Any]] = {
    "low": {"VolumeType": "standard"},
    "medium": {"VolumeType": "gp3"},
    "high": {"VolumeType": "gp3", "Iops": 6_000, "Throughput": 500},
    "best": {"VolumeType": "io2", "Iops": 10_000},
}
# Of a fleet's reasons that differ by type, the one that says most of what to do next.
_WORST: tuple[LaunchFault, ...] = ("capacity", "quota", "error", "rejected")


class AlreadyLaunched(Exception):
    """AWS has a machine, or had one, for this token; the message is AWS's."""


class Launcher:
    """Makes what a launch needs, once a region, and launches. Safe to use from several threads."""

    def __init__(self, aws: Aws, spec: ServiceSpec, options: AwsOptions) -> None:
        self._aws = aws
        self._spec = spec
        self._options = options
        self._made: dict[tuple[str, ...], Any] = {}
        self._locks: dict[tuple[str, ...], threading.Lock] = {}
        self._lock = threading.Lock()

    def launch(self, order: Order, place: Place) -> dict[str, Any]:
        """The machine, as in DescribeInstances; from a fleet only its id and type.

        Raises AlreadyLaunched, LaunchRefused, CannotTell, Misconfigured.
        """
        template = self._once(
            ("template", order.pool, place.region, *map(str, place.types[0].kind)), lambda: self._template(order, place)
        )
        start = user_data(self._boot(order, place.region))
        ask = self._run_instances if len(place.types) == 1 else self._create_fleet
        try:
            with told(f"launch in {place.zone}", launching=True):
                return ask(order, place, template, start)
        except LaunchRefused as error:
            if code_of(error.__cause__) in {"IdempotentParameterMismatch", "IdempotentInstanceTerminated"}:
                raise AlreadyLaunched(str(error)) from error
            raise

    def clear(self, pool: str, regions: list[str]) -> None:
        """Remove what was made for the pool, machines apart. What is in use still stays, and is an error."""
        self._aws.each(regions, lambda region: self._clear(pool, region))
        with told("removal of bundles"):
            found = self._find_bucket(self._bucket_name())
            if found is not None:
                self._bundles(pool, *found).clear()
        self._made.clear()

    # -- the two ways to ask ------------------------------------------------------------------------------------------

    def _run_instances(self, order: Order, place: Place, template: dict[str, str], start: bytes) -> dict[str, Any]:
        request: dict[str, Any] = {}
        kinds = ["instance", "volume"]
        if order.market == "spot":
            spot: dict[str, Any] = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
            if self._options.max_spot_price is not None:
                spot["MaxPrice"] = str(self._options.max_spot_price)
            request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": spot}
            kinds.append("spot-instances-request")
        answer = self._aws.ec2(place.region).run_instances(
            LaunchTemplate=template,
            InstanceType=place.types[0].name,
            SubnetId=place.subnet,
            MinCount=1,
            MaxCount=1,
            UserData=start,  # boto3 puts it into base64 here, and nowhere else
            ClientToken=order.token,
            TagSpecifications=self._tags(order, kinds),
            **request,
        )
        machine: dict[str, Any] = answer["Instances"][0]
        return machine

    def _create_fleet(self, order: Order, place: Place, template: dict[str, str], start: bytes) -> dict[str, Any]:
        market = "spot" if order.market == "spot" else "on-demand"
        overrides: list[dict[str, Any]] = [
            {"InstanceType": machine.name, "SubnetId": place.subnet} for machine in place.types
        ]
        if order.market == "spot" and self._options.max_spot_price is not None:
            for override in overrides:
                override["MaxPrice"] = str(self._options.max_spot_price)
        specification = {**template, "LaunchTemplateSpecificationUserData": base64.b64encode(start).decode()}
        answer = self._aws.ec2(place.region).create_fleet(
            Type="instant",
            ClientToken=order.token,
            LaunchTemplateConfigs=[{"LaunchTemplateSpecification": specification, "Overrides": overrides}],
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": market},
            SpotOptions={
                "AllocationStrategy": "price-capacity-optimized",
                "InstanceInterruptionBehavior": "terminate",
            },
            OnDemandOptions={"AllocationStrategy": "lowest-price"},
            TagSpecifications=self._tags(order, ["fleet", "instance"]),
        )
        for group in answer.get("Instances", []):
            for machine in group["InstanceIds"]:
                return {"InstanceId": machine, "InstanceType": group.get("InstanceType", "")}
        raise _refusal_of_fleet(answer.get("Errors", []), place.zone)

    def _tags(self, order: Order, kinds: list[str]) -> list[dict[str, Any]]:
        ours = {
            "Name": f"skyfog-{report.replica_name(order.pool, order.replica)}",
            f"{TAG}pool": order.pool,
            f"{TAG}replica": str(order.replica),
            f"{TAG}version": str(order.version),
            f"{TAG}token": order.token,
            f"{TAG}market": order.market,
            f"{TAG}zone": order.zone,
        }
        tags = [{"Key": key, "Value": value} for key, value in {**self._spec.resources.labels, **ours}.items()]
        return [{"ResourceType": kind, "Tags": tags} for kind in kinds]

    # -- what machines of a pool share --------------------------------------------------------------------------------

    def _boot(self, order: Order, region: str) -> Boot:
        image = (self._spec.resources.image_id or "").partition("docker:")[2]
        ports = {
            report.RUNNER_LISTEN: f"0.0.0.0:{self._options.runner_port}",
            report.SERVICE_PORT: str(self._options.service_port),
            report.NOTICE_SOURCE: "aws",
        }
        environment = {**ports, "AWS_REGION": region, **order.environment}
        workspace = None if image else self._shipped(order.pool, "workspace")
        workdir = self._shipped(order.pool, "workdir") if self._spec.workdir is not None else None
        return Boot(environment, workspace=workspace, workdir=workdir, image=image)

    def _shipped(self, pool: str, which: str) -> Bundle:
        folder = workspace_root(self._options)
        if which == "workdir":
            folder = Path(self._spec.workdir or "").expanduser()
        with told(f"bundle of {folder}"):
            store = self._bundles(pool, *self._once(("bucket",), self._bucket))
            sha256 = self._once((which, pool), lambda: store.put(folder))
            return store.link(sha256, LINK_VALID_S)

    def _template(self, order: Order, place: Place) -> dict[str, str]:
        """The version of the pool's launch template that has what this launcher needs, made where it is not there."""
        image, device, image_gb = self._once(
            ("image", place.region, *map(str, place.types[0].kind)), lambda: self._image(place)
        )
        groups = self._options.security_groups.get(place.region) or [
            self._once(("group", order.pool, place.region, place.vpc), lambda: self._group(order.pool, place))
        ]
        disk = _DISKS[self._spec.resources.disk_tier or "medium"]
        data: dict[str, Any] = {
            "ImageId": image,
            "SecurityGroupIds": groups,
            "InstanceInitiatedShutdownBehavior": "terminate",
            # Hops: a container on the machine's own network is one, on docker's bridge two.
            "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 2},
            "BlockDeviceMappings": [
                {
                    "DeviceName": device,
                    "Ebs": {
                        "VolumeSize": max(read_disk(self._spec.resources.disk_size), image_gb),
                        "DeleteOnTermination": True,
                        **disk,
                    },
                }
            ],
        }
        if self._options.instance_profile is not None:
            data["IamInstanceProfile"] = {"Name": self._options.instance_profile}
        if self._options.key_name is not None:
            data["KeyName"] = self._options.key_name
        with told(f"launch template in {place.region}"):
            return self._template_version(self._aws.ec2(place.region), order.pool, data)

    @staticmethod
    def _template_version(ec2: Any, pool: str, data: dict[str, Any]) -> dict[str, str]:
        name = f"skyfog-{pool}"
        digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
        tags = [{"ResourceType": "launch-template", "Tags": [{"Key": f"{TAG}pool", "Value": pool}]}]
        try:
            made = ec2.create_launch_template(
                LaunchTemplateName=name, VersionDescription=digest, LaunchTemplateData=data, TagSpecifications=tags
            )["LaunchTemplate"]
            return {"LaunchTemplateId": made["LaunchTemplateId"], "Version": str(made["LatestVersionNumber"])}
        except ec2.exceptions.ClientError as error:
            if code_of(error) != "InvalidLaunchTemplateName.AlreadyExistsException":
                raise
        versions = pages(ec2, "describe_launch_template_versions", "LaunchTemplateVersions", LaunchTemplateName=name)
        for version in versions:
            if version.get("VersionDescription") == digest:
                break
        else:
            version = ec2.create_launch_template_version(
                LaunchTemplateName=name, VersionDescription=digest, LaunchTemplateData=data
            )["LaunchTemplateVersion"]
        return {"LaunchTemplateId": version["LaunchTemplateId"], "Version": str(version["VersionNumber"])}

    def _image(self, place: Place) -> tuple[str, str, int]:
        """Id, device name of its root, and GB that the root needs at least. Raises Misconfigured."""
        architecture, accelerated = place.types[0].kind
        chosen = self._spec.resources.image_id
        owner, name = default_image(architecture, accelerated)
        if chosen is not None and not chosen.startswith("docker:"):
            name = chosen
            request: dict[str, Any] = {"ImageIds": [chosen]}
        else:
            request = {
                "Owners": [owner],
                "Filters": [{"Name": "name", "Values": [name]}, {"Name": "state", "Values": ["available"]}],
            }
        with told(f"machine image in {place.region}"):
            found = pages(self._aws.ec2(place.region), "describe_images", "Images", **request)
        if not found:
            raise Misconfigured(f"resources.image_id: {place.region} has no image {name!r}; name one there")
        newest = max(found, key=lambda image: str(image.get("CreationDate", "")))
        device = newest.get("RootDeviceName") or "/dev/xvda"
        root = [disk["Ebs"] for disk in newest.get("BlockDeviceMappings", []) if disk.get("DeviceName") == device]
        return newest["ImageId"], device, max((int(disk.get("VolumeSize") or 0) for disk in root), default=0)

    def _group(self, pool: str, place: Place) -> str:
        """The pool's security group in a VPC: runner and ports from within the VPC and from allow_from."""
        ec2 = self._aws.ec2(place.region)
        name = f"skyfog-{pool}"
        with told(f"security group in {place.region}"):
            tags = [{"ResourceType": "security-group", "Tags": [{"Key": f"{TAG}pool", "Value": pool}]}]
            try:
                group: str = ec2.create_security_group(
                    GroupName=name, Description=f"Skyfog pool {pool}", VpcId=place.vpc, TagSpecifications=tags
                )["GroupId"]
            except ec2.exceptions.ClientError as error:
                if code_of(error) != "InvalidGroup.Duplicate":
                    raise
                group = _only_group(ec2, name, place.vpc)
            vpcs = ec2.describe_vpcs(VpcIds=[place.vpc])["Vpcs"]
            inside = [vpc["CidrBlock"] for vpc in vpcs]
            for low, high in [(self._options.runner_port,) * 2, *read_ports(self._spec)]:
                for source in [*inside, *self._options.allow_from]:
                    _allow(ec2, group, low, high, source)
        return group

    # -- the bundle ---------------------------------------------------------------------------------------------------

    @property
    def _home(self) -> str:
        return self._aws.home

    def _bundles(self, pool: str, bucket: str, region: str) -> BundleStore:
        return BundleStore(self._aws.client("s3", region), bucket, pool)

    def _bucket_name(self) -> str:
        if self._options.bucket is not None:
            return self._options.bucket
        return f"skyfog-{self._aws.client('sts', self._home).get_caller_identity()['Account']}-{self._home}"

    def _find_bucket(self, name: str) -> tuple[str, str] | None:
        """Name and region; None where there is none of that name."""
        s3 = self._aws.client("s3", self._home)
        try:
            return name, s3.head_bucket(Bucket=name).get("BucketRegion") or self._home
        except s3.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return None

    def _bucket(self) -> tuple[str, str]:
        """Name and region; made where it is ours to make and is not there, closed to the public."""
        name = self._bucket_name()
        found = self._find_bucket(name)
        if found is not None:
            return found
        if self._options.bucket is not None:
            raise Misconfigured(f"provider_options.bucket: there is no bucket {name!r}")
        s3 = self._aws.client("s3", self._home)
        # us-east-1 is the one region that may not be named here.
        where = {} if self._home == "us-east-1" else {"LocationConstraint": self._home}
        try:
            s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": where} if where else {}))
        except s3.exceptions.ClientError as error:
            if code_of(error) != "BucketAlreadyOwnedByYou":  # another controller came first
                raise
        closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
        rule = {"ID": "parts", "Status": "Enabled", "Filter": {}}
        rule |= {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
        return name, self._home

    # -- books --------------------------------------------------------------------------------------------------------

    def _once(self, key: tuple[str, ...], make: Any) -> Any:
        """What `make` returned the first time; a second caller waits for the first. Errors are not kept."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def _clear(self, pool: str, region: str) -> None:
        ec2 = self._aws.ec2(region)
        ours = [{"Name": f"tag:{TAG}pool", "Values": [pool]}]
        with told(f"removal of what the pool had in {region}"):
            for template in pages(ec2, "describe_launch_templates", "LaunchTemplates", Filters=ours):
                ec2.delete_launch_template(LaunchTemplateId=template["LaunchTemplateId"])
            for group in pages(ec2, "describe_security_groups", "SecurityGroups", Filters=ours):
                ec2.delete_security_group(GroupId=group["GroupId"])


def _refusal_of_fleet(errors: list[dict[str, Any]], zone: str) -> LaunchRefused | Unavailable:
    """Why a fleet has no machine."""
    reasons = sorted({f"{error.get('ErrorCode')}: {error.get('ErrorMessage', '')}" for error in errors})
    said = f"aws: launch in {zone}: {'; '.join(reasons) or 'no machine, and no reason'}"
    faults = {fault_of(str(error.get("ErrorCode"))) for error in errors}
    for fault in _WORST:
        if fault in faults:
            return LaunchRefused(fault, said)
    return Unavailable(said)


def _only_group(ec2: Any, name: str, vpc: str) -> str:
    wanted = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc]}]
    found: str = ec2.describe_security_groups(Filters=wanted)["SecurityGroups"][0]["GroupId"]
    return found


def _allow(ec2: Any, group: str, low: int, high: int, source: str) -> None:
    wide = ipaddress.ip_network(source).version == 6
    ranges = {"Ipv6Ranges": [{"CidrIpv6": source}]} if wide else {"IpRanges": [{"CidrIp": source}]}
    rule = {"IpProtocol": "tcp", "FromPort": low, "ToPort": high, **ranges}
    try:
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    except ec2.exceptions.ClientError as error:
        if code_of(error) != "InvalidPermission.Duplicate":
            raise


def default_image(architecture: str, accelerated: bool) -> tuple[str, str]:
    """Owner and name pattern of the image for machines of a kind, where the file names none."""
    if accelerated:
        arm = "ARM64 " if architecture == ARM else ""
        return "amazon", f"Deep Learning {arm}Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) *"
    return DEBIAN, f"debian-12-{'arm64' if architecture == ARM else 'amd64'}-2*"


def read_disk(size: int | str | None) -> int:
    """GB, from `100`, `100GB` or `100+`. Raises Misconfigured."""
    if size is None:
        return DEFAULT_DISK_GB
    found = re.fullmatch(r"(\d+)\s*(?:gb?|\+)?", str(size).strip(), re.IGNORECASE)
    if found is None:
        raise Misconfigured(f"resources.disk_size: {size!r} is not a number of GB")
    return int(found[1])


def read_ports(spec: ServiceSpec) -> list[tuple[int, int]]:
    """Ranges, from `8080`, `8000-8010` or a list of them. Raises Misconfigured."""
    ports = spec.resources.ports
    listed = [] if ports is None else ports if isinstance(ports, list) else [ports]
    ranges = []
    for port in listed:
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", str(port).strip())
        low, high = (int(found[1]), int(found[2] or found[1])) if found is not None else (0, 0)
        if not 0 < low <= high <= 65_535:
            raise Misconfigured(f"resources.ports: {port!r} is neither a port nor a range such as 8000-8010")
        ranges.append((low, high))
    return ranges
