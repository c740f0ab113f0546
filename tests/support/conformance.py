"""What every provider does, as tests: derive a class whose name begins with Test and give it a fixture `cloud`.

    class TestLocal(ProviderConformance):
        @pytest.fixture
        def cloud(self, tmp_path: Path) -> Iterator[Cloud]:
            cloud = LocalCloud(tmp_path)  # a Cloud, below
            yield cloud
            cloud.close()

A Cloud is what a test may do to a cloud from outside. What one cannot do stands in its `lacks`, with the reason: those
tests skip. Every test ends with the leak test: no machine is left that nobody knows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Protocol

import pytest

from skyfog_pool import report
from skyfog_pool.policy.market import LaunchFault, Market
from skyfog_pool.provider.base import (
    CannotTell,
    Ending,
    Instance,
    LaunchRefused,
    Misconfigured,
    Order,
    Phase,
    Provider,
    Unavailable,
)
from support.processes import wait_until

# What a test may need of a cloud.
Ability = Literal[
    "capacity", "quota", "rejected", "lost", "outage", "hang", "preempt", "notice", "crash", "price", "spot", "logs"
]


class Cloud(Protocol):
    """One cloud under test, fresh for each test."""

    pool: str  # whose machines the tests make
    zones: tuple[str, ...]  # two or more in which machines are to be had
    limit_s: float  # of every wait
    hang_limit_s: float  # within which a call on a hanging cloud raises
    lacks: Mapping[Ability, str]  # what it cannot be made to do, and why

    def provider(self) -> Provider:
        """A new client of the same cloud each time, as after the controller's restart; closed by close()."""
        ...

    def machines(self) -> int:
        """How many machines there really are, whoever they belong to, asked past the provider."""
        ...

    def fail_launch(self, fault: LaunchFault | Literal["lost"], zone: str) -> None:
        """The next launch in `zone` fails so; `lost`: the machine comes, but the answer is an error or none at all."""
        ...

    def outage(self, kind: Literal["", "error", "hang"]) -> None:
        """From now on every call is answered by an error (HTTP 500 or throttling), or never; empty: as it should."""
        ...

    def preempt(self, instance: str) -> None:
        """The market takes a spot machine at once."""
        ...

    def notice(self, instance: str) -> None:
        """The cloud tells that it will take a machine in two minutes, where its API tells such (Instance.notice)."""
        ...

    def crash(self, instance: str) -> None:
        """A machine ends by itself."""
        ...

    def price(self, zone: str, usd: float) -> None:
        """The spot price of a zone changes."""
        ...

    def close(self) -> None:
        """End everything."""
        ...


def order(cloud: Cloud, replica: int = 1, zone: str = "", market: Market = "on_demand", token: str = "") -> Order:
    """An order for a machine whose replica does nothing."""
    zone = zone or cloud.zones[0]
    environment = {
        report.POOL: cloud.pool,
        report.REPLICA: str(replica),
        report.NAME: report.replica_name(cloud.pool, replica),
        report.VERSION: "1",
        report.ZONE: zone,
        report.MARKET: market,
        report.PRICE: "0.1",
        report.COMMAND: "exec sleep 600",
        "GREETING": 'it\'s "quoted" $HOME',
    }
    return Order(cloud.pool, replica, 1, token or uuid.uuid4().hex, zone, market, environment)


def find(provider: Provider, cloud: Cloud, token: str) -> Instance | None:
    found = [instance for instance in provider.instances(cloud.pool) if instance.token == token]
    assert len(found) <= 1, found
    return found[0] if found else None


def one_machine(cloud: Cloud) -> None:
    """Exactly one is there; a process that has just begun, or begins another program, does not show whose it is."""
    counts = [0]

    def is_there() -> bool:
        counts.append(cloud.machines())
        return counts[-1] >= 1

    wait_until("a machine is there", is_there, cloud.limit_s)
    assert counts[-1] == 1


def no_machine(cloud: Cloud) -> None:
    """None is left; what a cloud tells of as gone may still be about to go."""
    wait_until("no machine is left", lambda: cloud.machines() == 0, cloud.limit_s)


