"""The `skypilot` provider with SkyPilot itself: on a catalogue of ours, by dry run, without any cloud or network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyfog_core.environments import INSTALL_COMMAND
from skyfog_core.ports import free_tcp_port
from skyfog_pool import report
from skyfog_pool.policy.market import Prices
from skyfog_pool.provider.base import Misconfigured, Order
from skyfog_pool.provider.names import machine_name
from skyfog_pool.provider.program import Program, ProgramError
from skyfog_pool.provider.skypilot import WORKER, SkyPilotOptions, SkyPilotProvider
from skyfog_pool.provider.skypilot_task import Catalogue, launch_error, task_of, wanted_resources
from support.fake_sky_cloud import PRICES, sky_spec

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = ROOT / ".ws" / "peers" / "skypilot"
LIMIT_S = 200.0  # SkyPilot's import takes 4 s, its API server's start 20 s, on a machine that does nothing else
COLUMNS = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone,Arch"
)

pytestmark = [
    pytest.mark.skipif(
        not (ENVIRONMENT / "installed").is_file(), reason=f"SkyPilot is not installed: {INSTALL_COMMAND} skypilot"
    ),
    pytest.mark.timeout(3 * LIMIT_S),
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of SkyPilot's with a catalogue of one cloud, and, since it asks for one, an rsync that does nothing."""
    catalogue = tmp_path / ".sky" / "catalogs" / "v8" / "gcp"
    catalogue.mkdir(parents=True)
    rows = [
        f"{kind},,,{cpus},{4 * cpus},,{times * on_demand},{times * spot},{zone.rpartition('-')[0]},{zone},x86_64"
        for kind, cpus, times in (("n2-standard-4", 4, 1), ("n2-standard-8", 8, 2))
        for zone, (spot, on_demand) in PRICES.items()
    ]
    (catalogue / "vms.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    (catalogue / "images.csv").write_text(
        "Tag,Region,OS,OSVersion,ImageId,CreationDate\n"
        "skypilot:custom-cpu-ubuntu-2204,global,ubuntu,22.04,projects/x/global/images/y,20260101\n"
    )
    (catalogue / "accelerator_quota_mapping.csv").write_text("Accelerator,Spot,OnDemand\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "rsync").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "rsync").chmod(0o755)
    return tmp_path


def environment_of(home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(free_tcp_port()),
    }


def alone(python: Path, home: Path) -> Path:
    """A Python that sees no network but its loopback, and with whose end every process ends that it started.

    SkyPilot's API server is a daemon, so that it would stay.
    """
    made = home / "bin" / "python-alone"
    unshare = "unshare --net --pid --fork --kill-child --mount-proc"
    made.write_text(f'#!/bin/sh\nexec {unshare} sh -c \'ip link set lo up; exec {python} "$@"\' python "$@"\n')
    made.chmod(0o755)
    return made


@pytest.fixture
def program(home: Path) -> Iterator[Program]:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root for a network namespace")
    made = Program("skypilot", alone(ENVIRONMENT / "bin" / "python", home), WORKER, environment_of(home))
    yield made
    made.close()


def test_zones_prices_and_a_task_are_understood_by_skypilot(home: Path, program: Program) -> None:
    spec = sky_spec(resources={"infra": "gcp", "cpus": "4+", "use_spot": True, "ports": [8080], "labels": {"a": "b"}})
    offers = program.ask("offers", LIMIT_S, resources=wanted_resources(spec.resources), enabled=["gcp"])
    catalogue = Catalogue.of(offers)
    prices = catalogue.prices()
    assert {zone.name for zone in catalogue.zones} == set(PRICES)
    assert prices == {zone: Prices(pytest.approx(spot), pytest.approx(other)) for zone, (spot, other) in PRICES.items()}

    one_region = sky_spec(resources={"infra": "gcp/europe-west4", "cpus": "8+", "use_spot": True})
    offers = program.ask("offers", LIMIT_S, resources=wanted_resources(one_region.resources), enabled=["gcp"])
    prices = Catalogue.of(offers).prices()
    assert prices["europe-west4-a"] == Prices(pytest.approx(2 * 0.077), pytest.approx(0.44))
    assert set(prices) == {"europe-west4-a", "europe-west4-b"}

    assert program.ask("offers", LIMIT_S, resources=[{"infra": "gcp/mars-1"}], enabled=["gcp"]) == []
    with pytest.raises(ProgramError) as error:
        program.ask("offers", LIMIT_S, resources=[{"infra": "moon"}], enabled=["gcp"])
    assert "ValueError" in error.value.kinds

    environment = {report.COMMAND: 'echo "it\'s $HOME"', "GREETING": "ü"}
    order = Order("detect", 3, 1, "0a1b2c", "us-central1-b", "spot", environment)
    task = task_of(spec, order, catalogue.offer(order.zone, order.market), 7_700, str(ROOT))
    chosen = dry_run(home, machine_name(order), task)
    assert (chosen["zone"], chosen["spot"], chosen["instance_type"]) == ("us-central1-b", True, "n2-standard-4")
    assert chosen["ports"] == ["7700", "8080"]
    assert chosen["labels"]["skyfog-token"] == "0a1b2c"
    assert environment.items() <= chosen["envs"].items()


def dry_run(home: Path, name: str, task: dict[str, object]) -> dict[str, object]:
    done = subprocess.run(
        [alone(ENVIRONMENT / "bin" / "python", home), ROOT / "tests" / "support" / "sky_dryrun.py"],
        input=json.dumps({"name": name, "task": task}),
        env={**os.environ, **environment_of(home)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_without_credentials_skypilots_api_server_says_so_and_we_say_what_to_do(program: Program) -> None:
    """Through the SDK and a real API server, started by it."""
    provider = SkyPilotProvider(sky_spec(), "detect", SkyPilotOptions(start_limit_s=LIMIT_S), program)
    with pytest.raises(Misconfigured, match="no credentials at all: see `sky check gcp`"):
        provider.zones()
    # What does not need a cloud works; a cluster that is not there is no error.
    assert program.ask("clusters", LIMIT_S, prefix="skyfog-detect-r", port=7_700) == []
    provider.terminate("skyfog-detect-r1-v1-abc")
    task = {"resources": {"infra": "gcp/us-central1/us-central1-a", "instance_type": "n2-standard-4"}, "run": "true"}
    with pytest.raises(ProgramError) as error:
        program.ask("launch", LIMIT_S, name="skyfog-detect-r1-v1-abc", task=task)
    assert "NoCloudAccessError" in error.value.kinds
    assert isinstance(launch_error(error.value, "us-central1-a"), Misconfigured)
