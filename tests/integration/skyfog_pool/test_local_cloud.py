"""The local cloud: what its market takes, what its machines hear, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest

from skyfog_core.config.pool import ServiceSpec
from skyfog_core.config.pool_local import LocalOptions, LocalZone
from skyfog_core.errors import ConfigError
from skyfog_core.shm import SHM
from skyfog_pool import children, report
from skyfog_pool.notices import AwsNotices, AzureNotices, GcpNotices
from skyfog_pool.policy.market import Market
from skyfog_pool.provider.base import Ending, Instance, LaunchRefused, Misconfigured, Order, Phase, Unavailable
from skyfog_pool.provider.local import STATE, LocalCloud, LocalProvider, make
from skyfog_pool.provider.local_cloud import MACHINES
from skyfog_pool.provider.local_cloud.machine import MACHINE
from skyfog_pool.provider.netem.network import why_not
from skyfog_pool.report import Status
from support.processes import LIMIT_S, wait_until

needs_namespaces = pytest.mark.skipif(bool(why_not()), reason=f"no namespaces: {why_not()}")
POOL = "detect"
TELL = "env > part; mv part seen; exec sleep 600"  # all of it at once


class Running:
    """A cloud, a provider, and orders to it."""

    def __init__(self, folder: Path, options: LocalOptions) -> None:
        self.options = options
        self.cloud = LocalCloud(folder)
        self.provider = LocalProvider(folder, options)
        self.pid: int = self.cloud.about()["pid"]

    def launch(self, zone: str, market: Market = "spot", command: str = TELL, **environment: str) -> Instance:
        order = Order(POOL, 1, 1, uuid.uuid4().hex, zone, market, {report.COMMAND: command, **environment})
        return self.until(self.provider.launch(order).id, lambda machine: machine.phase is not Phase.PENDING)

    def until(self, machine: str, holds: Callable[[Instance], bool]) -> Instance:
        found: list[Instance] = []

        def held() -> bool:
            found[:] = [instance for instance in self.provider.instances(POOL) if instance.id == machine]
            return holds(found[0])

        wait_until(f"{machine} as wished", held)
        return found[0]

    def folder(self, machine: str) -> Path:
        return next((self.cloud.folder / MACHINES).glob(f"*/{machine}"))

    def status(self, machine: Instance, limit_s: float = LIMIT_S) -> Status:
        answer = httpx.get(f"{machine.endpoint}/status", timeout=limit_s, trust_env=False)
        return msgspec.json.decode(answer.content, type=Status)

    def until_status(self, machine: Instance, holds: Callable[[Status], bool]) -> Status:
        seen: list[Status] = []

        def held() -> bool:
            try:
                seen[:] = [self.status(machine, 5.0)]
            except httpx.HTTPError:
                return False
            return holds(seen[0])

        wait_until(f"{machine.id}'s status", held)
        return seen[0]

    def environment(self, machine: Instance) -> dict[str, str]:
        """Of its replica."""
        seen = self.folder(machine.id) / "seen"
        wait_until("its replica runs", seen.exists)
        return dict(line.partition("=")[::2] for line in seen.read_text().splitlines())

    def processes(self) -> list[psutil.Process]:
        return children.marked(MACHINE, str(self.cloud.folder))

    def until_nothing_runs(self) -> None:
        """What was killed in a namespace is gone a moment after its parent, for which the cloud waited."""
        wait_until("nothing of it runs", lambda: self.processes() == [])

    def close(self) -> None:
        self.cloud.end()
        self.provider.close()
        self.cloud.close()
        self.until_nothing_runs()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(**options: object) -> Running:
        options = {"stop_s": 0.5, "namespaces": False, **options}
        started.append(Running(tmp_path / "local", LocalOptions.model_validate(options)))
        return started[-1]

    yield begin
    for running in started:
        running.close()


def test_a_preemption_with_notice_is_told_by_file_and_ends_in_sigterm(start: Callable[..., Running]) -> None:
    running = start()
    command = "trap 'echo x > termed; exit 0' TERM; touch begun; while :; do sleep 0.02; done"
    machine = running.launch("local-1a", command=command)
    spared = running.launch("local-1b")
    folder = running.folder(machine.id)
    wait_until("its replica would hear a signal", (folder / "begun").exists)
    assert running.cloud.preempt("local-1a", notice_s=3.0) == [machine.id]
    told = running.until_status(machine, lambda status: status.notice is not None)
    assert told.notice is not None
    assert told.notice.kind == "interruption"
    assert running.until(machine.id, lambda instance: instance.notice is not None).notice == "interruption"
    assert running.until(machine.id, lambda instance: instance.phase is Phase.GONE).ending is Ending.PREEMPTED
    assert (folder / "termed").exists()
    assert running.until(spared.id, lambda _: True).phase is Phase.RUNNING


def test_a_preemption_without_notice_lets_nothing_finish(start: Callable[..., Running]) -> None:
    running = start()
    machine = running.launch("local-1a", command="trap 'echo x > termed' TERM; while :; do sleep 0.02; done")
    running.until_status(machine, lambda status: status.phase == "starting")
    folder = running.folder(machine.id)
    running.cloud.preempt("local-1a")
    assert running.until(machine.id, lambda instance: instance.phase is Phase.GONE).ending is Ending.PREEMPTED
    assert not (folder / "termed").exists()
    running.until_nothing_runs()


def test_on_demand_machines_are_not_taken(start: Callable[..., Running]) -> None:
    running = start()
    machine = running.launch("local-1a", "on_demand")
    assert running.cloud.preempt("local-1a", 5) == []
    running.cloud.capacity("local-1a", 0)
    assert running.until(machine.id, lambda _: True).phase is Phase.RUNNING


def test_where_capacity_falls_the_excess_is_taken_and_no_more_is_given(start: Callable[..., Running]) -> None:
    running = start(notices=0.0)
    kept = [running.launch("local-1a", command="exec sleep 600") for _ in range(3)]
    running.cloud.capacity("local-1a", 1)
    wait_until("two are taken", lambda: len(_alive(running, kept)) == 1)
    with pytest.raises(LaunchRefused, match="1 spot machines, and 1 are taken") as refused:
        running.launch("local-1a")
    assert refused.value.fault == "capacity"
    assert running.launch("local-1a", "on_demand").market == "on_demand"


def test_a_trace_gives_and_takes(start: Callable[..., Running], tmp_path: Path) -> None:
    """Three hours with two machines, then none, at an hour a second."""
    traces = tmp_path / "traces"
    traces.mkdir()
    for zone in ("east-1a", "east-1b"):
        content = {"metadata": {"gap_seconds": 3_600}, "data": [2] * (12 if zone == "east-1a" else 90) + [0] * 90}
        (traces / f"{zone}_v100_1.json").write_text(json.dumps(content))
    running = start(trace=str(traces), speed=3_600.0, notices=0.0)
    assert [(zone.name, zone.region) for zone in running.provider.zones()] == [
        ("east-1a", "east-1"),
        ("east-1b", "east-1"),
    ]
    machines = [running.launch(zone, command="exec sleep 600") for zone in ("east-1a", "east-1b")]
    assert running.until(machines[0].id, lambda machine: machine.phase is Phase.GONE).ending is Ending.PREEMPTED
    assert _alive(running, machines) == [machines[1].id]


def test_machines_hear_of_notices_as_on_the_real_clouds(start: Callable[..., Running]) -> None:
    running = start(notice_source="aws")
    machine = running.launch("local-1a", **{report.NOTICE_POLL_S: "0.1"})
    environment = running.environment(machine)
    url = environment[report.METADATA_URL]
    assert environment[report.NOTICE_SOURCE] == "aws"
    with closing(AwsNotices(url)) as aws, closing(GcpNotices(url)) as gcp, closing(AzureNotices(url)) as azure:
        assert [source.poll() for source in (aws, gcp, azure)] == [None, None, None]
        assert running.cloud.recommend_rebalance("local-1a") == [machine.id]
        rebalance = aws.poll()
        assert rebalance is not None
        assert rebalance.kind == "rebalance"
        assert running.until_status(machine, lambda status: status.notice is not None).phase == "starting"
        running.cloud.take(machine.id, 60.0)
        for source in (aws, gcp, azure):
            notice = source.poll()
            assert notice is not None
            assert notice.kind == "interruption"
            assert notice.in_s is None or 0 < notice.in_s <= 60
    assert running.until_status(machine, lambda status: status.phase == "drained").notice is not None


def test_metadata_is_given_for_a_token_alone(start: Callable[..., Running]) -> None:
    running = start()
    machine = running.launch("local-1b")
    with httpx.Client(base_url=running.environment(machine)[report.METADATA_URL], trust_env=False) as asked:
        assert asked.get("/latest/meta-data/instance-id").status_code == 401
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        assert asked.put("/latest/api/token").status_code == 400
        assert asked.put("/latest/api/token", headers=ttl | {"X-Forwarded-For": "x"}).status_code == 403
        token = {"X-aws-ec2-metadata-token": asked.put("/latest/api/token", headers=ttl).text}
        for path, told in {
            "instance-id": machine.id,
            "instance-life-cycle": "spot",
            "placement/availability-zone": "local-1b",
            "placement/region": "local-1",
        }.items():
            assert asked.get(f"/latest/meta-data/{path}", headers=token).text == told
        assert asked.get("/latest/meta-data/spot/instance-action", headers=token).status_code == 404


def test_each_machine_has_a_ros_domain_and_ports_of_its_own(start: Callable[..., Running]) -> None:
    running = start()
    one, other = (running.environment(running.launch("local-1a")) for _ in range(2))
    for name in ("ROS_DOMAIN_ID", report.SERVICE_PORT, report.RUNNER_LISTEN, report.METADATA_URL):
        assert one[name] != other[name]
    assert running.environment(running.launch("local-1a", ROS_DOMAIN_ID="42"))["ROS_DOMAIN_ID"] == "42"


def test_what_runs_is_charged_by_the_second_at_the_price_of_the_time(start: Callable[..., Running]) -> None:
    running = start(zones=[{"name": "a", "spot_price": 36.0}])
    machine = running.launch("a", command="exec sleep 600")
    began = time.monotonic()
    wait_until("a cent", lambda: running.cloud.about()["bill_usd"].get(POOL, 0.0) >= 0.01)
    running.cloud.price("a", 3_600.0)
    assert running.until(machine.id, lambda _: True).price_per_hour == 3_600.0
    wait_until("a dollar", lambda: running.cloud.about()["bill_usd"][POOL] >= 1.0)
    running.provider.terminate(machine.id)
    running.until(machine.id, lambda instance: instance.phase is Phase.GONE)
    bill = running.cloud.about()["bill_usd"][POOL]
    assert bill <= (time.monotonic() - began + LIMIT_S) * 1.0
    assert running.cloud.about()["bill_usd"][POOL] == bill


def test_a_cold_start_is_waited_for_and_can_be_called_off(start: Callable[..., Running]) -> None:
    running = start(cold_start_s=60.0)
    order = Order(POOL, 1, 1, uuid.uuid4().hex, "local-1a", "spot", {report.COMMAND: "true"})
    machine = running.provider.launch(order)
    assert machine.phase is Phase.PENDING
    running.provider.terminate(machine.id)
    assert running.until(machine.id, lambda _: True).ending is Ending.RETURNED
    assert running.processes() == []


@needs_namespaces
def test_a_zone_has_a_network_of_its_own_that_is_slow_and_can_be_cut(start: Callable[..., Running]) -> None:
    zones = [{"name": "far", "delay_ms": 80.0}, {"name": "near"}]
    running = start(zones=zones, namespaces=True)
    far = running.launch("far", **{report.CONNECT: "tcp/127.0.0.1:7447,tcp/10.0.0.5:7447"})
    near = running.launch("near")
    home = running.cloud.about()["home"]
    assert running.environment(far)["SKYFOG_HOME"] == home
    assert running.environment(far)[report.CONNECT] == f"tcp/{home}:7447,tcp/10.0.0.5:7447"
    running.until_status(near, lambda status: status.phase == "starting")
    running.until_status(far, lambda status: status.phase == "starting")
    began = time.monotonic()
    running.status(far)
    assert time.monotonic() - began >= 4 * 0.08  # a round trip to connect, one to ask
    running.cloud.partition("far")
    with pytest.raises(httpx.TimeoutException):
        running.status(far, 1.0)
    running.until_status(near, lambda status: status.phase == "starting")
    assert running.until(far.id, lambda _: True).phase is Phase.RUNNING  # the cloud itself is not cut off
    running.cloud.heal("far")
    running.until_status(far, lambda status: status.phase == "starting")


def test_without_namespaces_a_partition_is_refused_with_the_reason(start: Callable[..., Running]) -> None:
    running = start()
    with pytest.raises(Misconfigured, match="namespaces is false"):
        running.cloud.partition("local-1a")
    with pytest.raises(Misconfigured, match="did you mean 'local-1a'"):
        running.cloud.preempt("local-1aa")


@pytest.mark.parametrize("namespaces", [False, pytest.param(True, marks=needs_namespaces)])
def test_a_cloud_that_is_killed_takes_all_it_had_with_it(start: Callable[..., Running], namespaces: bool) -> None:
    """Processes, also those that have left their parent and session; shared memory; devices; and it can begin anew."""
    running = start(namespaces=namespaces)
    home = running.cloud.about()["home"] if namespaces else ""
    segment = f"{uuid.uuid4().hex[:12]}.zenoh"
    hold = f"import mmap; f = open('/dev/shm/{segment}', 'w+b'); f.truncate(9); m = mmap.mmap(f.fileno(), 9); input()"
    command = f'setsid --fork sleep 600; sleep 600 | python3 -c "{hold}"'
    machines = [running.launch(zone, command=command) for zone in ("local-1a", "local-2a")]
    wait_until("all run", lambda: len([p for p in running.processes() if _name(p) == "sleep"]) == 4)
    if not namespaces:
        wait_until("shared memory is there", (SHM / segment).exists)
    os.kill(running.pid, signal.SIGKILL)
    running.until_nothing_runs()
    wait_until("its device goes", lambda: home not in _addresses())
    wait_until("shared memory goes", lambda: not (SHM / segment).exists())
    with pytest.raises(Unavailable):
        running.cloud.about()
    assert running.provider.instances(POOL) == []
    assert running.cloud.about()["pid"] != running.pid
    assert len({machine.id for machine in machines} | {running.launch("local-1a").id}) == 3


@needs_namespaces
def test_a_cloud_that_loses_its_network_ends_and_another_is_begun(start: Callable[..., Running]) -> None:
    running = start(namespaces=True)
    running.launch("local-1a", command="exec sleep 600")
    network = next(child for child in psutil.Process(running.pid).children() if "netem" in " ".join(child.cmdline()))
    network.kill()
    wait_until("it ends", lambda: not psutil.pid_exists(running.pid))
    running.until_nothing_runs()
    assert running.provider.instances(POOL) == []


def test_it_lives_on_without_its_starter_and_two_clients_meet_the_same(start: Callable[..., Running]) -> None:
    running = start()
    machine = running.launch("local-1a")
    assert psutil.Process(running.pid).ppid() != os.getpid()
    with closing(LocalProvider(running.cloud.folder, running.options)) as other:
        assert [instance.id for instance in other.instances(POOL)] == [machine.id]


def test_other_options_for_a_cloud_that_runs_are_refused(start: Callable[..., Running]) -> None:
    running = start()
    with pytest.raises(Misconfigured, match="with other notice_s"):
        LocalProvider(running.cloud.folder, running.options.model_copy(update={"notice_s": 3.0}))


def test_it_ends_when_it_has_been_idle_for_long(start: Callable[..., Running]) -> None:
    running = start(linger_s=3.0)
    wait_until("it ends", lambda: not psutil.pid_exists(running.pid))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"zonse": []}, "did you mean 'zones'"),
        ({"zones": [{"name": "a", "delay_ms": -1}]}, "delay_ms"),
        ({"zones": [{"name": "a"}, {"name": "a"}]}, "twice"),
        ({"zones": [{"name": "home"}]}, "name it otherwise"),
        ({"trace": "/nowhere"}, "no file ZONE_"),
        ({"trace": "/nowhere", "seed": 1}, "exclude each other"),
        ({"notice_source": "files"}, "notice_source"),
    ],
)
def test_wrong_options_are_refused_and_leave_no_cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], said: str
) -> None:
    monkeypatch.setenv(STATE, str(tmp_path))
    spec = ServiceSpec.model_validate({"service": {"replicas": 1}, "provider_options": options})
    with pytest.raises((ConfigError, Misconfigured), match=said):
        make(spec, POOL)
    assert not list(tmp_path.glob("**/cloud.sock"))


def test_zones_are_those_that_the_resources_allow_and_workdir_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[..., Running]
) -> None:
    running = start()
    monkeypatch.setenv(STATE, str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "hello").write_text("x")
    spec = ServiceSpec.model_validate(
        {
            "service": {"replicas": 1},
            "resources": {"any_of": [{"infra": "local/local-2"}, {"infra": "local/*/local-1b"}]},
            "workdir": str(tmp_path / "mine"),
            "provider_options": {"stop_s": 0.5, "namespaces": False},
        }
    )
    with closing(make(spec, POOL)) as provider:
        assert [zone.name for zone in provider.zones()] == ["local-1b", "local-2a"]
        assert set(provider.prices()) == {"local-1b", "local-2a"}
        order = Order(POOL, 1, 1, "t", "local-2a", "spot", {report.COMMAND: "cp hello copied; exec sleep 600"})
        machine = provider.launch(order)
        wait_until("it has what it needs", (running.folder(machine.id) / "copied").exists)
    with pytest.raises(Misconfigured, match="file_mounts"):
        make(spec.model_copy(update={"file_mounts": {"a": "b"}}), POOL)


def test_a_folder_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=STATE):
        LocalCloud(tmp_path / ("x" * 120))


def test_zones_of_one_name_in_trace_and_options_are_joined(start: Callable[..., Running], tmp_path: Path) -> None:
    content = {"metadata": {"gap_seconds": 600}, "data": [1, 1]}
    for kind in ("k80_1", "v100_1"):
        (tmp_path / f"west-2b_{kind}.json").write_text(json.dumps(content))
    zone = LocalZone(name="west-2b", region="west-2", spot_price=0.9, trace=str(tmp_path / "west-2b_k80_1.json"))
    running = start(zones=[zone.model_dump()], trace=str(tmp_path))
    assert running.provider.prices()["west-2b"].spot == 0.9
    running.launch("west-2b")
    with pytest.raises(LaunchRefused):
        running.launch("west-2b")


def _alive(running: Running, machines: list[Instance]) -> list[str]:
    wanted = {machine.id for machine in machines}
    return [
        found.id for found in running.provider.instances(POOL) if found.id in wanted and found.ending is Ending.NONE
    ]


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _addresses() -> set[str]:
    """Of this machine's devices."""
    return {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
