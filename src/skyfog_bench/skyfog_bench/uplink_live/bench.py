"""`skyfog bench uplink_live`: a car's uplink with all its processes on a link that follows a trace, and its simulation.

Three cameras see a drive down the street. First the link is fast, and the option table is measured; then it follows
each trace, and what the run came to is laid beside the simulation of the same images on the same trace. At last the
link is cut and a gateway killed: the model on the car has to answer each image all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skyfog_bench.processes import BenchError, Processes
from skyfog_bench.report import Report
from skyfog_bench.uplink.drives import table_file
from skyfog_bench.uplink_live import calibrate, compare, plot, record, verdict
from skyfog_bench.uplink_live.compare import Played
from skyfog_bench.uplink_live.links import ATT, VERIZON, Link
from skyfog_bench.uplink_live.record import Run
from skyfog_bench.uplink_live.stage import CAR, CLOUD, LiveCar, Look
from skyfog_bench.uplink_live.verdict import Fault
from skyfog_core.errors import ConfigError
from skyfog_core.extras import need
from skyfog_core.ports import claim_domain
from skyfog_core.units import S
from skyfog_pool.provider.netem.network import Network, why_not
from skyfog_sim.uplink_link import RttModel
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.tables import load_table

FILM = "skyfog_bench.uplink_live.film"
WIDTH, HEIGHT = 640, 480
FILM_LIMIT_S = 120.0
TAIL_S = 1.5  # for the last answers
SETTLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Size:
    """Images a second of each camera, and how long each part takes."""

    hz: float
    film_s: float
    warm_s: float  # on a fast link, to measure the table
    seconds: float  # on each link, beyond lead_s
    cut_s: float
    after_s: float  # after each fault
    links: tuple[Link, ...]
    lead_s: float = 8.0  # on a link before anything counts, for the estimator
    seeds: int = 8  # of the simulation beside each link


FULL = Size(3.0, 20.0, 25.0, 150.0, 60.0, 20.0, (VERIZON, ATT))
QUICK = Size(3.0, 3.0, 3.0, 4.0, 2.0, 2.0, (VERIZON,), lead_s=2.0, seeds=1)


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None], out: Path | None = None) -> Report:
    """Play it all. Raises BenchError where this machine cannot."""
    _must_be_possible()
    report = Report("uplink_live", seed)
    say("drawing what the three cameras of the street's car see …")
    _draw(processes, size)
    with Network([CAR, CLOUD], seed) as network:
        say("starting cameras, the model on the car, gateways and replicas …")
        car = LiveCar(processes, network, processes.folder, size.hz)
        known = _calibrated(car, size, say)
        report.rows += verdict.table_rows(known.table)
        driven = []
        for link in size.links:
            say(f"{link.name}: {size.lead_s + size.seconds:.0f} s …")
            driven.append(_drive(car, link, known, size, seed))
        struck = _strike(car, known.table, size, say, out)
        processes.end(processes.living())
    say("the same in simulation …")  # now that nobody waits for the processors
    for drive in driven:
        _judge(drive, size, report, out)
    report.rows += verdict.fault_rows(*struck)
    report.goals += verdict.fault_goals(*struck)
    return report


def _must_be_possible() -> None:
    if why := why_not():
        raise BenchError(f"no emulated network: {why}")
    try:
        need("world", "mujoco")
    except ConfigError as error:
        raise BenchError(str(error)) from None


def _draw(processes: Processes, size: Size) -> None:
    words = [str(processes.folder), *map(str, (size.film_s, size.hz, WIDTH, HEIGHT))]
    drawing = processes.start("film", FILM, *words, domain=claim_domain())
    if not drawing.wait(FILM_LIMIT_S) or drawing.status != 0:
        raise drawing.fault("did not draw the film")


@dataclass(frozen=True, slots=True)
class Known:
    """What the drive on a fast link told."""

    file: Path
    table: Table
    sizes: dict[str, np.ndarray]  # calibrate.film_bytes
    distance: RttModel


def _calibrated(car: LiveCar, size: Size, say: Callable[[str], None]) -> Known:
    """Drive on a fast link to see what everything takes."""
    folder = car.processes.folder
    first = _street(size.hz)
    sizes = calibrate.film_bytes(first, folder)
    car.fast()
    calibrate.write(first, folder / "first.yaml")
    car.drive_with(folder / "first.yaml")
    begin_ns = time.monotonic_ns()
    say(f"a fast link, to measure what the options need: {size.warm_s:.0f} s …")
    car.watch(begin_ns + round(size.warm_s * S))
    shots, heard, traced = car.written()
    warm = record.cut(first, begin_ns, time.monotonic_ns(), shots, heard, traced)
    path = folder / "measured.yaml"
    calibrate.write(calibrate.measured_table(first, sizes, calibrate.times(first, warm)), path)
    return Known(path, load_table(path), sizes, compare.distance_of(warm.links))


def _street(hz: float) -> Table:
    """The street's table at our rate."""
    table = load_table(table_file("street"))
    return replace(table, services=tuple(replace(service, rate_hz=hz) for service in table.services))


