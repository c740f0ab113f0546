"""A car on its uplink, in simulated time: production's policies joined by a link that follows a trace.

    captures -> encode -> sender (Shaper, LinkEstimator) ==bottleneck==> Gateway -> replica (a draw) -+
       |          ^ plan   | link state each LOOK_NS, as the shaper's node tells it                   |
       |          +--- allocation (Allocator) <-+            <== acknowledgements, answers, RTT/2 ====+
       +-> the car's own model (a draw) -> Merger <- answers

What a contender is, is its allocation and its sender; all else is the same for all. The gateway has a clock of its own,
and the car's may jump (a fault). The world makes no choice: it performs actions and tells a Tally what happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from skyfog_core.config.router import RoutingConfig
from skyfog_core.config.uplink import GatewayConfig
from skyfog_core.errors import Status
from skyfog_core.units import MS, S
from skyfog_core.wire.envelope import TYPE_HASH_BYTES
from skyfog_core.wire.uplink import Ack, Answer, Chunk, Ping, Withdraw
from skyfog_sim.kernel import Alarm, Kernel
from skyfog_sim.uplink_drive import Drive
from skyfog_sim.uplink_link import Bottleneck, Downlink
from skyfog_sim.uplink_result import Tally, UplinkResult
from skyfog_uplink.policy.frames import Action, Ended, Frame, Outcome, SendChunk, Sender, SendPing, SendWithdraw
from skyfog_uplink.policy.gateway import Ask, Cancel, Gateway, GatewayAction, SendAck, SendAnswer
from skyfog_uplink.policy.merge import MergeAction, Merger, Publish
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.plan import Allocation, Plan
from skyfog_uplink.policy.turbo_sender import SendJunk

LOOK_NS = 50 * MS  # the link's state is told so often
HEADER_BYTES = 60  # of a message: our header, zenoh's frame, a share of TCP's and IP's
MAX_CALLS = 1_000_000_000
OFFSET_NS = 7_000 * S  # the gateway's clock is ahead by this
DRIFT = 50_000  # and runs fast by one part in so many
TYPE_HASH = bytes(TYPE_HASH_BYTES)
CAR = "car"


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to use the uplink."""

    name: str
    allocation: Callable[[Table], Allocation]
    sender: Callable[[Table], Sender]


