"""`skyfog demo`: start the fleet, play, inject the faults, report."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from skyfog_bringup.demo import summary
from skyfog_bringup.demo.fleet import Fleet, FleetError
from skyfog_bringup.demo.ledger import Ledger, Request
from skyfog_bringup.demo.machine import commit, machine, versions
from skyfog_bringup.demo.schedule import Fault, faults, victim
from skyfog_bringup.demo.summary import Injected, zone_of
from skyfog_bringup.demo.view import LiveView, PlainView, Progress, View, Zone, event_lines, table
from skyfog_bringup.images import Images, open_images
from skyfog_core.config.demo import CameraConfig, DemoConfig, ZoneConfig
from skyfog_core.errors import ConfigError
from skyfog_core.trace import Follower
from skyfog_core.units import S, ns_to_ms

EASY_PER_CORE = 15  # detections a second, each some 30 ms of a core
READY_LIMIT_S = 30.0
READY_ANSWERS = 3  # in a row, after the last replica joined: models are loaded, connections made
LOOK_EVERY_S = 0.1
RECENT_NS = 5 * S
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # it is no error
    """A signal asks the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Demo:
    """One run, from a ready fleet to its last answer."""

    def __init__(self, config: DemoConfig, fleet: Fleet, view: View) -> None:
        self._config = config
        self._fleet = fleet
        self._view = view
        self._zones: Sequence[ZoneConfig] = config.zones[: config.replicas]
        self.replicas = [f"{zone.zone}/{index}" for index, zone in enumerate(self._zones)]
        self.planned = faults(config.seconds, config.replicas)
        self.injected: list[Injected] = []
        self.ledger = Ledger()
        self._record, self._trace = Follower(fleet.record), Follower(fleet.trace)
        self.start_ns = self.end_ns = 0
        self.states = {zone.zone: "healthy" for zone in self._zones}

    def wait_ready(self) -> None:
        """Return when every replica has joined and requests are answered. Raises FleetError after READY_LIMIT_S."""
        limit = time.monotonic() + READY_LIMIT_S
        while not self._ready():
            self._look()
            self._view.waiting(f"{len(self.ledger.live())} of {len(self.replicas)} replicas have joined")
            if time.monotonic() > limit:
                raise FleetError(f"not ready after {READY_LIMIT_S:g} s: {self._not_ready()}")
        self._view.note(f"{len(self.replicas)} replicas joined, /detect answers. The clock starts.")

    def play(self) -> None:
        """Count requests for the configured time, with the faults in it, and wait for the last answer."""
        self.start_ns = time.monotonic_ns()
        self.end_ns = self.start_ns + round(self._config.seconds * S)
        to_come = list(self.planned)
        while (now_ns := time.monotonic_ns()) < self.end_ns:
            if to_come and now_ns >= self.start_ns + round(to_come[0].at_s * S):
                self._inject(to_come.pop(0))
            self._look()
            self._view.update(self._progress(now_ns))
        limit_s = CameraConfig().limit_ms / 1000 + 1.0
        limit = time.monotonic() + limit_s
        while not self.ledger.complete_until(self.end_ns):
            self._look()
            if time.monotonic() > limit:
                raise FleetError(f"the camera says nothing of its last requests for {limit_s:g} s")

    def requests(self) -> list[Request]:
        """The counted ones."""
        return self.ledger.between(self.start_ns, self.end_ns)

    def _look(self) -> None:
        time.sleep(LOOK_EVERY_S)
        self._fleet.check()
        self.ledger.add(list(self._record.lines()), list(self._trace.lines()))

    def _ready(self) -> bool:
        if self.ledger.live() != set(self.replicas):
            return False
        joined_ns = max(change.t_ns for change in self.ledger.members)
        after = [request for request in self.ledger.requests if request.sent_ns > joined_ns][-READY_ANSWERS:]
        return len(after) == READY_ANSWERS and all(request.ok for request in after)

    def _not_ready(self) -> str:
        for index, replica in enumerate(self.replicas):
            if replica not in self.ledger.live():
                name = self._fleet.name_of(index)
                return f"{zone_of(replica)} has not joined; {name} printed last:\n{self._fleet.tail(name)}"
        failed = [request.why for request in self.ledger.requests if not request.ok][-1:]
        why = failed[0] if failed else "no request was answered"
        return f"{why}; robot_proxy printed last:\n{self._fleet.tail('robot_proxy')}"

    def _inject(self, fault: Fault) -> None:
        hit = {done.replica for done in self.injected}
        healthy = [replica for replica in self.replicas if replica not in hit]
        wins = [(request.done_ns / S, request.replica) for request in self.ledger.requests]
        replica = victim(wins, time.monotonic_ns() / S, healthy)
        t_ns = self._fleet.inject(fault.kind, self.replicas.index(replica))
        self.injected.append(Injected(fault.kind, replica, t_ns))
        at_s = (t_ns - self.start_ns) / S
        zone = zone_of(replica)
        self.states[zone] = f"{fault.kind.done} at {at_s:.1f} s"
        self._view.note(f"{at_s:5.1f} s  {fault.kind} to the replica in {zone}, which wins at this time")

    def _progress(self, now_ns: int) -> Progress:
        counted = self.requests()
        late = [request for request in counted if request.done_ns > now_ns - RECENT_NS]
        return Progress(
            elapsed_s=(now_ns - self.start_ns) / S,
            seconds=self._config.seconds,
            phase=f"{zone_of(self.injected[-1].replica)} {self.injected[-1].kind.done}"
            if self.injected
            else "all healthy",
            answered=sum(request.ok for request in counted),
            failed=sum(not request.ok for request in counted),
            latency=summary.latency_of(late),
            zones=[
                self._zone(zone, replica, counted) for zone, replica in zip(self._zones, self.replicas, strict=True)
            ],
        )

    def _zone(self, zone: ZoneConfig, replica: str, counted: Sequence[Request]) -> Zone:
        return Zone(
            name=zone.zone,
            added_latency_ms=zone.added_latency_ms,
            state=self.states[zone.zone],
            won=sum(request.replica == replica for request in counted),
            won_recently=sum(request.replica == replica for request in counted[-READY_ANSWERS:]),
        )