@dataclass(frozen=True, slots=True)
class Driven:
    """A drive on one link."""

    link: Link
    played: Played
    timeline: list[dict[str, Any]]
    looks: list[Look]


def _drive(car: LiveCar, link: Link, known: Known, size: Size, seed: int) -> Driven:
    """With an estimator that knows nothing but a fast link yet, as the simulation's."""
    path = car.processes.folder / f"{link.key}.up"
    course = link.write(path, size.lead_s + size.seconds + TAIL_S, seed)
    car.fast()
    car.drive_with(known.file)
    starts_ns = time.monotonic_ns()
    since_ns = starts_ns - round(link.offset_s * S)
    car.follow(path, since_ns)
    begin_ns = starts_ns + round(size.lead_s * S)
    end_ns = begin_ns + round(size.seconds * S)
    looks = car.watch(end_ns + round(TAIL_S * S))
    shots, heard, traced = car.written()
    live = record.cut(known.table, begin_ns, end_ns, shots, heard, traced)
    times, met_ns = calibrate.times(known.table, live), record.met_ns(heard)
    played = Played(
        known.table, known.sizes, shots, times, known.distance, path, link.offset_s, met_ns, starts_ns, live
    )
    timeline = record.timeline(live, lambda a, b: course.bits(a - since_ns, b - since_ns))
    return Driven(link, played, timeline, looks)


def _judge(drive: Driven, size: Size, report: Report, out: Path | None) -> None:
    """Lay it beside its simulation."""
    played, name = drive.played, drive.link.name
    simulated = [compare.simulate(played, seed) for seed in range(report.seed, report.seed + size.seeds)]
    report.rows += verdict.drive_rows(name, played.table, played.run, simulated, drive.timeline, drive.looks)
    report.goals += verdict.drive_goals(name, played.table, played.run, simulated)
    if out is not None:
        plot.draw(plot.Scene(name, played.table, played.run, drive.timeline), out.with_suffix(f".{drive.link.key}.png"))


def _strike(
    car: LiveCar, table: Table, size: Size, say: Callable[[str], None], out: Path | None
) -> tuple[Run, list[Fault], list[Look]]:
    """The link is gone and comes back; a gateway dies."""
    car.fast()
    begin_ns = time.monotonic_ns()
    looks = car.watch(begin_ns + round(SETTLE_S * S))
    say(f"the link is cut for {size.cut_s:.0f} s …")
    cut_ns = time.monotonic_ns()
    car.cut()
    looks += car.watch(cut_ns + round(size.cut_s * S))
    back_ns = time.monotonic_ns()
    car.fast()
    looks += car.watch(back_ns + round(size.after_s * S))
    name = car.gateway()  # where the link was slow to come back, it is waited for
    killed_ns = time.monotonic_ns()
    car.kill_gateway(name)
    say(f"{name} is killed …")
    looks += car.watch(killed_ns + round(size.after_s * S))
    end_ns = time.monotonic_ns()
    looks += car.watch(end_ns + round(TAIL_S * S))
    shots, heard, traced = car.written()
    live = record.cut(table, begin_ns, end_ns, shots, heard, traced)
    faults = [Fault("link cut", cut_ns, back_ns), Fault("link is back", back_ns, killed_ns)]
    faults.append(Fault(f"{name} killed", killed_ns, end_ns))
    if out is not None:
        marks = [((fault.begin_ns - begin_ns) / S, fault.what) for fault in faults]
        timeline = record.timeline(live, None)
        plot.draw(plot.Scene("faults on a fast link", table, live, timeline, marks), out.with_suffix(".faults.png"))
    return live, faults, looks