def answers(provider: Provider, cloud: Cloud) -> bool:
    with contextlib.suppress(Unavailable):
        provider.instances(cloud.pool)
        return True
    return False


def wait_for(provider: Provider, cloud: Cloud, token: str, holds: Callable[[Instance], bool]) -> Instance:
    """The machine of a token, once it is as wished."""
    seen: list[Instance] = []

    def done() -> bool:
        instance = find(provider, cloud, token)
        seen[:] = [instance] if instance is not None else []
        return bool(seen) and holds(seen[0])

    try:
        wait_until("the machine", done, cloud.limit_s)
    except TimeoutError as error:
        raise TimeoutError(f"{error}; last seen: {seen}") from None
    return seen[0]


def is_running(instance: Instance) -> bool:
    return instance.phase is Phase.RUNNING


def is_gone(instance: Instance) -> bool:
    return instance.phase is Phase.GONE


def gone(provider: Provider, cloud: Cloud, token: str) -> bool:
    instance = find(provider, cloud, token)
    return instance is None or is_gone(instance)


class ProviderConformance:
    """The suite."""

    @pytest.fixture
    def provider(self, cloud: Cloud) -> Iterator[Provider]:
        provider = cloud.provider()
        yield provider
        provider.close()
        cloud.outage("")
        later = cloud.provider()  # the test may have closed its own
        for instance in later.instances(cloud.pool):
            later.terminate(instance.id)
        no_machine(cloud)  # the leak test: what the tags do not tell would be left

    @staticmethod
    def need(cloud: Cloud, *abilities: Ability) -> None:
        for ability in abilities:
            if ability in cloud.lacks:
                pytest.skip(f"{ability}: {cloud.lacks[ability]}")

    @pytest.fixture
    def market(self, cloud: Cloud) -> Market:
        return "on_demand" if "spot" in cloud.lacks else "spot"

    def test_zones_have_distinct_names_that_may_stand_in_keys(self, cloud: Cloud, provider: Provider) -> None:
        names = [zone.name for zone in provider.zones()]
        assert set(cloud.zones) <= set(names)
        assert len(names) == len(set(names))
        assert all(name and "/" not in name and "*" not in name and " " not in name for name in names)

    def test_prices_are_told_for_zones_and_are_above_zero(self, cloud: Cloud, provider: Provider) -> None:
        prices = provider.prices()
        zones = {zone.name for zone in provider.zones()}
        assert set(prices) <= zones
        assert set(cloud.zones) <= set(prices)
        assert all(price.spot > 0 and price.on_demand > 0 for price in prices.values())

    def test_a_new_price_is_told(self, cloud: Cloud, provider: Provider) -> None:
        self.need(cloud, "price", "spot")
        cloud.price(cloud.zones[1], 0.123)
        wait_until("the price", lambda: provider.prices()[cloud.zones[1]].spot == pytest.approx(0.123), cloud.limit_s)

    def test_a_machine_carries_what_was_ordered(self, cloud: Cloud, provider: Provider, market: Market) -> None:
        wanted = order(cloud, 7, cloud.zones[1], market)
        first = provider.launch(wanted)
        assert first.phase in {Phase.PENDING, Phase.RUNNING}
        seen = wait_for(provider, cloud, wanted.token, is_running)
        told = (seen.pool, seen.replica, seen.version, seen.token, seen.zone, seen.market)
        assert told == (cloud.pool, 7, 1, wanted.token, cloud.zones[1], market)
        assert seen.id == first.id
        assert seen.endpoint.startswith("http://")
        assert seen.ending is Ending.NONE
        one_machine(cloud)

    def test_its_price_and_launch_time_are_told(self, cloud: Cloud, provider: Provider, market: Market) -> None:
        wanted = order(cloud, market=market)
        provider.launch(wanted)
        seen = wait_for(provider, cloud, wanted.token, is_running)
        assert seen.price_per_hour == pytest.approx(provider.prices()[seen.zone].of(market), rel=0.5)

    def test_the_same_token_is_the_same_machine(self, cloud: Cloud, provider: Provider) -> None:
        wanted = order(cloud)
        machines = {provider.launch(wanted).id for _ in range(3)} | {cloud.provider().launch(wanted).id}
        assert len(machines) == 1
        one_machine(cloud)

    def test_the_same_token_at_once_is_one_machine_in_the_end(self, cloud: Cloud, provider: Provider) -> None:
        """A controller that is killed while it asks, and its successor: both calls may be under way."""
        wanted, ids = order(cloud), []
        clients = [cloud.provider() for _ in range(3)]
        threads = [threading.Thread(target=lambda c=client: ids.append(c.launch(wanted).id)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(cloud.limit_s)
        assert len(ids) == 3
        assert len(set(ids)) == 1
        one_machine(cloud)

    def test_two_tokens_are_two_machines(self, cloud: Cloud, provider: Provider) -> None:
        first, second = provider.launch(order(cloud, 1)), provider.launch(order(cloud, 2, cloud.zones[1]))
        assert first.id != second.id
        assert {instance.replica for instance in provider.instances(cloud.pool)} == {1, 2}

    def test_another_client_sees_the_machines(self, cloud: Cloud, provider: Provider) -> None:
        wanted = order(cloud)
        provider.launch(wanted)
        provider.close()
        later = cloud.provider()
        assert [instance.token for instance in later.instances(cloud.pool)] == [wanted.token]

    def test_machines_of_another_pool_are_not_told(self, cloud: Cloud, provider: Provider) -> None:
        wanted = order(cloud)
        machine = provider.launch(dataclasses.replace(wanted, pool=f"{cloud.pool}x"))
        assert provider.instances(cloud.pool) == []
        assert [instance.id for instance in provider.instances(f"{cloud.pool}x")] == [machine.id]
        provider.terminate(machine.id)

    def test_terminate_twice_and_of_the_unknown_is_no_error(self, cloud: Cloud, provider: Provider) -> None:
        wanted = order(cloud)
        machine = provider.launch(wanted)
        provider.terminate(machine.id)
        provider.terminate(machine.id)
        wait_until("gone", lambda: gone(provider, cloud, wanted.token), cloud.limit_s)
        provider.terminate(machine.id)
        seen = find(provider, cloud, wanted.token)
        assert seen is None or seen.ending in {Ending.RETURNED, Ending.NONE}
        no_machine(cloud)

    def test_a_token_that_was_used_up_makes_no_second_machine(self, cloud: Cloud, provider: Provider) -> None:
        """A machine that we gave back does not rise again because its launch is asked for a second time."""
        wanted = order(cloud)
        provider.terminate(provider.launch(wanted).id)
        wait_until("gone", lambda: gone(provider, cloud, wanted.token), cloud.limit_s)
        with contextlib.suppress(LaunchRefused):
            provider.launch(wanted)
        no_machine(cloud)

    def test_an_unknown_zone_is_refused_and_named(self, cloud: Cloud, provider: Provider) -> None:
        with pytest.raises((Misconfigured, LaunchRefused), match="nowhere-9z"):
            provider.launch(dataclasses.replace(order(cloud), zone="nowhere-9z"))
        assert cloud.machines() == 0

    @pytest.mark.parametrize("fault", ["capacity", "quota", "rejected"])
    def test_a_refusal_says_why_and_leaves_no_machine(
        self, cloud: Cloud, provider: Provider, market: Market, fault: Literal["capacity", "quota", "rejected"]
    ) -> None:
        self.need(cloud, fault)
        cloud.fail_launch(fault, cloud.zones[0])
        wanted = order(cloud, market=market)
        with pytest.raises(LaunchRefused) as refusal:
            provider.launch(wanted)
        assert refusal.value.fault == fault
        assert cloud.machines() == 0
        assert provider.launch(order(cloud, 2, cloud.zones[1], market)).id

    def test_a_lost_answer_is_found_by_its_token(self, cloud: Cloud, provider: Provider) -> None:
        """Either the provider looks for itself, or it says that it cannot tell; asking again makes no second one."""
        self.need(cloud, "lost")
        cloud.fail_launch("lost", cloud.zones[0])
        wanted = order(cloud)
        with contextlib.suppress(CannotTell):
            provider.launch(wanted)
        wait_for(provider, cloud, wanted.token, lambda instance: not is_gone(instance))
        assert provider.launch(wanted).token == wanted.token
        one_machine(cloud)

    @pytest.mark.parametrize("kind", ["error", "hang"])
    def test_a_provider_that_fails_or_hangs_says_so_in_time(
        self, cloud: Cloud, provider: Provider, kind: Literal["error", "hang"]
    ) -> None:
        self.need(cloud, "outage")
        if kind == "hang":
            self.need(cloud, "hang")
        wanted = order(cloud)
        machine = provider.launch(wanted)
        cloud.outage(kind)
        calls: list[Callable[[], object]] = [
            lambda: provider.instances(cloud.pool),
            lambda: provider.terminate(machine.id),
        ]
        for call in calls:
            began = time.monotonic()
            with pytest.raises(Unavailable):
                call()
            assert time.monotonic() - began < cloud.hang_limit_s
        with pytest.raises(CannotTell):
            provider.launch(order(cloud, 2))
        cloud.outage("")
        # A client that gave something up as hung begins it anew.
        wait_until("it answers again", lambda: answers(provider, cloud), cloud.limit_s)
        seen = wait_for(provider, cloud, wanted.token, lambda _: True)
        assert not is_gone(seen) or seen.ending is Ending.RETURNED  # a terminate that hung may have been heard

    def test_a_preempted_machine_says_so(self, cloud: Cloud, provider: Provider) -> None:
        self.need(cloud, "preempt", "spot")
        wanted, other = order(cloud, 1, market="spot"), order(cloud, 2, cloud.zones[1], "spot")
        provider.launch(wanted)
        provider.launch(other)
        machine = wait_for(provider, cloud, wanted.token, is_running)
        wait_for(provider, cloud, other.token, is_running)
        cloud.preempt(machine.id)
        seen = wait_for(provider, cloud, wanted.token, is_gone)
        assert seen.ending is Ending.PREEMPTED
        assert find(provider, cloud, other.token).phase is Phase.RUNNING  # type: ignore[union-attr]

    def test_a_machine_that_ended_by_itself_says_so(self, cloud: Cloud, provider: Provider) -> None:
        self.need(cloud, "crash")
        wanted = order(cloud)
        provider.launch(wanted)
        cloud.crash(wait_for(provider, cloud, wanted.token, is_running).id)
        assert wait_for(provider, cloud, wanted.token, is_gone).ending is Ending.FAILED

    def test_a_notice_of_the_api_is_told(self, cloud: Cloud, provider: Provider) -> None:
        self.need(cloud, "notice", "spot")
        wanted = order(cloud, market="spot")
        provider.launch(wanted)
        cloud.notice(wait_for(provider, cloud, wanted.token, is_running).id)
        seen = wait_for(provider, cloud, wanted.token, lambda instance: instance.notice is not None)
        assert seen.notice == "interruption"
        assert seen.goes_unix_s is None or seen.goes_unix_s - time.time() == pytest.approx(120.0, abs=30.0)

    def test_logs_are_bounded(self, cloud: Cloud, provider: Provider) -> None:
        self.need(cloud, "logs")
        wanted = order(cloud)
        provider.launch(wanted)
        machine = wait_for(provider, cloud, wanted.token, is_running)
        assert len(list(provider.logs(machine.id, 3))) <= 3

    def test_many_threads_may_ask_at_once(self, cloud: Cloud, provider: Provider) -> None:
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                wanted = order(cloud, number, cloud.zones[number % 2])
                machine = provider.launch(wanted)
                provider.instances(cloud.pool)
                provider.terminate(machine.id)
            except BaseException as error:  # noqa: BLE001  # told by the test
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(cloud.limit_s)
        assert errors == []
        no_machine(cloud)