class UplinkWorld:
    """Plays one drive with one contender."""

    def __init__(self, drive: Drive, contender: Contender, tally: Callable[[Drive, str], Tally] = Tally) -> None:
        self.drive = drive
        self.kernel = Kernel()
        self.up, self.down = Bottleneck(drive.course, drive.rtt), Downlink(drive.rtt)
        self.allocation, self.sender = contender.allocation(drive.table), contender.sender(drive.table)
        services = drive.table.services
        self.gateway = make_gateway(drive.table)
        self.mergers = [Merger("each", service.floor.accuracy) for service in services]
        self.tally = tally(drive, contender.name)
        self.plan: Plan | None = None
        self.session = 0  # grows with each connection: what an old one carried is nothing
        self.skew_ns = 0  # of the car's clock
        self._frames: dict[int, tuple[int, int, int]] = {}  # by id, not ended: service, row, option
        self._next_id = 0
        self._captures = [frames.captured_ns.tolist() for frames in drive.frames]
        self._floors = [frames.floor_ns.tolist() for frames in drive.frames]
        self._clouds = [service.cloud for service in services]
        self._slos = [round(service.slo_ms * MS) for service in services]
        self._payloads: dict[int, bytes] = {}
        self._sender_alarm = Alarm(self.kernel, self._car_timer(self.sender.next_timer_ns), self._on_sender_timer)
        self._plan_alarm = Alarm(self.kernel, self._car_timer(self.allocation.next_timer_ns), self._on_plan_timer)
        self._gateway_alarm = Alarm(self.kernel, self._next_gateway_ns, self._on_gateway_timer)

    @property
    def now_ns(self) -> int:
        """The car's clock."""
        return self.kernel.now_ns + self.skew_ns

    def _car_timer(self, next_ns: Callable[[], int | None]) -> Callable[[], int | None]:
        def due() -> int | None:
            at_ns = next_ns()
            return None if at_ns is None else at_ns - self.skew_ns

        return due

    # the car

    def run(self) -> UplinkResult:
        """To the end of the drive."""
        self.start()
        self.kernel.run(self.drive.length_ns, MAX_CALLS)
        return self.finish()

    def start(self) -> None:
        """Schedule what happens by itself."""
        self.connect()
        for scene in self.drive.scenes:
            self.kernel.at(scene.at_ns, partial(self.scene, scene.name, scene.speed_mps))
        self._look()
        for at, captures in enumerate(self._captures):
            if captures:
                self.kernel.at(captures[0], partial(self._capture, at, 0))

    def finish(self) -> UplinkResult:
        """Check the books."""
        self.sender.check()
        self.allocation.check()
        self.gateway.check()
        for service, merger in enumerate(self.mergers):
            self.merged(service, merger.on_timer(self.now_ns))
            merger.check()
        return self.tally.result(self.up.carried_bytes)

    def connect(self) -> None:
        self.session += 1
        self.perform(self.sender.on_connected(self.now_ns))

    def disconnect(self) -> None:
        """The session breaks: what is on the way is lost."""
        self.session += 1
        self.up.forget(self.kernel.now_ns)
        self.perform(self.sender.on_disconnected(self.now_ns))

    def restart_gateway(self) -> None:
        """Its frames are forgotten; the session is another one."""
        self.gateway = make_gateway(self.drive.table)
        self.disconnect()
        self.connect()

    def woken(self) -> None:
        """The car's clock has jumped: timers are looked at again."""
        self._on_sender_timer()
        self._on_plan_timer()

    def scene(self, name: str, speed_mps: float) -> None:
        self._planned(self.allocation.on_scene(name, speed_mps, self.now_ns))

    def _look(self) -> None:
        now_ns = self.now_ns
        self.perform(self.sender.on_timer(now_ns))
        link = self.sender.link(now_ns)
        self.tally.link(link)
        self._planned(self.allocation.on_link(link, now_ns))
        self.kernel.after(LOOK_NS, self._look)

    def _planned(self, plan: Plan | None) -> None:
        if plan is not None:
            self.plan = plan
            self.tally.plan(plan, self.now_ns)
            self.perform(self.sender.on_plan(plan, self.now_ns))
        self._plan_alarm.reset()

    def _on_plan_timer(self) -> None:
        self._planned(self.allocation.on_timer(self.now_ns))

    def _on_sender_timer(self) -> None:
        self.perform(self.sender.on_timer(self.now_ns))

    def _capture(self, service: int, row: int) -> None:
        captures = self._captures[service]
        if row + 1 < len(captures):
            self.kernel.at(captures[row + 1], partial(self._capture, service, row + 1))
        grant = None if self.plan is None else self.plan.grants[service]
        options = () if grant is None else ((grant.option, False), (grant.probe, True))
        offloads = [(option, probe) for option, probe in options if option != FLOOR]
        deadline_ns = self.now_ns + self._slos[service]
        self.tally.captured(service, row, self.now_ns)
        self.merged(service, self.mergers[service].on_capture(row, deadline_ns, len(offloads), self.now_ns))
        self.kernel.after(self._floors[service][row], partial(self._on_car, service, row))
        for option, probe in offloads:
            frame = self._frame(service, row, option, probe, deadline_ns)
            self.kernel.after(int(self.drive.frames[service].pre_ns[row, option]), partial(self._encoded, frame))

    def _frame(self, service: int, row: int, option: int, probe: bool, deadline_ns: int) -> Frame:
        frame_id, self._next_id = self._next_id, self._next_id + 1
        self._frames[frame_id] = (service, row, option)
        name, size = self.drive.table.services[service].name, int(self.drive.frames[service].sizes[row, option])
        return Frame(frame_id, name, option, self.now_ns, deadline_ns, size, probe)

    def _encoded(self, frame: Frame) -> None:
        self.tally.given(frame, self.now_ns)
        self.perform(self.sender.on_frame(frame, self.now_ns))

    def _on_car(self, service: int, row: int) -> None:
        self.merged(service, self.mergers[service].on_car(row, FLOOR, self.now_ns))

    def merged(self, service: int, actions: list[MergeAction]) -> None:
        """Publish what a merger wants to."""
        for action in actions:
            if isinstance(action, Publish):
                self.tally.published(service, action.capture, action.answer, action.late, self.now_ns)

    def _ended(self, action: Ended) -> None:
        found = self._frames.pop(action.frame.id, None)
        self.tally.ended(action, found, self.now_ns)
        if found is not None:
            service, row, option = found
            merger = self.mergers[service]
            if action.outcome is Outcome.ON_TIME:
                accuracy = self.drive.table.services[service].accuracy(option)
                self.merged(service, merger.on_cloud(row, option, accuracy, self.now_ns))
            else:
                self.merged(service, merger.on_cloud_gone(row, self.now_ns))

    def perform(self, actions: list[Action]) -> None:
        """Do what the sender wants."""
        for action in actions:
            if isinstance(action, SendChunk):
                self._send_chunk(action)
            elif isinstance(action, Ended):
                self._ended(action)
            elif isinstance(action, SendPing):
                size = action.size if isinstance(action, SendJunk) else 0
                self._carry(size, partial(self._ping, Ping(seq=action.seq)))
            elif isinstance(action, SendWithdraw):
                self._carry(0, partial(self._withdraw, Withdraw(frame=action.frame)))
        self._sender_alarm.reset()

    def _send_chunk(self, action: SendChunk) -> None:
        self.tally.sent(action, self.now_ns)
        chunk = Chunk(
            seq=action.seq,
            frame=action.frame,
            offset=action.offset,
            total=action.total,
            budget_ms=action.budget_ms,
            service=self._clouds[self._frames[action.frame][0]],
            type_hash=TYPE_HASH,
        )
        self._carry(action.size, partial(self._chunk, chunk, action.size))

    def _carry(self, size: int, call: Callable[[int], None]) -> None:
        came_ns = self.up.carry(size + HEADER_BYTES, self.kernel.now_ns)
        if came_ns is not None:
            self.kernel.at(came_ns, partial(call, self.session))

    # the cloud

    def _gateway_ns(self) -> int:
        """The gateway's own clock."""
        now_ns = self.kernel.now_ns
        return now_ns + now_ns // DRIFT + OFFSET_NS

    def _chunk(self, chunk: Chunk, size: int, session: int) -> None:
        if session == self.session:
            payload = self._payloads.get(size)
            if payload is None:
                payload = self._payloads[size] = bytes(size)
            self._perform_cloud(self.gateway.on_chunk(CAR, chunk, payload, self._gateway_ns()))

    def _ping(self, ping: Ping, session: int) -> None:
        if session == self.session:
            self._perform_cloud(self.gateway.on_ping(CAR, ping, self._gateway_ns()))

    def _withdraw(self, withdraw: Withdraw, session: int) -> None:
        if session == self.session:
            self._perform_cloud(self.gateway.on_withdraw(CAR, withdraw, self._gateway_ns()))

    def _perform_cloud(self, actions: list[GatewayAction]) -> None:
        for action in actions:
            if isinstance(action, SendAck):
                self.kernel.at(self.down.carry(self.kernel.now_ns), partial(self._ack, action.ack, self.session))
            elif isinstance(action, Ask):
                self._ask(action)
            elif isinstance(action, SendAnswer):
                came_ns = self.down.carry(self.kernel.now_ns)
                self.kernel.at(came_ns, partial(self._answer, action.answer, self.session))
            else:
                assert isinstance(action, Cancel)
        self._gateway_alarm.reset()

    def _ask(self, ask: Ask) -> None:
        found = self._frames.get(ask.frame)
        if found is None:
            return  # it has ended at the car meanwhile; the gateway's own limit ends it there
        service, row, option = found
        took_ns = int(self.drive.frames[service].exec_ns[row, option])
        self.kernel.after(took_ns, partial(self._reply, ask.frame, took_ns, self.gateway))

    def _reply(self, frame: int, took_ns: int, gateway: Gateway) -> None:
        if gateway is self.gateway:
            found = gateway.on_reply(CAR, frame, Status.OK, self._gateway_ns(), service_us=took_ns // 1_000)
            self._perform_cloud(found)

    def _next_gateway_ns(self) -> int | None:
        due_ns = self.gateway.next_timer_ns()
        return None if due_ns is None else (due_ns - OFFSET_NS) * DRIFT // (DRIFT + 1) + 1

    def _on_gateway_timer(self) -> None:
        self._perform_cloud(self.gateway.on_timer(self._gateway_ns()))

    # back in the car

    def _ack(self, ack: Ack, session: int) -> None:
        if session == self.session:
            self.perform(self.sender.on_ack(ack, self.now_ns))

    def _answer(self, answer: Answer, session: int) -> None:
        if session == self.session:
            self.perform(self.sender.on_answer(answer, self.now_ns))


def make_gateway(table: Table) -> Gateway:
    """One that knows the services of the table."""
    return Gateway(GatewayConfig(services={service.cloud: RoutingConfig() for service in table.services}))
