from __future__ import annotations

import math
from typing import Any

import pytest

from skyfog_core.config.base import parse
from skyfog_core.config.pool import ServiceSpec
from skyfog_pool import report
from skyfog_pool.policy.market import Prices, Zone
from skyfog_pool.provider.base import LaunchRefused, Misconfigured, Order, Unavailable
from skyfog_pool.provider.program import ProgramError
from skyfog_pool.provider.skypilot_task import (
    Catalogue,
    call_error,
    launch_error,
    task_of,
    wanted_resources,
)

ORDER = Order("detect", 3, 2, "0a1b", "us-central1-a", "spot", {report.COMMAND: 'echo "it\'s $HOME"'})
OFFER = {
    "cloud": "gcp",
    "region": "us-central1",
    "zone": "us-central1-a",
    "spot": True,
    "price": 0.06,
    "resources": {"infra": "gcp/us-central1/us-central1-a", "instance_type": "n2-standard-4", "use_spot": True},
}


def spec_of(**more: Any) -> ServiceSpec:
    return parse(ServiceSpec, {"service": {"replicas": 1}, **more}, "test")


def failed(kind: str, message: str = "no", *causes: str) -> ProgramError:
    return ProgramError({"kinds": [kind, "Exception", "BaseException"], "message": message, "causes": list(causes)})


def test_alternatives_are_asked_for_without_their_market() -> None:
    spec = spec_of(
        resources={
            "cpus": "4+",
            "use_spot": True,
            "image_id": "docker:x",
            "any_of": [{"infra": "gcp"}, {"infra": "azure"}],
        }
    )
    assert wanted_resources(spec.resources) == [
        {"image_id": "docker:x", "infra": "gcp", "cpus": "4+"},
        {"image_id": "docker:x", "infra": "azure", "cpus": "4+"},
    ]


def offer(cloud: str, region: str, zone: str, price: float, spot: bool) -> dict[str, Any]:
    return {"cloud": cloud, "region": region, "zone": zone, "price": price, "spot": spot, "resources": {"at": price}}


def test_the_cheapest_machine_of_a_zone_is_offered_and_a_missing_market_costs_infinitely_much() -> None:
    catalogue = Catalogue.of(
        [
            offer("gcp", "us-central1", "us-central1-a", 0.09, True),
            offer("gcp", "us-central1", "us-central1-a", 0.06, True),
            offer("gcp", "us-central1", "us-central1-a", 0.2, False),
            offer("lambda", "us-west-1", "", 0.5, False),
        ]
    )
    assert catalogue.zones == [Zone("us-central1-a", "us-central1", "gcp"), Zone("us-west-1", "us-west-1", "lambda")]
    assert catalogue.prices() == {"us-central1-a": Prices(0.06, 0.2), "us-west-1": Prices(math.inf, 0.5)}
    assert catalogue.offer("us-central1-a", "spot")["resources"] == {"at": 0.06}
    with pytest.raises(LaunchRefused, match="us-west-1 offers no spot machine"):
        catalogue.offer("us-west-1", "spot")
    with pytest.raises(Misconfigured, match="no zone 'nowhere'; the spec's resources leave us-central1-a, us-west-1"):
        catalogue.offer("nowhere", "spot")


def test_zones_of_one_name_in_two_clouds_have_the_cloud_in_front() -> None:
    catalogue = Catalogue.of(
        [
            offer("aws", "us-east-1", "", 1.0, True),
            offer("oci", "us-east-1", "", 2.0, True),
            offer("oci", "x", "", 3.0, True),
        ]
    )
    assert [zone.name for zone in catalogue.zones] == ["aws-us-east-1", "oci-us-east-1", "x"]
    assert catalogue.name_of({"cloud": "oci", "region": "us-east-1", "zone": ""}) == "oci-us-east-1"
    assert catalogue.name_of({"cloud": "gcp", "region": "r", "zone": "r-a"}) == "r-a"


