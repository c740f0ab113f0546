"""What a service file's `provider_options` may say to `aws`."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from skyfog_core.config.base import Strict, nearest
from skyfog_core.config.pool import ServiceSpec
from skyfog_pool.provider.base import Misconfigured


class AwsOptions(Strict):
    """All may be left out where the account has a default VPC."""

    profile: Annotated[str | None, Field(description="of ~/.aws/config; none: boto3's own search")] = None
    subnets: Annotated[
        dict[str, str], Field(description="zone to subnet id; empty: the default subnets of the default VPC")
    ] = {}
    security_groups: Annotated[
        dict[str, list[str]], Field(description="region to ids; a region left out: one is made for the pool")
    ] = {}
    allow_from: Annotated[
        list[str], Field(description="address ranges besides the VPC that reach runner and ports, e.g. 203.0.113.7/32")
    ] = []
    address: Annotated[
        Literal["private", "public"] | None,
        Field(description="by which the controller reaches a machine; none: public where allow_from is set"),
    ] = None
    instance_profile: Annotated[
        str | None, Field(description="name of the machines' IAM role, where they need one")
    ] = None
    key_name: Annotated[str | None, Field(description="EC2 key pair for ssh, where wanted")] = None
    bucket: Annotated[
        str | None,
        Field(description="S3 bucket of the workspace bundle; none: skyfog-<account>-<region>, made if absent"),
    ] = None
    workspace: Annotated[str | None, Field(description="folder of the workspace; none: the one this runs from")] = None
    candidates: Annotated[
        int, Field(ge=1, le=20, description="types of machine tried per zone where the file names none")
    ] = 4
    max_spot_price: Annotated[
        float | None, Field(gt=0, description="USD an hour paid at most; none: the on-demand price")
    ] = None
    on_demand_prices: Annotated[
        dict[str, float], Field(description="USD an hour by type, instead of AWS's price list")
    ] = {}
    runner_port: Annotated[int, Field(ge=1024, le=65_535, description="on which a machine's runner listens")] = 8700
    service_port: Annotated[int, Field(ge=1024, le=65_535, description="loopback port of the replica's probes")] = 8701
    timeout_s: Annotated[float, Field(gt=0, le=120, description="for one answer of AWS")] = 15.0
    attempts: Annotated[int, Field(ge=1, le=10, description="at one call of AWS, with back-off between")] = 3

    @field_validator("allow_from")
    @classmethod
    def _are_ranges(cls, ranges: list[str]) -> list[str]:
        for text in ranges:
            ip_network(text)  # raises ValueError that says what is wrong
        return ranges

    @property
    def public(self) -> bool:
        return self.address == "public" if self.address is not None else bool(self.allow_from)


def read_options(spec: ServiceSpec) -> AwsOptions:
    """Raises Misconfigured that names the key and what is allowed."""
    try:
        return AwsOptions.model_validate(spec.provider_options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        hint = nearest(key, list(AwsOptions.model_fields)) if first["type"] == "extra_forbidden" else ""
        raise Misconfigured(f"provider_options.{key}: {first['msg']}{hint}") from None


def workspace_root(options: AwsOptions) -> Path:
    """The folder that is shipped: the nearest above this file with `ws` in it. Raises Misconfigured."""
    if options.workspace is not None:
        chosen = Path(options.workspace).expanduser().resolve()
        if not (chosen / "ws").is_file():
            raise Misconfigured(f"provider_options.workspace: {chosen} is no Skyfog workspace: it holds no ./ws")
        return chosen
    for folder in Path(__file__).resolve().parents:
        if (folder / "ws").is_file():
            return folder
    raise Misconfigured("provider_options.workspace is needed: this Skyfog does not run from a workspace")
