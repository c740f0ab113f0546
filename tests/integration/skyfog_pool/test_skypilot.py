"""The `skypilot` provider and its worker process, on a fake of SkyPilot's SDK."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from skyfog_core.errors import ConfigError
from skyfog_pool.provider.base import Ending, LaunchRefused, Misconfigured, Phase, Unavailable
from skyfog_pool.provider.program import Program
from skyfog_pool.provider.skypilot import WORKER
from skyfog_pool.provider.table import make_provider
from support.conformance import ProviderConformance, order
from support.fake_sky_cloud import FakeSkyCloud, sky_spec
from support.processes import wait_until


class TestSkyPilot(ProviderConformance):
    @pytest.fixture
    def cloud(self, tmp_path: Path) -> Iterator[FakeSkyCloud]:
        cloud = FakeSkyCloud(tmp_path)
        yield cloud
        cloud.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[FakeSkyCloud]:
    cloud = FakeSkyCloud(tmp_path)
    yield cloud
    cloud.close()


def test_the_order_reaches_the_machine_whole(cloud: FakeSkyCloud) -> None:
    wanted = order(cloud, 7, cloud.zones[1], "spot")
    machine = cloud.provider().launch(wanted)
    task = cloud.cluster(machine.id)["task"]
    assert wanted.environment.items() <= task["envs"].items()
    assert task["resources"]["infra"] == "gcp/europe-west4/europe-west4-b"
    assert task["resources"]["use_spot"] is True
    assert task["resources"]["labels"]["skyfog-token"] == wanted.token


def test_what_was_launched_is_not_run_a_second_time(cloud: FakeSkyCloud) -> None:
    wanted = order(cloud)
    machine = cloud.provider().launch(wanted)
    cloud.provider().launch(wanted)
    assert cloud.cluster(machine.id)["runs"] == 1


def test_a_spot_machine_that_was_stopped_was_preempted_and_is_given_back(cloud: FakeSkyCloud) -> None:
    """As Google does: the machine is stopped, and its disk still costs."""
    provider, wanted = cloud.provider(), order(cloud, market="spot")
    machine = provider.launch(wanted)
    cloud.set_status(machine.id, "STOPPED")
    (seen,) = provider.instances(cloud.pool)
    assert (seen.phase, seen.ending) == (Phase.GONE, Ending.PREEMPTED)
    wait_until("its disk is gone", lambda: cloud.machines() == 0, cloud.limit_s)
    (later,) = provider.instances(cloud.pool)
    assert later.ending is Ending.PREEMPTED


def test_a_machine_that_does_not_answer_skypilot_for_a_while_is_not_gone(cloud: FakeSkyCloud) -> None:
    provider, wanted = cloud.provider(), order(cloud, market="spot")
    machine = provider.launch(wanted)
    cloud.set_status(machine.id, "INIT")
    (seen,) = provider.instances(cloud.pool)
    assert seen.phase is Phase.RUNNING
    (fresh,) = cloud.provider().instances(cloud.pool)
    assert fresh.phase is Phase.PENDING


def test_a_refused_launch_takes_away_what_it_had_begun(cloud: FakeSkyCloud) -> None:
    cloud.fail_launch("quota", cloud.zones[0])
    provider, wanted = cloud.provider(), order(cloud)
    with pytest.raises(LaunchRefused, match="Quota 'CPUS' exceeded"):
        provider.launch(wanted)
    assert cloud.machines() == 0


def test_a_machine_that_was_not_taken_back_is_still_there_and_is_told_at_the_next_try(cloud: FakeSkyCloud) -> None:
    provider = cloud.provider()
    machine = provider.launch(order(cloud))
    (cloud.folder / "down_fails").touch()
    provider.terminate(machine.id)
    wait_until("it failed", lambda: provider.instances(cloud.pool)[0].phase is Phase.RUNNING, cloud.limit_s)
    with pytest.raises(Unavailable, match="Failed to terminate instances"):
        provider.terminate(machine.id)
    (cloud.folder / "down_fails").unlink()

    def is_gone_in_the_end() -> bool:
        with contextlib.suppress(Unavailable):  # what the try before tells
            provider.terminate(machine.id)
        return cloud.machines() == 0

    wait_until("it is gone", is_gone_in_the_end, cloud.limit_s)
    assert provider.instances(cloud.pool)[0].ending is Ending.RETURNED


def test_a_cloud_without_credentials_is_named_before_anything_is_launched(cloud: FakeSkyCloud) -> None:
    spec = sky_spec(resources={"any_of": [{"infra": "gcp"}, {"infra": "azure"}], "use_spot": True})
    with pytest.raises(Misconfigured, match="credentials for gcp: see `sky check azure`"):
        cloud.provider(spec).zones()
    cloud.enable()
    with pytest.raises(Misconfigured, match="no credentials at all"):
        cloud.provider().zones()


def test_a_program_that_died_is_started_anew(cloud: FakeSkyCloud) -> None:
    provider = cloud.provider(call_limit_s=30.0)  # in which it starts
    provider.zones()
    (worker,) = [child for child in psutil.Process().children() if WORKER in " ".join(child.cmdline())]
    worker.kill()
    worker.wait(10)
    assert provider.instances(cloud.pool) == []


def test_a_library_that_is_missing_is_for_somebody_to_mend() -> None:
    program = Program("skypilot", Path(sys.executable), WORKER, {"SKYFOG_FAKE_SKY": ""})
    with pytest.raises(Misconfigured, match="No module named 'sky'"):
        program.ask("enabled", 10.0)
    program.close()
    with pytest.raises(Misconfigured, match="/no/python does not run: No such file"):
        Program("skypilot", Path("/no/python"), WORKER).ask("enabled", 10.0)


def test_without_its_environment_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKYFOG_WS", str(tmp_path))
    with pytest.raises(Misconfigured, match="not installed; skyfog bench peers install skypilot"):
        make_provider(sky_spec(), "detect")


def test_a_wrong_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"provider_options: runner_prot: unknown key; did you mean 'runner_port'\?"):
        make_provider(sky_spec(provider_options={"runner_prot": 1}), "detect")