def test_a_task_ships_the_workspace_and_runs_the_runner_once() -> None:
    spec = spec_of(resources={"infra": "gcp", "use_spot": True, "ports": 8080, "labels": {"team": "arm"}})
    task = task_of(spec, ORDER, OFFER, 7_700, "/srv/skyfog")
    assert task["workdir"] == "/srv/skyfog"
    assert task["setup"] == "./ws setup && ./ws build"
    assert task["run"] == "exec flock -n -E 0 ~/.skyfog-runner.lock ~/sky_workdir/ws run python -m skyfog_pool.runner"
    resources = task["resources"]
    assert (resources["infra"], resources["use_spot"], resources["ports"]) == (
        "gcp/us-central1/us-central1-a",
        True,
        ["7700", "8080"],
    )
    assert resources["labels"] == {
        "team": "arm",
        "skyfog-pool": "detect",
        "skyfog-replica": "3",
        "skyfog-version": "2",
        "skyfog-token": "0a1b",
    }
    assert task["envs"] == {
        **ORDER.environment,
        report.RUNNER_LISTEN: "0.0.0.0:7700",
        report.SERVICE_PORT: "8080",
        report.NOTICE_SOURCE: "gcp",
    }
    assert "file_mounts" not in task


def test_an_image_brings_the_workspace_and_a_folder_of_the_user_is_shipped_beside_it() -> None:
    spec = spec_of(resources={"image_id": "docker:skyfog/replica"}, workdir="models", file_mounts={"/data": "d"})
    task = task_of(spec, ORDER, OFFER, 7_700, "/opt/skyfog")
    assert "workdir" not in task
    assert "setup" not in task
    assert task["file_mounts"] == {"/data": "d", "~/skyfog_workdir": "models"}
    assert task["run"].splitlines()[0] == "cd ~/skyfog_workdir"
    assert "/opt/skyfog/ws run" in task["run"]


def test_a_cloud_that_gives_no_notice_has_no_source_of_them() -> None:
    task = task_of(spec_of(), ORDER, OFFER | {"cloud": "lambda"}, 7_700, "/srv/skyfog")
    assert task["envs"][report.NOTICE_SOURCE] == "none"
    assert task["envs"][report.SERVICE_PORT] == "7701"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (failed("ResourcesUnavailableError", "Failed to provision", "ZONE_RESOURCE_POOL_EXHAUSTED"), "capacity"),
        (failed("ResourcesUnavailableError", "Failed to provision", "InsufficientInstanceCapacity"), "capacity"),
        (failed("ResourcesUnavailableError", "Failed to provision", "VcpuLimitExceeded"), "quota"),
        (
            failed("ResourcesUnavailableError", "Failed", "MaxSpotInstanceCountExceeded: Max spot limit exceeded"),
            "quota",
        ),
        (failed("ResourcesUnavailableError", "Failed to provision", "Quota 'CPUS' exceeded"), "quota"),
        (failed("ResourcesUnavailableError", "Catalog does not contain any instances"), "rejected"),
        (failed("ResourcesMismatchError"), "rejected"),
        (failed("ProvisionPrechecksError", "insufficient quota"), "quota"),
        (failed("ClusterSetUpError", "setup failed"), "error"),
        (failed("RequestCancelled", "cancelled by another process"), "error"),
    ],
)
def test_a_refused_launch_says_why(error: ProgramError, fault: str) -> None:
    told = launch_error(error, "spot in us-central1-a")
    assert isinstance(told, LaunchRefused)
    assert told.fault == fault
    assert "us-central1-a" in str(told)
    assert all(cause in str(told) for cause in error.causes)


def test_missing_credentials_are_for_somebody_to_mend_and_the_rest_cannot_be_told() -> None:
    for told in (launch_error(failed("NoCloudAccessError"), "x"), call_error(failed("InvalidCloudCredentials"), "x")):
        assert isinstance(told, Misconfigured)
        assert "sky check" in str(told)
    assert isinstance(launch_error(failed("ApiServerConnectionError"), "x"), Unavailable)
    assert isinstance(call_error(failed("ClusterStatusFetchingError"), "x"), Unavailable)
    assert isinstance(launch_error(failed("SomethingNew"), "x"), Unavailable)
