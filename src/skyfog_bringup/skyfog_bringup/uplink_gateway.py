"""The cloud's end of a car's uplink as a process: `skyfog uplink gateway`. Needs no ROS.

    cars' network --ZenohGatewayLink--> owner thread with policy Gateway --Ask--> RouterDriver --> replicas' network

It has a session of its own on each network, so that nothing but frames and answers passes from one to the other. The
request that a car sends is passed on as it is, with the hash of its type, which the replicas compare with theirs.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import structlog
import typer
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from skyfog_core.clock import Clock, SteadyClock
from skyfog_core.config.base import load_yaml
from skyfog_core.config.uplink import GatewayConfig
from skyfog_core.errors import ConfigError, InvalidReply, Overloaded, RequestError, Status
from skyfog_core.logs import configure_logs
from skyfog_core.owner import SNAPSHOT_LIMIT_S, Owner
from skyfog_core.trace import FileTrace, NoTrace
from skyfog_core.units import MS, US
from skyfog_core.wire.envelope import TYPE_HASH_BYTES
from skyfog_core.wire.keys import ServiceKeys
from skyfog_core.wire.uplink import Chunk, Ping, Upward, Withdraw
from skyfog_router.acl import Member
from skyfog_router.load import LoadReports, of_robot
from skyfog_router.metrics import RouterMetrics
from skyfog_router.metrics_server import MetricsServer
from skyfog_router.policy.actions import Deliver
from skyfog_router.policy.router import Router
from skyfog_router.robot import Endpoint, RouterDriver
from skyfog_router.transport.zenoh import ZenohRouterTransport, open_session
from skyfog_router.transport.zenoh_link import open_gateway_link
from skyfog_uplink.policy.gateway import Ask, Cancel, Gateway, GatewayAction, SendAck, SendAnswer
from skyfog_uplink.transport.base import GatewayTransport

log = structlog.get_logger()

INBOX = 2_000  # messages of cars that wait for the owner; more are dropped, as by a link that is full
LINGER_NS = 300 * MS  # after the token has gone: what cars had sent by then is still taken
FINISH_LIMIT_S = 3.0
ENDS = {signal.SIGTERM, signal.SIGINT}
CDR_BYTES = 4  # of the header before every CDR message
EXIT_OPTIONS = 2
MAX_MESSAGE = 500  # characters of a failure's reason


class GatewayDriver:
    """Owns the policy, and performs its actions on a link to the cars and the robot's driver."""

    def __init__(self, config: GatewayConfig, link: GatewayTransport, router: RouterDriver, clock: Clock) -> None:
        self._link, self._router = link, router
        self._gateway = Gateway(config)
        self._owner = Owner("gateway", clock, self._on_timer, INBOX)
        self._dropped = 0  # messages that did not fit into the inbox
        self._until_ns: int | None = None  # finishing: when the last message of a car may come
        self._idle = threading.Event()  # finishing, and nothing is open

    def start(self) -> None:
        """Take frames, and say so."""
        self._owner.start()
        self._link.start(self)
        self._link.announce(live=True)

    def finish(self, limit_s: float = FINISH_LIMIT_S) -> None:
        """Say that nothing more is taken, answer what is open, as far as `limit_s` permits, and leave both networks."""
        self._link.announce(live=False)
        self._owner.post(self._on_finish)
        if not self._idle.wait(limit_s):
            log.warning("frames_left_open", limit_s=limit_s)
        self._owner.close(lambda _now_ns: self._gateway.check())
        self._link.close()

    def counts(self) -> tuple[Counter[str], int]:
        """What happened to messages and frames so far, by name, and the frames open now. Raises Overloaded."""
        return self._owner.ask(lambda _now_ns: (self._counts(), self._gateway.open_frames()), SNAPSHOT_LIMIT_S)

    # GatewayEvents, from the link's threads

    def received(self, car: str, message: Upward, payload: bytes) -> None:
        try:
            self._owner.submit(lambda now_ns: self._on_message(car, message, payload, now_ns))
        except Overloaded:
            self._dropped += 1

    # in the owner's thread

    def _counts(self) -> Counter[str]:
        return self._gateway.counts + Counter({"dropped": self._dropped})

    def _on_message(self, car: str, message: Upward, payload: bytes, now_ns: int) -> None:
        match message:
            case Chunk():
                self._perform(self._gateway.on_chunk(car, message, payload, now_ns))
            case Ping():
                self._perform(self._gateway.on_ping(car, message, now_ns))
            case Withdraw():
                self._perform(self._gateway.on_withdraw(car, message, now_ns))

    def _on_timer(self, now_ns: int) -> int | None:
        self._perform(self._gateway.on_timer(now_ns))
        if self._until_ns is not None and now_ns >= self._until_ns and not self._gateway.open_frames():
            self._idle.set()
        due = [at for at in (self._gateway.next_timer_ns(), self._until_ns) if at is not None and at > now_ns]
        return min(due, default=None)

    def _on_finish(self, now_ns: int) -> None:
        self._until_ns = now_ns + LINGER_NS

    def _perform(self, actions: list[GatewayAction]) -> None:
        for action in actions:
            match action:
                case SendAck():
                    self._link.send(action.car, action.ack)
                case SendAnswer():
                    self._link.send(action.car, action.answer, action.payload)
                case Ask():
                    self._ask(action)
                case Cancel():
                    pass  # the call ends by its budget, which is short

    def _ask(self, ask: Ask) -> None:
        caller = _Asked(ask, self._owner, self._gateway, self._perform)
        payload = ask.parts[0] if len(ask.parts) == 1 else b"".join(ask.parts)
        try:
            self._router.call(ask.service, payload, caller, budget_ms=ask.budget_ms, type_hash=ask.type_hash)
        except Overloaded as error:
            caller.fail(error)


