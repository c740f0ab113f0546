"""boto3 as the provider uses it: one client a service and region, a limit on every call, and our errors.

Only this module imports boto3; it is itself imported by provider/table.py when a pool is on AWS.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import boto3
import botocore.exceptions as faults
from botocore.config import Config

from skyfog_pool.policy.market import LaunchFault
from skyfog_pool.provider.aws_options import AwsOptions
from skyfog_pool.provider.base import LaunchRefused, Misconfigured, ProviderError, Unavailable

T = TypeVar("T")
THREADS = 8
CONNECT_LIMIT_S = 5.0
# As boto3 signs URLs by itself, S3 takes them in its oldest regions only, or redirects to a host that was not signed.
_S3 = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})

_CAPACITY = {
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientCapacity",
    "InsufficientCapacityOnHost",
    "InsufficientAddressCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientVolumeCapacity",
    "UnfulfillableCapacity",
    "SpotMaxPriceTooLow",
    "CapacityNotAvailable",
}
_QUOTA = {
    "InstanceLimitExceeded",
    "VcpuLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "MaxSpotFleetRequestCountExceeded",
    "MaxIOPSLimitExceeded",
    "MaxConfigLimitExceededException",
    "VolumeLimitExceeded",
    "VolumeIOPSLimit",
    "AddressLimitExceeded",
    "ResourceCountLimitExceeded",
    "FilterLimitExceeded",
}
_CREDENTIALS = {
    "AuthFailure",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "OptInRequired",
    "PendingVerification",
    "Blocked",
}
_PERMISSION = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "403"}
_THROTTLED = {
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "EC2ThrottledException",
    "SlowDown",
    "BandwidthLimitExceeded",
}
_FAILED = {
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "ServerInternal",
    "Unavailable",
    "ServiceUnavailable",
    "RequestTimeout",
    "DependencyViolation",  # what is to be removed is in use still
    "RequestTimeoutException",
}
# What was made a moment ago is not known everywhere yet.
_NOT_YET = {"InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateId.VersionNotFound", "InvalidGroup.NotFound"}
_NO_CREDENTIALS = (
    faults.NoCredentialsError,
    faults.PartialCredentialsError,
    faults.CredentialRetrievalError,
    faults.TokenRetrievalError,
    faults.SSOTokenLoadError,
    faults.UnauthorizedSSOTokenError,
    faults.ProfileNotFound,
    faults.ConfigNotFound,
    faults.ConfigParseError,
)


def fault_of(code: str) -> LaunchFault | None:
    """What a refused launch's error code means; None where it does not say that no machine came."""
    if code in _CAPACITY:
        return "capacity"
    if code in _QUOTA:
        return "quota"
    if code in _NOT_YET:
        return "error"
    if code in _CREDENTIALS | _PERMISSION | _THROTTLED | _FAILED:
        return None
    return "rejected"


def code_of(error: BaseException | None) -> str:
    """AWS's own error code, or nothing."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, faults.ClientError) else ""


def explain(error: BaseException, doing: str, launching: bool = False) -> ProviderError:
    """What AWS or boto3 raised, as one of ours. `launching`: AWS was asked for a machine, which it may have refused."""
    if isinstance(error, faults.ClientError):
        return _explain_answer(error, doing, launching)
    said = f"aws: {doing}: {error}"
    if isinstance(error, _NO_CREDENTIALS):
        mend = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or provider_options.profile, or run `aws sso login`"
        return Misconfigured(f"{said}; {mend}")
    if isinstance(error, faults.ParamValidationError):
        return LaunchRefused("rejected", said) if launching else Misconfigured(said)
    if isinstance(error, faults.NoRegionError | faults.InvalidRegionError | faults.UnknownServiceError):
        return Misconfigured(said)
    return Unavailable(f"{said} (no answer: it may have happened)" if launching else said)


def _explain_answer(error: faults.ClientError, doing: str, launching: bool) -> ProviderError:
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    # A refusal for want of a permission ends in kilobytes of an encoded explanation.
    message = re.sub(r"\s*Encoded authorization failure message:.*", "", error.response["Error"].get("Message", ""))
    said = f"aws: {doing}: {code}: {message.strip()}".rstrip(": ")
    if code in _CREDENTIALS:
        return Misconfigured(f"{said}; check credentials, the account's state, and this machine's clock")
    if code in _PERMISSION:
        return Misconfigured(f"{said}; {error.operation_name} is to be allowed: the IAM policy stands in doc/aws.md")
    fault = fault_of(code)
    # EC2 tells of a want of capacity with a status of 500 and more.
    if launching and fault is not None and (status < 500 or fault != "rejected"):
        return LaunchRefused(fault, said)
    if code in _THROTTLED | _FAILED or status >= 500:
        return Unavailable(said)
    return Misconfigured(said)


@contextlib.contextmanager
def told(doing: str, launching: bool = False) -> Iterator[None]:
    """Let what boto3 raises in the block out as ProviderError."""
    try:
        yield
    except (faults.BotoCoreError, faults.ClientError) as error:
        raise explain(error, doing, launching) from error


class Aws:
    """Clients by service and region. Safe to use from several threads, as boto3's clients are."""

    def __init__(self, options: AwsOptions) -> None:
        """Raises Misconfigured where the profile does not exist."""
        self._config = Config(
            connect_timeout=min(CONNECT_LIMIT_S, options.timeout_s),
            read_timeout=options.timeout_s,
            retries={"mode": "standard", "total_max_attempts": options.attempts},
            max_pool_connections=2 * THREADS,
            user_agent_extra="skyfog",
        )
        with told("credentials"):
            self._session = boto3.Session(profile_name=options.profile)
        self._lock = threading.Lock()  # a session makes one client at a time
        self._clients: dict[tuple[str, str], Any] = {}

    @property
    def home(self) -> str:
        """The region that the user's own configuration names, else the one that every account has."""
        return self._session.region_name or "us-east-1"

    def client(self, service: str, region: str) -> Any:
        with self._lock:
            if (service, region) not in self._clients:
                config = self._config.merge(_S3) if service == "s3" else self._config
                with told(f"{service} in {region}"):
                    made = self._session.client(service, region_name=region, config=config)
                self._clients[service, region] = made
            return self._clients[service, region]

    def ec2(self, region: str) -> Any:
        return self.client("ec2", region)

    def each(self, regions: Iterable[str], call: Callable[[str], T]) -> dict[str, T]:
        """`call` for every region, at once. Raises the first error: half an answer is none."""
        names = sorted(set(regions))
        if len(names) <= 1:
            return {name: call(name) for name in names}
        with ThreadPoolExecutor(min(THREADS, len(names)), thread_name_prefix="aws") as threads:
            return dict(zip(names, threads.map(call, names), strict=True))

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def pages(client: Any, operation: str, key: str, **request: Any) -> list[dict[str, Any]]:
    """All items of a listing, whatever number of answers it takes."""
    return [item for page in client.get_paginator(operation).paginate(**request) for item in page.get(key, [])]