def run(config: DemoConfig, console: Console) -> int:
    """The whole of it. Returns 1 if a request failed. Raises ConfigError, FleetError, Interrupted."""
    try:
        images = open_images(config.image, config.seed)
    except ConfigError as error:
        raise ConfigError(f"--image {error}") from None
    out = prepare(Path(config.out))
    with _signals(), Fleet(config, out / "log") as fleet:
        demo = _played(config, fleet, console)
        console.print("Ending the fleet.", highlight=False)
    return report(demo, config, images, out, fleet.domain, console)


def _played(config: DemoConfig, fleet: Fleet, console: Console) -> Demo:
    what = f"Starting {config.replicas} replica{'s' if config.replicas > 1 else ''}, a robot and its camera"
    console.print(f"{what} (ROS_DOMAIN_ID={fleet.domain}, logs in {config.out}/log).", highlight=False, soft_wrap=True)
    if config.replicas * config.rate > EASY_PER_CORE * (os.cpu_count() or 1):
        console.print(
            f"{config.replicas} replicas that each run {config.rate:g} requests/s may be more than the "
            f"{os.cpu_count()} cores of this machine can do; then requests fail.",
            style="yellow",
            soft_wrap=True,
        )
    fleet.start()
    view: View = LiveView(console) if console.is_terminal else PlainView(console)
    try:
        demo = Demo(config, fleet, view)
        demo.wait_ready()
        if len(demo.planned) < 2:
            view.note(
                f"Faults with {config.replicas} of them: {len(demo.planned)} instead of 2, since one must stay healthy."
            )
        demo.play()
    finally:
        view.close()
    return demo


def prepare(out: Path) -> Path:
    """Make the folder for results and remove those of an earlier run. Raises ConfigError where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(out / "log", ignore_errors=True)
        (out / "log").mkdir()
        for old in (out / "result.json", out / "latency.png", *out.glob("annotated_*.jpg")):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror or error}; give a folder that can be written") from None
    return out


def report(demo: Demo, config: DemoConfig, images: Images, out: Path, domain: int, console: Console) -> int:
    """Print the table, write result.json and the pictures. Returns the exit status."""
    from skyfog_bringup.demo import figures  # noqa: PLC0415  # matplotlib takes a second to import

    requests = demo.requests()
    found = summary.phases(requests, demo.injected, demo.start_ns, demo.end_ns)
    happened = summary.events(requests, demo.injected, demo.ledger.members, demo.start_ns)
    zones = config.zones[: config.replicas]
    goals = summary.goals(found, len(demo.planned), len(demo.injected))
    result = {
        "name": "demo",
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "seed": config.seed,
        "options": config.model_dump(exclude={"zones"}),
        "ros_domain_id": domain,
        "zones": [zone.model_dump() for zone in zones],
        "rows": summary.rows(found),
        "goals": goals,
        "faults": [
            {"kind": str(f.kind), "zone": zone_of(f.replica), "at_s": round((f.t_ns - demo.start_ns) / S, 3)}
            for f in demo.injected
        ],
        "events": [{"at_s": round(event.at_s, 3), "what": event.text} for event in happened],
        "requests": [_plain(request, demo.start_ns) for request in requests],
    }
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    added = {zone.zone: zone.added_latency_ms for zone in zones}
    figures.plot_latency(requests, demo.injected, added, demo.start_ns, demo.end_ns, out / "latency.png")
    pictures = figures.write_photographs(figures.chosen(requests), images, demo.start_ns, out)
    whole = found[-1]
    console.print()
    console.print(table("Latency as the camera saw it, ms", found, list(added)))
    for line in event_lines(happened):
        console.print(line, highlight=False, soft_wrap=True)
    style = "bold red" if whole.failed else "bold green"
    console.print(f"\n{whole.requests} requests, {whole.failed} failed.", style=style, highlight=False)
    made = f"{out}/result.json, latency.png, {len(pictures)} annotated photographs, log/"
    console.print(f"Written: {made}", highlight=False, soft_wrap=True)
    return 0 if all(goal["met"] for goal in goals) else 1


def _plain(request: Request, start_ns: int) -> dict[str, Any]:
    return {
        "at_s": round((request.sent_ns - start_ns) / S, 3),
        "image": request.image,
        "ms": round(ns_to_ms(request.done_ns - request.sent_ns), 3),
        "ok": request.ok,
        "why": request.why,
        "zone": zone_of(request.replica) or None,
        "detections": len(request.detections),
    }


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP raise inside the block, once: while the fleet is ended, more of them do nothing."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for known in (signal.SIGINT, *ENDING_SIGNALS):
            signal.signal(known, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, *ENDING_SIGNALS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