class _Asked:
    """The robot.Caller of one frame: brings what it hears to the owner's thread."""

    def __init__(
        self, ask: Ask, owner: Owner, gateway: Gateway, perform: Callable[[list[GatewayAction]], None]
    ) -> None:
        self._who, self._owner, self._gateway, self._perform = (ask.car, ask.frame), owner, gateway, perform

    def deliver(self, answer: Deliver) -> None:
        replica, service_us = str(answer.replica), answer.service_ns // US

        def reply(now_ns: int) -> None:
            payload = answer.response
            self._perform(self._gateway.on_reply(*self._who, Status.OK, now_ns, payload, service_us, replica))

        self._owner.post(reply)

    def fail(self, error: RequestError) -> None:
        why = f"{type(error).__name__}: {error}"[:MAX_MESSAGE]
        self._owner.post(
            lambda now_ns: self._perform(self._gateway.on_reply(*self._who, error.status, now_ns, message=why))
        )


def passed_on(response: bytes) -> bytes:
    """A response that only the car will read: is it CDR at all? Raises InvalidReply."""
    if len(response) < CDR_BYTES or response[0] != 0:
        raise InvalidReply("no CDR")
    return response


class _Collector:
    """What the gateway did, at the time of a scrape."""

    def __init__(self, driver: GatewayDriver, strange: Counter[str]) -> None:
        """`strange`: what came and was no message, by why."""
        self._driver, self._strange = driver, strange

    def describe(self) -> Iterator[Metric]:
        """Nothing: else the registry would ask the driver when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        try:
            counts, open_frames = self._driver.counts()
        except Overloaded:
            return
        events = CounterMetricFamily("skyfog_gateway_events", "Messages and frames of cars.", labels=["event"])
        for name, count in {**counts, "strange": self._strange.total()}.items():
            events.add_metric([name], count)
        yield events
        yield GaugeMetricFamily("skyfog_gateway_open_frames", "In assembly or asked.", value=open_frames)


def serve(config: GatewayConfig, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT. To be called from the main thread. Raises ConfigError where it cannot begin."""
    # Blocked before zenoh starts its threads: one of them would take the signal, and the main thread sleep on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    try:
        with contextlib.ExitStack() as stack:
            driver = _start(config, stack)
            on_ready()
            signal.sigwait(ENDS)
            driver.finish()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(config: GatewayConfig, stack: contextlib.ExitStack) -> GatewayDriver:
    """All of it, to be closed by `stack` but for the driver itself. Raises ConfigError."""
    if not (config.cars.listen or config.cars.connect):
        raise ConfigError("cars: neither listens nor connects, so that no car could ever come")
    endpoints = [
        Endpoint(name, ServiceKeys(config.fleet, name), bytes(TYPE_HASH_BYTES), passed_on, Router(routing, config.zone))
        for name, routing in config.services.items()
    ]
    metrics = RouterMetrics(config.services)
    trace = metrics.noting(FileTrace(Path(config.trace)) if config.trace else NoTrace())
    fleet = open_session(config.zenoh, Member("robot", config.fleet, tuple(config.services)))
    router = RouterDriver(ZenohRouterTransport(fleet), SteadyClock(), trace, config.max_open, config.name)
    stack.callback(router.close)
    router.start(endpoints)
    stack.callback(LoadReports(of_robot(router), config.load_report_ms).close)
    link = open_gateway_link(config.cars, config.fleet, config.name)
    driver = GatewayDriver(config, link, router, SteadyClock())
    if config.metrics_listen:
        metrics.watch(router.snapshots)
        metrics.registry.register(_Collector(driver, link.strange))
        stack.callback(MetricsServer(metrics.registry, config.metrics_listen).close)
    driver.start()
    return driver


def run(file: Path) -> None:
    """`skyfog uplink gateway`: one line on stdout when it serves. Raises typer.Exit where `file` is wrong."""
    configure_logs("gateway")
    try:
        config = load_yaml(GatewayConfig, file)
        where = ", ".join([*config.cars.listen, *config.cars.connect])
        serve(config, lambda: print(f"ready: {config.name} at {where}", flush=True))  # noqa: T201
    except ConfigError as error:
        print(f"skyfog uplink gateway: {error}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(EXIT_OPTIONS) from None


def main(config: Annotated[Path, typer.Option("--config", metavar="FILE", help="YAML")]) -> None:
    """`python -m skyfog_bringup.uplink_gateway --config FILE`, for images without the command."""
    run(config)


if __name__ == "__main__":
    typer.run(main)
