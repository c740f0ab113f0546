"""What AWS refuses, and what it means."""

from __future__ import annotations

import botocore.exceptions
import pytest

from skyfog_pool.provider.aws_session import explain, fault_of, told
from skyfog_pool.provider.base import LaunchRefused, Misconfigured, ProviderError, Unavailable


def answer(code: str, status: int = 400, message: str = "why") -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "RunInstances"
    )


@pytest.mark.parametrize(
    ("code", "status", "fault"),
    [
        ("InsufficientInstanceCapacity", 500, "capacity"),
        ("UnfulfillableCapacity", 400, "capacity"),
        ("SpotMaxPriceTooLow", 400, "capacity"),
        ("MaxSpotInstanceCountExceeded", 400, "quota"),
        ("VcpuLimitExceeded", 400, "quota"),
        ("InstanceLimitExceeded", 400, "quota"),
        ("InvalidParameterValue", 400, "rejected"),
        ("InvalidAMIID.NotFound", 400, "rejected"),
        ("Unsupported", 400, "rejected"),
        ("SomethingNew", 400, "rejected"),
        ("InvalidLaunchTemplateId.NotFound", 400, "error"),
    ],
)
def test_a_refused_launch_says_why(code: str, status: int, fault: str) -> None:
    error = explain(answer(code, status), "launch in us-west-2b", launching=True)
    assert isinstance(error, LaunchRefused)
    assert error.fault == fault == fault_of(code)
    assert "us-west-2b" in str(error)
    assert code in str(error)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("RequestLimitExceeded", 503),
        ("Throttling", 400),
        ("InternalError", 500),
        ("ServiceUnavailable", 503),
        ("Unknown", 502),
    ],
)
@pytest.mark.parametrize("launching", [True, False])
def test_a_failure_of_aws_may_pass(code: str, status: int, launching: bool) -> None:
    assert isinstance(explain(answer(code, status), "launch", launching), Unavailable)


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        ("UnauthorizedOperation", "RunInstances is to be allowed"),
        ("AccessDenied", "RunInstances is to be allowed"),
        ("AuthFailure", "check credentials"),
        ("ExpiredToken", "check credentials"),
        ("RequestExpired", "clock"),
    ],
)
@pytest.mark.parametrize("launching", [True, False])
def test_what_somebody_must_mend_says_how(code: str, mend: str, launching: bool) -> None:
    error = explain(answer(code, 403), "launch", launching)
    assert isinstance(error, Misconfigured)
    assert mend in str(error)


def test_an_encoded_explanation_is_left_out() -> None:
    error = explain(
        answer("UnauthorizedOperation", 403, "No. Encoded authorization failure message: " + "x" * 900), "a"
    )
    assert "No." in str(error)
    assert len(str(error)) < 200


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (botocore.exceptions.NoCredentialsError(), Misconfigured),
        (botocore.exceptions.ProfileNotFound(profile="lab"), Misconfigured),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://a"), Unavailable),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url="http://a"), Unavailable),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://a"), Unavailable),
        (botocore.exceptions.ParamValidationError(report="no"), LaunchRefused),
    ],
)
def test_what_boto3_itself_raises_is_ours_outside(raised: Exception, kind: type[ProviderError]) -> None:
    with pytest.raises(kind), told("launch", launching=True):
        raise raised
